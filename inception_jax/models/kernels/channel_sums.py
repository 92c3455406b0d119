"""Sums over images and pixels, which biases and batch normalisation need of a batch."""

import math

import jax
import jax.numpy as jnp

from inception_jax.models.kernels.platform import choose

_AXES = (0, 1, 2)  # all but the channels


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums [batch, height, width, channels] to float32 [channels]."""
    return choose(x, plain=plain, cpu=_images_first)


def plain(x: jax.Array) -> jax.Array:
    """Sums over all axes at once."""
    return jnp.sum(x, _AXES, dtype=jnp.float32)


def _images_first(x: jax.Array) -> jax.Array:
    """Sums over the images of each device, then over the rest (CPU).

    The first is a sum of long rows. XLA's sum over all axes at once is several times as slow on a
    CPU, and rounds more. The barrier keeps XLA from joining the two sums.
    """
    devices = math.gcd(jax.device_count(), len(x))
    x = x.reshape(devices, -1, *x.shape[1:])
    sums = jax.lax.optimization_barrier(jnp.sum(x, axis=1, dtype=jnp.float32))
    return plain(sums)
