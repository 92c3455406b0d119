"""The convolutions of an Inception network, each with what comes right after it.

A unit is a convolution, batch normalisation if asked for, and ReLU. The function it computes is
that of its parts in this order. It saves time by working on several units at once
(`fused_pointwise`), and by taking the max pool that follows it in the network before its own last
steps (`following_pool`).
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from inception_jax.models import window_geometry
from inception_jax.models.kernels.batch_normalization import batch_norm_relu, normalize_relu
from inception_jax.models.kernels.bias import add_bias
from inception_jax.models.kernels.relu import relu

BATCH_NORM_EPSILON = 1e-3  # TF-slim and torchvision GoogLeNet
BATCH_NORM_MOMENTUM = 0.9  # running statistics follow the last ~10 batches; short runs need that

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Pooling = Callable[[jax.Array], jax.Array]


def no_pool(x: jax.Array) -> jax.Array:
    """Returns `x`: no max pool follows."""
    return x


class BatchNormReLU(nnx.BatchNorm):
    """nnx.BatchNorm over [batch, height, width, channels], and ReLU.

    Where its attribute `use_running_average` is set, training normalises as inference does.
    """

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:  # type: ignore[override]
        """The output; in training the running statistics are updated in place."""
        return _norm_relu([self], x, train)


class ConvUnit(nnx.Conv):
    """Convolution, batch normalisation if asked for, ReLU ("All the convolutions ... use ReLU").

    `padding` is caffe, (kernel - 1) / 2 zeros on every side, 3 for conv1; or same, as TensorFlow
    pads, (2, 3) there. With batch normalisation, which has a bias of its own, the convolution has
    none, unless `batch_norm_bias` keeps it.
    """

    strides: tuple[int, int]
    padding: str  # of window_geometry.CONVOLUTION, not one of nnx.Conv

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
        self, x: jax.Array, *, train: bool, following_pool: Pooling = no_pool
    ) -> jax.Array:
        """The output of the unit, and of the max pool that follows it, if one is given."""
        kernel = self.kernel[...]
        rule, stride = window_geometry.CONVOLUTION[self.padding], self.strides[0]
        padding = [rule(size, len(kernel), stride) for size in x.shape[1:3]]
        x = _convolve(x, kernel, self.strides, padding, self.dtype)
        return _bias_norm_relu([self], x, train, following_pool)


def fused_pointwise(units: Sequence[ConvUnit], x: jax.Array, *, train: bool) -> list[jax.Array]:
    """The outputs of several 1x1 convolutions with stride 1 of one input, worked out as one.

    Each by itself would read the input again, forward and backward, and fill a product's width
    badly: the narrowest of Table 1 has 16 filters.
    """
    kernel = jnp.concatenate([unit.kernel[...] for unit in units], axis=-1)
    x = _convolve(x, kernel, (1, 1), "VALID", units[0].dtype)
    x = _bias_norm_relu(units, x, train, no_pool)
    return jnp.split(x, _ends([unit.out_features for unit in units]), axis=-1)


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
    units: Sequence[ConvUnit], x: jax.Array, train: bool, following_pool: Pooling
) -> jax.Array:
    """Finishes the convolutions' outputs `x`, which lie next to one another in its channels."""
    biases = [unit.bias[...] for unit in units if unit.bias is not None]
    norms = [unit.norm for unit in units if unit.norm is not None]
    # Bias and ReLU do not change which pixel of a window is the largest: pooling before them is the
    # same, and leaves them fewer pixels. The scale of a batch normalisation may be negative.
    x = x if norms else following_pool(x)
    if biases:
        x = add_bias(x, jnp.concatenate(biases).astype(x.dtype))
    if norms:
        return following_pool(_norm_relu(norms, x, train))
    return relu(x)


def _norm_relu(norms: Sequence[BatchNormReLU], x: jax.Array, train: bool) -> jax.Array:
    """Applies each of `norms` to its part of the channels of `x`, in one pass over memory."""
    ends = _ends([norm.num_features for norm in norms])
    if train and len({norm.use_running_average for norm in norms}) > 1:
        parts = zip(norms, jnp.split(x, ends, axis=-1), strict=True)
        return jnp.concatenate([_norm_relu([norm], part, train) for norm, part in parts], axis=-1)

    def all_of(name: str) -> jax.Array:
        return jnp.concatenate([getattr(norm, name)[...] for norm in norms])

    scale, bias, epsilon = all_of("scale"), all_of("bias"), norms[0].epsilon
    if not train or norms[0].use_running_average:
        return normalize_relu(x, all_of("mean"), all_of("var"), scale, bias, epsilon)
    y, *of_batch = batch_norm_relu(x, scale, bias, epsilon)
    for name, values in zip(("mean", "var"), of_batch, strict=True):
        for norm, part in zip(norms, jnp.split(values, ends), strict=True):
            statistic = getattr(norm, name)
            old = norm.momentum * statistic[...]
            statistic[...] = old + (1 - norm.momentum) * jax.lax.stop_gradient(part)
    return y


def _ends(channels: Sequence[int]) -> list[int]:
    """The indices at which jnp.split cuts channels into parts of these sizes."""
    return list(itertools.accumulate(channels))[:-1]
