"""Sums over images and pixels: what biases and batch normalisation need of whole batches."""

import math

import jax
import jax.numpy as jnp

_AXES = (0, 1, 2)  # all but the channels


def channel_sums(x: jax.Array) -> jax.Array:
    """[batch, height, width, channels] to float32 [channels]."""
    return jax.lax.platform_dependent(x, cpu=_images_first, default=_at_once)


def _at_once(x: jax.Array) -> jax.Array:
    return jnp.sum(x, _AXES, dtype=jnp.float32)


def _images_first(x: jax.Array) -> jax.Array:
    """Over the images of each device, then the rest.

    The first is a sum of long rows. XLA's way to all at once is several times as slow on a CPU, and
    rounds more; it would choose that for these two, too, but for the barrier.
    """
    devices = math.gcd(jax.device_count(), len(x))
    x = x.reshape(devices, -1, *x.shape[1:])
    sums = jax.lax.optimization_barrier(jnp.sum(x, axis=1, dtype=jnp.float32))
    return _at_once(sums)
