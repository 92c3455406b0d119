"""Sums over images and pixels, against float64."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models.kernels.bias import add_bias
from inception_jax.models.kernels.channel_sums import channel_sums


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (5, 7, 2, 3), (16, 28, 28, 8), (64, 9, 8, 5)])
def test_sums_equal_float64s(shape):
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    sums = jax.jit(channel_sums)(x)
    assert sums.dtype == jnp.float32
    np.testing.assert_allclose(sums, x.astype(np.float64).sum((0, 1, 2)), rtol=3e-7)


def test_sums_of_bfloat16_are_not_rounded_on_the_way():
    x = jnp.ones((64, 32, 32, 2), jnp.bfloat16)  # ones stop adding up at 256 there
    np.testing.assert_array_equal(jax.jit(channel_sums)(x), [65536, 65536])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_biass_gradient_is_the_sum(dtype):
    random = np.random.default_rng(1)
    x, gradient = random.standard_normal((2, 4, 5, 6, 3)).astype(jnp.dtype(dtype))
    bias = np.array([0.5, -1.0, 2.0], x.dtype)

    @jax.jit
    def add_and_back(x, bias, gradient):
        y, back = jax.vjp(add_bias, x, bias)
        return y, back(gradient)

    y, (to_x, to_bias) = add_and_back(x, bias, gradient)
    np.testing.assert_array_equal(y, x + bias)
    np.testing.assert_array_equal(to_x, gradient)
    expected = np.asarray(gradient, np.float64).sum((0, 1, 2))
    np.testing.assert_allclose(
        np.asarray(to_bias, np.float32), expected, rtol=float(jnp.finfo(dtype).eps), atol=1e-6
    )
    assert to_bias.dtype == bias.dtype


ON_TWO_DEVICES = """
import re
import jax, numpy as np
from inception_jax.runtime.devices import make_mesh, replicated, split_batch
from inception_jax.models.kernels.channel_sums import channel_sums

mesh = make_mesh()
x = np.arange(6 * 9 * 10 * 4, dtype=np.float32).reshape(6, 9, 10, 4)
sums = jax.jit(channel_sums, in_shardings=split_batch(mesh), out_shardings=replicated(mesh))
compiled = sums.lower(x).compile()
exchanged = r"= (\\w+\\[[\\d,]*\\])\\S* (all-\\S+?|collective-\\S+?)\\("
print(re.findall(exchanged, compiled.as_text()))
np.testing.assert_array_equal(compiled(jax.device_put(x, split_batch(mesh))), x.sum((0, 1, 2)))
"""


def test_devices_exchange_a_number_a_channel():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    result = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES], env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "[('f32[4]', 'all-reduce')]\n"), result.stderr
