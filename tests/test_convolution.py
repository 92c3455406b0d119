"""Convolution and max pool as they run on a CPU against XLA's own, in one chunk and in several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.models import chunks, convolution
from inception_jax.models.max_pooling import max_pool

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def compare(ours, xlas, *arguments):
    """Values, and gradients to all arguments for a gradient that is another at each output."""
    actual, pullback = jax.vjp(jax.jit(ours), *arguments)
    expected, native_pullback = jax.vjp(jax.jit(xlas), *arguments)
    weights = jnp.sin(jnp.arange(expected.size, dtype=expected.dtype).reshape(expected.shape))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(pullback(weights), native_pullback(weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("cached_bytes", [2**20, 3000])
@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        (1, (1, 1), [(0, 0), (0, 0)]),
        (1, (2, 2), [(0, 0), (0, 0)]),
        (3, (1, 1), [(1, 1), (1, 1)]),
        (3, (2, 2), [(1, 1), (1, 1)]),
        (5, (1, 1), [(2, 2), (2, 2)]),
        (7, (2, 2), [(3, 3), (3, 3)]),
        (7, (2, 2), "SAME"),
    ],
)
def test_convolution_is_xlas(monkeypatch, cached_bytes, kernel, strides, padding):
    monkeypatch.setattr(chunks, "CACHED_BYTES", cached_bytes)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((6, 9, 10, 5)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal((kernel, kernel, 5, 7)), jnp.float32)
    compare(
        lambda x, w: convolution.convolve(x, w, strides, padding),
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, strides, padding, dimension_numbers=DIMENSIONS
        ),
        images,
        weights,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [2, 3])
def test_max_pool_in_chunks_is_xlas(monkeypatch, window, stride):
    monkeypatch.setattr(chunks, "CACHED_BYTES", 1000)
    images = jnp.asarray(np.random.default_rng(1).integers(-2, 2, (6, 9, 10, 4)), jnp.float32)
    padding = ((window // 2, 1), (0, 1))
    compare(
        lambda x: max_pool(x, window, stride, padding),
        lambda x: jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1),
            [(0, 0), *padding, (0, 0)],
        ),
        images,
    )  # fmt: skip


def test_gradients_of_bfloat16_are_summed_in_float32():
    """4,096 equal numbers: a sum in bfloat16 stops at 256."""
    images, weights = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    gradient = jax.grad(
        lambda w: jnp.sum(convolution.convolve(images, w, (1, 1), "SAME"), dtype=jnp.float32)
    )(weights)
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient[0, 0, 0, 0]) == 4096
