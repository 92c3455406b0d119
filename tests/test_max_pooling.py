"""The CPU's max pool against XLA's own, in several chunks."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models.kernels import cache_chunks
from inception_jax.models.kernels.max_pooling import max_pool


def compare(ours, xlas, *arguments):
    """Compares values, and gradients to all arguments, each output weighted differently."""

    @jax.jit
    def compute(*arguments):
        values, pullback = jax.vjp(ours, *arguments)
        expected, native_pullback = jax.vjp(xlas, *arguments)
        weights = jnp.sin(jnp.arange(expected.size, dtype=expected.dtype).reshape(expected.shape))
        return values, expected, pullback(weights), native_pullback(weights)

    actual, expected, gradients, native_gradients = compute(*arguments)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, native_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [2, 3])
def test_max_pool_in_chunks_is_xlas(monkeypatch, window, stride):
    monkeypatch.setattr(cache_chunks, "CACHED_BYTES", 1000)
    images = np.random.default_rng(1).integers(-2, 2, (6, 9, 10, 4)).astype(np.float32)
    padding = ((window // 2, 1), (0, 1))
    compare(
        lambda x: max_pool(x, window, stride, padding),
        lambda x: jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1),
            [(0, 0), *padding, (0, 0)],
        ),
        images,
    )  # fmt: skip


ON_TWO_DEVICES = """
import re
import jax, jax.numpy as jnp, numpy as np
from inception_jax.runtime.devices import make_mesh, split_batch
from inception_jax.models.kernels import cache_chunks
from inception_jax.models.kernels.max_pooling import max_pool

cache_chunks.CACHED_BYTES = 1000  # less than an image
mesh = make_mesh()
images = np.random.default_rng(2).integers(-2, 2, (6, 9, 10, 4)).astype(np.float32)
gradient = jax.grad(lambda images: jnp.sum(jnp.sin(max_pool(images, 3, 2, ((0, 0), (0, 1))))))
lie = split_batch(mesh)
compiled = jax.jit(gradient, in_shardings=lie, out_shardings=lie).lower(images).compile()
print(mesh.size, re.findall(r"all-gather|all-reduce|all-to-all|permute", compiled.as_text()))
one = jax.jit(gradient)(jax.device_put(images, jax.devices()[1]))
np.testing.assert_array_equal(one, compiled(images))
"""


def test_a_chunk_does_not_move_between_devices():
    """Images of 224 pixels did, 23 times a step, until the devices waited for one another."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    result = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES], env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "2 []\n"), result.stderr
