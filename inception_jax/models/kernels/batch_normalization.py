"""Batch normalisation and the ReLU after it, with a gradient of their own.

Ioffe & Szegedy 2015 (arXiv 1502.03167). Differentiated operation by operation, more arrays of the
size of the images are written and read: the centred images and what goes into the ReLU are kept.
Here the gradient is worked out from the input and the output alone.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.kernels.channel_sums import channel_sums


class BatchNormReLU(nnx.BatchNorm):
    """nnx.BatchNorm over [batch, height, width, channels], and ReLU."""

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:  # type: ignore[override]
        return norm_relu_of_parts([self], x, train=train)


def norm_relu_of_parts(norms: Sequence[BatchNormReLU], x: jax.Array, *, train: bool) -> jax.Array:
    """Each of `norms` on its part of the channels of `x`, in one pass over memory."""

    def all_of(name: str) -> jax.Array:
        return jnp.concatenate([getattr(norm, name)[...] for norm in norms])

    scale, bias, epsilon = all_of("scale"), all_of("bias"), norms[0].epsilon
    if not train:
        return _rectified(x, all_of("mean"), all_of("var"), scale, bias, epsilon)
    y, *of_batch = batch_norm_relu(x, scale, bias, epsilon)
    ends = list(itertools.accumulate(norm.num_features for norm in norms))
    for name, values in zip(("mean", "var"), of_batch, strict=True):
        for norm, part in zip(norms, jnp.split(values, ends[:-1]), strict=True):
            statistic = getattr(norm, name)
            old = norm.momentum * statistic[...]
            statistic[...] = old + (1 - norm.momentum) * jax.lax.stop_gradient(part)
    return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm_relu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises with the statistics of the batch, in float32.

    Args:
      x: [batch, height, width, channels].
      scale, bias: float32 [channels].
      epsilon: added to the variance.

    Returns:
      The result in the dtype of `x`, and float32 mean and variance [channels], which have no
      gradient.
    """
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    wide = x.astype(jnp.float32)
    count = x.size // x.shape[-1]
    mean = channel_sums(wide) / count
    variance = jnp.maximum(0, channel_sums(jnp.square(wide)) / count - jnp.square(mean))
    y = _rectified(x, mean, variance, scale, bias, epsilon)
    return (y, mean, variance), (x, y, mean, variance, scale)


def _backward(epsilon: float, kept: Any, gradients: Any) -> tuple[jax.Array, ...]:
    x, y, mean, variance, scale = kept
    count = x.size // x.shape[-1]
    gradient = jnp.where(y > 0, gradients[0], 0).astype(jnp.float32)
    deviation = jax.lax.rsqrt(variance + epsilon)
    normalized = (x.astype(jnp.float32) - _wide(mean)) * _wide(deviation)
    to_bias = channel_sums(gradient)
    to_scale = channel_sums(gradient * normalized)
    to_x = _wide(scale * deviation) * (
        gradient - _wide(to_bias / count) - normalized * _wide(to_scale / count)
    )
    return to_x.astype(x.dtype), to_scale, to_bias


batch_norm_relu.defvjp(_forward, _backward)


def _rectified(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    y = (x.astype(jnp.float32) - _wide(mean)) * _wide(factor) + _wide(bias)
    return jax.nn.relu(y).astype(x.dtype)


def _wide(values: jax.Array) -> jax.Array:
    return values.reshape(1, 1, 1, -1)
