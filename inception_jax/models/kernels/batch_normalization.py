"""Batch normalisation and the ReLU after it (Ioffe & Szegedy 2015, arXiv 1502.03167).

With a gradient written by hand. JAX's own keeps more arrays of the size of the images: the centred
images, and the input of the ReLU. The one here needs the input and the output alone.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.models.kernels.channel_sums import channel_sums
from inception_jax.models.kernels.platform import choose

Normalized = tuple[jax.Array, jax.Array, jax.Array]


def batch_norm_relu(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Normalized:
    """Normalises with the statistics of the batch, in float32.

    Args:
      x: [batch, height, width, channels].
      scale, bias: float32 [channels].
      epsilon: added to the variance.

    Returns:
      The result in the dtype of `x`, and float32 mean and variance [channels], which have no
      gradient.
    """
    return choose(x, scale, bias, plain=plain, default=_batch_norm_relu, static=(epsilon,))


def plain(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Normalized:
    """Batch normalisation and ReLU, written out."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, (0, 1, 2))
    variance = jnp.maximum(0, jnp.mean(jnp.square(wide), (0, 1, 2)) - jnp.square(mean))
    y = normalize_relu(x, mean, variance, scale, bias, epsilon)
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance)


def normalize_relu(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    """Normalises with statistics that are given, in float32, as at inference.

    Args:
      x: [batch, height, width, channels].
      mean, variance, scale, bias: float32 [channels].
      epsilon: added to the variance.

    Returns:
      The result in the dtype of `x`.
    """
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    y = (x.astype(jnp.float32) - _wide(mean)) * _wide(factor) + _wide(bias)
    return jax.nn.relu(y).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _batch_norm_relu(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Normalized:
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> Any:
    wide = x.astype(jnp.float32)
    count = x.size // x.shape[-1]
    mean = channel_sums(wide) / count
    variance = jnp.maximum(0, channel_sums(jnp.square(wide)) / count - jnp.square(mean))
    y = normalize_relu(x, mean, variance, scale, bias, epsilon)
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


_batch_norm_relu.defvjp(_forward, _backward)


def _wide(values: jax.Array) -> jax.Array:
    """Reshapes [channels] to fit images."""
    return values.reshape(1, 1, 1, -1)
