"""The layers that every Inception network is made of.

All layers take `(x, *, train)` with `x` of shape [batch, height, width, channels], so that a
network is a table of rows. Geometry and constants are those of Caffe's bvlc_googlenet where the
paper leaves them open (see the README's table of departures).
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from inception_jax.models import geometry
from inception_jax.models.kernels import batch_normalization
from inception_jax.models.kernels.batch_normalization import BatchNormReLU
from inception_jax.models.kernels.channel_sums import channel_sums
from inception_jax.models.kernels.max_pooling import max_pool
from inception_jax.models.kernels.response_norm import local_response_norm

BATCH_NORM_EPSILON = 1e-3  # TF-slim and torchvision GoogLeNet
BATCH_NORM_MOMENTUM = 0.9  # running statistics follow the last ~10 batches; short runs need that

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Pooling = Callable[[jax.Array], jax.Array]


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), whose gradient is worked out from the result, so that `x` need not be kept."""
    return jnp.maximum(x, 0)


# Not y > 0: XLA turns it into x > 0, and keeps both.
relu.defjvps(lambda tangent, y, x: jnp.where(y != 0, tangent, 0))


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a number to each channel of [batch, height, width, channels]."""
    return x + bias.reshape(1, 1, 1, -1)


add_bias.defvjp(
    lambda x, bias: (add_bias(x, bias), None),
    lambda _, gradient: (gradient, channel_sums(gradient).astype(gradient.dtype)),
)


def unpooled(x: jax.Array) -> jax.Array:
    """No pool at all."""
    return x


class ConvUnit(nnx.Conv):
    """Convolution, batch normalisation if asked for, ReLU ("All the convolutions ... use ReLU").

    `padding` is caffe, (kernel - 1) / 2 zeros on every side, 3 for conv1; or same, as TensorFlow
    pads, (2, 3) there. With batch normalisation, which has a bias of its own, the convolution has
    none, unless `batch_norm_bias` keeps it.
    """

    strides: tuple[int, int]
    padding: str  # of geometry.CONVOLUTION, not one of nnx.Conv

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
            padding=padding,
            use_bias=not batch_norm or batch_norm_bias,
            # Values come from `initialization`; tracing others would be most of building a network.
            kernel_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = (
            BatchNormReLU(
                out_channels,
                momentum=BATCH_NORM_MOMENTUM,
                epsilon=BATCH_NORM_EPSILON,
                dtype=dtype,
                rngs=rngs,
            )
            if batch_norm
            else None
        )

    def __call__(  # type: ignore[override]
        self, x: jax.Array, *, train: bool, pool: Pooling = unpooled
    ) -> jax.Array:
        """The output, pooled: `pool` takes the maximum of windows."""
        kernel = self.kernel[...]
        rule, stride = geometry.CONVOLUTION[self.padding], self.strides[0]
        padding = [rule(size, len(kernel), stride) for size in x.shape[1:3]]
        x = _convolve(x, kernel, self.strides, padding, self.dtype)
        return _bias_norm_relu([self], x, train, pool)


def fused_pointwise(units: Sequence[ConvUnit], x: jax.Array, *, train: bool) -> list[jax.Array]:
    """The outputs of several 1x1 convolutions with stride 1 of one input, worked out as one.

    Each by itself would read the input again, forward and backward, and fill a product's width
    badly: the narrowest of Table 1 has 16 filters.
    """
    kernel = jnp.concatenate([unit.kernel[...] for unit in units], axis=-1)
    x = _convolve(x, kernel, (1, 1), "VALID", units[0].dtype)
    x = _bias_norm_relu(units, x, train, unpooled)
    ends = list(itertools.accumulate(unit.out_features for unit in units))
    return jnp.split(x, ends[:-1], axis=-1)


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
    dtype: DTypeLike | None,
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x.astype(dtype), kernel.astype(dtype), strides, padding, dimension_numbers=_DIMENSIONS
    )


def _bias_norm_relu(
    units: Sequence[ConvUnit], x: jax.Array, train: bool, pool: Pooling
) -> jax.Array:
    """What comes after the convolutions, of outputs that lie next to one another."""
    biases = [unit.bias[...] for unit in units if unit.bias is not None]
    norms = [unit.norm for unit in units if unit.norm is not None]
    # Neither a bias nor ReLU changes which is the largest of a window: rather of fewer pixels.
    x = x if norms else pool(x)
    if biases:
        x = add_bias(x, jnp.concatenate(biases).astype(x.dtype))
    if norms:
        return pool(batch_normalization.norm_relu_of_parts(norms, x, train=train))
    return relu(x)


class LocalResponseNorm(nnx.Module):
    """Krizhevsky's normalisation across channels: see `response_norm`."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return local_response_norm(x)


class MaxPool(nnx.Module):
    """Max over square windows, `padding` = caffe ("ceil": the last column is covered) or same."""

    def __init__(self, window: int, stride: int, padding: str):
        self.window, self.stride, self.rule = window, stride, geometry.POOL["max"][padding]

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        height, width = (self.rule(size, self.window, self.stride) for size in x.shape[1:3])
        return max_pool(x, self.window, self.stride, (height, width))


class AveragePool(nnx.Module):
    """Average over windows that lie inside the input (`padding` = valid), or reach half over it.

    With `padding` = zeros, what lies outside counts as zeros, as in Caffe's BN-Inception.
    """

    def __init__(self, window: int, stride: int, padding: str = "valid"):
        self.window, self.stride, self.rule = window, stride, geometry.POOL["average"][padding]

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jax.lax.platform_dependent(x, cpu=self._products, default=self._windows)

    def _windows(self, x: jax.Array) -> jax.Array:
        window, strides = (self.window, self.window), (self.stride, self.stride)
        padding = [self.rule(size, self.window, self.stride) for size in x.shape[1:3]]
        return nnx.avg_pool(x, window, strides, padding)

    def _products(self, x: jax.Array) -> jax.Array:
        """The same as matrix products: XLA's gradient of windows is ten times as slow on a CPU."""
        rows, columns = (self._inside(size).astype(x.dtype) for size in x.shape[1:3])
        sums = jnp.einsum("ph,qw,bhwc->bpqc", rows, columns, x, preferred_element_type=jnp.float32)
        return (sums / self.window**2).astype(x.dtype)

    def _inside(self, size: int) -> jax.Array:
        """Which pixels lie in each window: [windows, size]."""
        windows = geometry.windows(size, self.window, self.stride, self.rule)
        before, _ = self.rule(size, self.window, self.stride)
        first = jnp.arange(windows)[:, None] * self.stride - before
        pixel = jnp.arange(size)[None, :]
        return (first <= pixel) & (pixel < first + self.window)


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
