"""Local response normalisation, with a gradient written by hand and a form for TPUs.

JAX's own gradient keeps several float32 arrays of the size of the images. The one here needs the
input and the sums of squares alone.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.models.kernels.platform import choose

SIZE = 5  # channels; bvlc_googlenet/train_val.prototxt, the paper gives no constants
ALPHA = 1e-4  # divided by the size, as Caffe does
K = 1.0
BETA = 0.75  # what _root and its uses are written for


def local_response_norm(x: jax.Array) -> jax.Array:
    """x / (k + alpha / size * sum of squares)^0.75, over SIZE channels around each.

    Args:
      x: [batch, height, width, channels].

    Returns:
      The result in the dtype of `x`.
    """
    return choose(x, plain=plain, default=_local_response_norm)


def plain(x: jax.Array) -> jax.Array:
    """Local response normalisation, written out."""
    sums = _by_shifts(jnp.square(x.astype(jnp.float32)), x.dtype)
    return (x / (K + ALPHA / SIZE * sums) ** BETA).astype(x.dtype)


def _by_shifts(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Sums over SIZE channels around each, whatever `dtype` is."""
    channels, half = x.shape[-1], SIZE // 2
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)])
    shifted = [jax.lax.slice_in_dim(x, i, i + channels, axis=-1) for i in range(SIZE)]
    return functools.reduce(jnp.add, shifted)


def _by_band(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Sums by a product with a band matrix: a TPU moves channels slowly, and multiplies fast."""
    channel = jnp.arange(x.shape[-1])
    band = jnp.abs(channel[:, None] - channel[None, :]) <= SIZE // 2
    return jax.lax.dot_general(
        x.astype(dtype),
        band.astype(dtype),
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def _sum_of_neighbours(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Sums float32 values over SIZE channels around each; a product takes them in `dtype`."""
    return choose(x, plain=_by_shifts, tpu=_by_band, static=(dtype,))


@jax.custom_vjp
def _local_response_norm(x: jax.Array) -> jax.Array:
    return _normalize(x)[0]


def _normalize(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The result in the dtype of `x`, and the float32 sums of squares."""
    sums = _sum_of_neighbours(jnp.square(x.astype(jnp.float32)), x.dtype)
    root = _root(sums)
    return (x * (root * jnp.sqrt(root))).astype(x.dtype), sums


def _forward(x: jax.Array) -> Any:
    y, sums = _normalize(x)
    # A barrier, since XLA would work the result out again, from float32 sums, wherever it is used.
    # The rounding of sums changes the gradient less than its own does.
    return jax.lax.optimization_barrier(y), (x, sums.astype(x.dtype))


def _backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    x, sums = kept
    root = _root(sums.astype(jnp.float32))
    scale = root * jnp.sqrt(root)
    shared = gradient * x * scale * jnp.square(root)
    through_sums = 2 * BETA * ALPHA / SIZE * x * _sum_of_neighbours(shared, x.dtype)
    return ((gradient * scale - through_sums).astype(x.dtype),)


_local_response_norm.defvjp(_forward, _backward)


def _root(sums: jax.Array) -> jax.Array:
    """base^-0.5 in float32: base^-0.75 is this times its root; a power is many times slower."""
    return jax.lax.rsqrt(K + ALPHA / SIZE * sums)
