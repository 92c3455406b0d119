"""The layers that every Inception network is made of.

All layers take `(x, *, train)` with `x` of shape [batch, height, width, channels], so that a
network is a table of rows. Geometry and constants are those of Caffe's bvlc_googlenet where the
paper leaves them open (see the README's table of departures).
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.convolution import convolve
from inception_jax.models.max_pooling import max_pool

LRN_SIZE = 5  # channels; bvlc_googlenet/train_val.prototxt, the paper gives no constants
LRN_ALPHA = 1e-4  # divided by the size, as Caffe does
LRN_K = 1.0

BATCH_NORM_EPSILON = 1e-3  # TF-slim and torchvision GoogLeNet
BATCH_NORM_MOMENTUM = 0.9  # running statistics follow the last ~10 batches; short runs need that


class ConvUnit(nnx.Conv):
    """Convolution, batch normalisation if asked for, ReLU ("All the convolutions ... use ReLU").

    Zero padding of (kernel - 1) / 2 on every side, Caffe's 3 for conv1, or with `padding` = same as
    TensorFlow pads, (2, 3) there. With batch normalisation, which has a bias of its own, the
    convolution has none, unless `batch_norm_bias` keeps it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: str,
        batch_norm: bool,
        batch_norm_bias: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=(kernel, kernel),
            strides=(stride, stride),
            padding="SAME" if padding == "same" else [((kernel - 1) // 2, (kernel - 1) // 2)] * 2,
            use_bias=not batch_norm or batch_norm_bias,
            conv_general_dilated=convolve,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = (
            nnx.BatchNorm(
                out_channels,
                momentum=BATCH_NORM_MOMENTUM,
                epsilon=BATCH_NORM_EPSILON,
                dtype=dtype,
                rngs=rngs,
            )
            if batch_norm
            else None
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:  # type: ignore[override]
        x = super().__call__(x)
        if self.norm is not None:
            x = self.norm(x, use_running_average=not train)
        return jax.nn.relu(x)


class LocalResponseNorm(nnx.Module):
    """Krizhevsky's normalisation across channels: x / (k + alpha / size * sum of squares)^0.75."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels, half = x.shape[-1], LRN_SIZE // 2
        squares = jnp.pad(jnp.square(x.astype(jnp.float32)), [(0, 0)] * 3 + [(half, half)])
        total = sum(
            jax.lax.slice_in_dim(squares, shift, shift + channels, axis=-1)
            for shift in range(LRN_SIZE)
        )
        root = jax.lax.rsqrt(LRN_K + LRN_ALPHA / LRN_SIZE * total)
        # base^-0.75 as base^-0.5 * sqrt(base^-0.5): a general power is many times slower.
        return (x * (root * jnp.sqrt(root))).astype(x.dtype)


class MaxPool(nnx.Module):
    """Max over square windows, `padding` = caffe ("ceil": the last column is covered) or same."""

    def __init__(self, window: int, stride: int, padding: str):
        self.window, self.stride, self.padding = window, stride, padding

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        height, width = (self._padding(size) for size in x.shape[1:3])
        return max_pool(x, self.window, self.stride, (height, width))

    def _padding(self, size: int) -> tuple[int, int]:
        """Before and after `size` pixels."""
        if self.padding == "same":
            steps = math.ceil(size / self.stride)
            total = max(0, (steps - 1) * self.stride + self.window - size)
            return total // 2, total - total // 2
        return 0, max(self.window - size, (size - self.window) % self.stride)


class AveragePool(nnx.Module):
    """Average over windows that lie inside the input (`padding` = valid), or reach half over it.

    With `padding` = zeros, what lies outside counts as zeros, as in Caffe's BN-Inception.
    """

    def __init__(self, window: int, stride: int, padding: str = "valid"):
        self.window, self.stride, self.padding = window, stride, padding

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        window, strides = (self.window, self.window), (self.stride, self.stride)
        half = self.window // 2 if self.padding == "zeros" else 0
        return nnx.avg_pool(x, window, strides, [(half, half)] * 2)


class AdaptiveAveragePool(nnx.Module):
    """Averages over parts of about equal size that overlap where they must (torch's definition).

    Part i of n along an axis of `size` goes from floor(i size / n) to ceil((i + 1) size / n).
    """

    def __init__(self, parts: int):
        self.parts = parts

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        rows, columns = (self._weights(size) for size in x.shape[1:3])
        rows, columns = rows.astype(x.dtype), columns.astype(x.dtype)
        return jnp.einsum("ph,qw,bhwc->bpqc", rows, columns, x)

    def _weights(self, size: int) -> jax.Array:
        """What each pixel counts in each part: float32 [parts, size]."""
        part, pixel = jnp.arange(self.parts)[:, None], jnp.arange(size)[None, :]
        inside = (pixel >= part * size // self.parts) & (
            pixel < -(-(part + 1) * size // self.parts)
        )
        return inside / jnp.sum(inside, axis=1, keepdims=True)


class GlobalAveragePool(nnx.Module):
    """Mean over height and width, kept as 1x1: the paper's 7x7/1 average pool at any image size."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jnp.mean(x, axis=(1, 2), keepdims=True)
