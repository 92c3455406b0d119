"""Average pooling, with a form for CPUs, where XLA's gradient of windows is ten times as slow."""

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.kernels.platform import choose
from inception_jax.models.window_geometry import Padding, Paddings


def average_pool(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """Averages over square windows; what lies outside counts as zeros.

    Args:
      images: [batch, height, width, channels].
      window: pixels.
      stride: pixels.
      padding: pixels before and after, of height and width.
    """
    return choose(images, plain=plain, cpu=_by_products, static=(window, stride, padding))


def plain(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """Average pooling as Flax has it."""
    return nnx.avg_pool(images, (window, window), (stride, stride), padding)


def _by_products(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """Averages by two matrix products, over rows and over columns (CPU)."""
    rows, columns = (
        _inside(size, window, stride, around).astype(images.dtype)
        for size, around in zip(images.shape[1:3], padding, strict=True)
    )
    sums = jnp.einsum("ph,qw,bhwc->bpqc", rows, columns, images, preferred_element_type=jnp.float32)
    return (sums / window**2).astype(images.dtype)


def _inside(size: int, window: int, stride: int, padding: Padding) -> jax.Array:
    """True where a pixel lies in a window: bool [windows, size]."""
    windows = (size + sum(padding) - window) // stride + 1
    first = jnp.arange(windows)[:, None] * stride - padding[0]
    pixel = jnp.arange(size)[None, :]
    return (first <= pixel) & (pixel < first + window)
