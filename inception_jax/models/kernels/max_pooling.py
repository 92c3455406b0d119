"""Max pooling, with a form for CPUs, where XLA's gradient takes half of a training step.

On other platforms both directions are XLA's. The gradient goes to the first maximum of a window in
row-major order, as in XLA and torch.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.kernels.cache_chunks import map_chunks, map_chunks_in_place
from inception_jax.models.kernels.platform import choose
from inception_jax.models.window_geometry import Paddings

_NOWHERE = 255  # the place of a maximum of no window


def max_pool(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """Max over square windows.

    Args:
      images: [batch, height, width, channels].
      window: pixels, at most 15.
      stride: pixels.
      padding: pixels before and after, of height and width; they never are the maximum.
    """
    return choose(images, plain=plain, default=_max_pool, static=(window, stride, padding))


def plain(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """Max pooling as Flax has it."""
    return nnx.max_pool(images, (window, window), (stride, stride), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    return choose(images, plain=plain, cpu=_maxima, static=(window, stride, padding))


def _forward(images: jax.Array, window: int, stride: int, padding: Paddings) -> Any:
    """Pools in chunks: XLA would compute the pool once for each layer that uses its output."""

    def on_cpu(images: jax.Array, *geometry: Any) -> jax.Array:
        return map_chunks(lambda some: _maxima(some, *geometry), images)

    return choose(images, plain=plain, cpu=on_cpu, static=(window, stride, padding)), images


def _backward(
    window: int, stride: int, padding: Paddings, images: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    def by_xla(images: jax.Array, gradient: jax.Array, *geometry: Any) -> jax.Array:
        _, pullback = jax.vjp(lambda images: plain(images, *geometry), images)
        return pullback(gradient)[0]

    def on_cpu(images: jax.Array, gradient: jax.Array, *geometry: Any) -> jax.Array:
        def some(images: jax.Array, gradient: jax.Array) -> jax.Array:
            # Found again: cheaper than to keep it.
            places = _argmax(images, *geometry)
            return _gradient_to_argmax(places, gradient, images.shape[1:3], *geometry)

        return map_chunks_in_place(some, images, gradient)

    return (choose(images, gradient, plain=by_xla, cpu=on_cpu, static=(window, stride, padding)),)


_max_pool.defvjp(_forward, _backward)


# The functions below are traced twice for each pool of a network: `jax.lax` takes a quarter of the
# time that `jax.numpy` takes.


def _maxima(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """The maximum of each window."""
    return functools.reduce(jax.lax.max, _window_taps(images, window, stride, padding))


def _argmax(images: jax.Array, window: int, stride: int, padding: Paddings) -> jax.Array:
    """The place of the first maximum within each window, counted row by row, uint8."""
    maximum, *others = _window_taps(images, window, stride, padding)
    places = jax.lax.full_like(maximum, 0, jnp.uint8)
    for place, other in enumerate(others, 1):
        larger = jax.lax.gt(other, maximum) | jax.lax.ne(other, other)  # a NaN is the maximum
        maximum = jax.lax.select(larger, other, maximum)
        places = jax.lax.select(larger, jax.lax.full_like(places, place), places)
    return places


def _window_taps(images: jax.Array, window: int, stride: int, padding: Paddings) -> list[jax.Array]:
    """Slices the images with the stride, once for each place in the window, row by row."""
    around = [(0, 0, 0), *((before, after, 0) for before, after in padding), (0, 0, 0)]
    images = jax.lax.pad(images, jnp.array(-jnp.inf, images.dtype), around)
    height, width = ((size - window) // stride * stride + 1 for size in images.shape[1:3])
    return [
        jax.lax.slice(
            images,
            (0, row, column, 0),
            (images.shape[0], row + height, column + width, images.shape[3]),
            (1, stride, stride, 1),
        )
        for row in range(window)
        for column in range(window)
    ]


def _gradient_to_argmax(
    places: jax.Array,
    gradient: jax.Array,
    size: tuple[int, ...],
    window: int,
    stride: int,
    padding: Paddings,
) -> jax.Array:
    """Gives each window's gradient to the pixel that was its maximum: [batch, *size, channels].

    Each pixel collects from all windows that it lies in, so that nothing is scattered.
    """
    spread = [(0, 0, 0)]  # windows moved apart by the stride, with room for those that reach over
    for pixels, count, (before, _) in zip(size, gradient.shape[1:3], padding, strict=True):
        first, moved = window - 1 - before, (count - 1) * stride + 1
        spread.append((first, pixels + window - 1 - first - moved, stride - 1))
    spread.append((0, 0, 0))
    gradient = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), spread)
    places = jax.lax.pad(places, jnp.uint8(_NOWHERE), spread)
    # XLA would work the padding out again for each slice, one pixel at a time.
    gradient, places = jax.lax.optimization_barrier((gradient, places))
    total = jax.lax.full((gradient.shape[0], *size, gradient.shape[3]), 0, gradient.dtype)
    for place in range(window * window):
        row, column = (window - 1 - offset for offset in divmod(place, window))
        starts = (0, row, column, 0)
        limits = (gradient.shape[0], row + size[0], column + size[1], gradient.shape[3])
        here = jax.lax.slice(places, starts, limits)
        here = jax.lax.eq(here, jax.lax.full_like(here, place))
        arriving = jax.lax.slice(gradient, starts, limits)
        total = total + jax.lax.select(here, arriving, jax.lax.full_like(arriving, 0))
    return total
