"""Convolution with forms of its own on a CPU, where XLA's are slow: the same sums, other loops.

XLA's gradient to a kernel is a convolution whose window is the whole image: on a CPU it runs at a
tenth of a matrix product's speed. As one matrix product for each pixel of the kernel, over a few
images at a time so that they stay in the cache, it is 3 to 12 times as fast
(`tests/benchmarks/NOTES.md`). A 1x1 convolution is a matrix product altogether.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Of images or gradients in one go: about what a core keeps in its own cache.
CACHED_BYTES = 2**20

DIMENSIONS = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **of_flax: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as Flax calls it, for layers without dilation and groups.

    Args:
      images: [batch, height, width, channels].
      kernel: [height, width, channels, filters].
      window_strides: in pixels.
      padding: SAME, or pixels before and after, of each axis.
      **of_flax: what is left at its defaults.
    """
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolve(images, kernel, strides, tuple((int(a), int(b)) for a, b in padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> jax.Array:
    native = functools.partial(_native, strides=strides, pads=pads)
    if kernel.shape[:2] != (1, 1) or strides != (1, 1):
        return native(images, kernel)
    return jax.lax.platform_dependent(images, kernel, cpu=_product, default=native)


def _forward(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> Any:
    return _convolve(images, kernel, strides, pads), (images, kernel)


def _backward(strides: Strides, pads: Padding, kept: Any, gradient: jax.Array) -> Any:
    native = functools.partial(_native, strides=strides, pads=pads)

    def by_xla(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(native, images, kernel)[1](gradient)

    def on_cpu(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        point = kernel.shape[:2] == (1, 1) and strides == (1, 1)
        to_images = _product if point else native
        (back,) = jax.vjp(lambda images: to_images(images, kernel), images)[1](gradient)
        return back, _to_kernel(images, gradient, kernel, strides, pads)

    return jax.lax.platform_dependent(*kept, gradient, cpu=on_cpu, default=by_xla)


_convolve.defvjp(_forward, _backward)


def _native(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, pads, dimension_numbers=DIMENSIONS)


def _product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.dot(images, kernel[0, 0])


def _to_kernel(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding
) -> jax.Array:
    """The gradient to the kernel: for each of its pixels, images under it times `gradient`."""
    size = gradient.shape[1], gradient.shape[2]
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))

    chunks, folded = _fold(images, gradient)

    def add(number: int, total: jax.Array) -> jax.Array:
        images, gradient = _chunk(folded, number)
        products = [
            jax.lax.dot_general(
                _under(images, row, column, size, strides).reshape(-1, images.shape[3]),
                gradient.reshape(-1, gradient.shape[3]),
                (((0,), (0,)), ((), ())),
                preferred_element_type=jnp.float32,
            )
            for row in range(kernel.shape[0])
            for column in range(kernel.shape[1])
        ]
        return total + jnp.stack(products).reshape(total.shape)

    total = jax.lax.fori_loop(0, chunks, add, jnp.zeros(kernel.shape, jnp.float32))
    return total.astype(kernel.dtype)


def _under(
    images: jax.Array, row: int, column: int, size: tuple[int, int], strides: Strides
) -> jax.Array:
    """The pixels of padded images that one pixel of the kernel meets: [images, *size, channels]."""
    starts = (0, row, column, 0)
    last = [
        start + (count - 1) * stride + 1
        for start, count, stride in zip((row, column), size, strides, strict=True)
    ]
    limits = (images.shape[0], *last, images.shape[3])
    return jax.lax.slice(images, starts, limits, (1, *strides, 1))


def in_chunks(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """`function` of a few examples at a time; the same as of the whole batch."""
    chunks, folded = _fold(*batches)
    shape = jax.eval_shape(function, *batches)
    example = shape.shape[1:]

    def fill(number: int, results: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(
            results, function(*_chunk(folded, number)), number, axis=1
        )

    results = jnp.zeros((shape.shape[0] // chunks, chunks, *example), shape.dtype)
    return jax.lax.fori_loop(0, chunks, fill, results).reshape(-1, *example)


def _fold(*batches: jax.Array) -> tuple[int, tuple[jax.Array, ...]]:
    """The number of chunks that the cache takes, and arrays [examples of a chunk, chunks, ...].

    A chunk has every n-th example: where a batch lies on several devices, so does each chunk.
    """
    batch = batches[0].shape[0]
    example = max(array.nbytes for array in batches) // batch
    size = max(
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and (size == 1 or size * example <= CACHED_BYTES)
    )
    chunks = batch // size
    return chunks, tuple(array.reshape(size, chunks, *array.shape[1:]) for array in batches)


def _chunk(folded: Sequence[jax.Array], number: int) -> list[jax.Array]:
    return [jax.lax.dynamic_index_in_dim(array, number, axis=1, keepdims=False) for array in folded]
