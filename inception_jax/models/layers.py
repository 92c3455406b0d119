"""The layers of an Inception network besides its convolutions.

All layers take `(x, *, train)` with `x` of shape [batch, height, width, channels], so that a
network is a table of rows. Geometry and constants are those of Caffe's bvlc_googlenet where the
paper leaves them open (see the README's table of departures).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models import window_geometry
from inception_jax.models.kernels.average_pooling import average_pool
from inception_jax.models.kernels.max_pooling import max_pool
from inception_jax.models.kernels.response_norm import local_response_norm


class LocalResponseNorm(nnx.Module):
    """Krizhevsky's normalisation across channels: see `kernels.response_norm`."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The normalised images, in the dtype of `x`."""
        return local_response_norm(x)


class MaxPool(nnx.Module):
    """Max over square windows, `padding` = caffe ("ceil": the last column is covered) or same."""

    def __init__(self, window: int, stride: int, padding: str):
        self.window, self.stride, self.rule = window, stride, window_geometry.POOL["max"][padding]

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The maximum of each window."""
        height, width = (self.rule(size, self.window, self.stride) for size in x.shape[1:3])
        return max_pool(x, self.window, self.stride, (height, width))


class AveragePool(nnx.Module):
    """Average over windows that lie inside the input (`padding` = valid), or reach half over it.

    With `padding` = zeros, what lies outside counts as zeros, as in Caffe's BN-Inception.
    """

    def __init__(self, window: int, stride: int, padding: str = "valid"):
        self.window, self.stride = window, stride
        self.rule = window_geometry.POOL["average"][padding]

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The average of each window."""
        height, width = (self.rule(size, self.window, self.stride) for size in x.shape[1:3])
        return average_pool(x, self.window, self.stride, (height, width))


class AdaptiveAveragePool(nnx.Module):
    """Averages over parts of about equal size that overlap where they must (torch's definition).

    Part i of n along an axis of `size` goes from floor(i size / n) to ceil((i + 1) size / n).
    """

    def __init__(self, parts: int):
        self.parts = parts

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The average of each part: [batch, parts, parts, channels]."""
        rows, columns = (self._weights(size) for size in x.shape[1:3])
        rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
        return jnp.einsum("ph,qw,bhwc->bpqc", rows, columns, x)

    def _weights(self, size: int) -> jax.Array:
        """The weight of each pixel in each part: float32 [parts, size]."""
        part, pixel = jnp.arange(self.parts)[:, None], jnp.arange(size)[None, :]
        inside = (pixel >= part * size // self.parts) & (
            pixel < -(-(part + 1) * size // self.parts)
        )
        return inside / jnp.sum(inside, axis=1, keepdims=True)


class GlobalAveragePool(nnx.Module):
    """Mean over height and width, kept as 1x1: the paper's 7x7/1 average pool at any image size."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The means: [batch, 1, 1, channels]."""
        return jnp.mean(x, axis=(1, 2), keepdims=True)
