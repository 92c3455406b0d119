"""Convolution with forms of its own on a CPU, where XLA's are slow: the same sums, other loops.

XLA's gradient to a kernel is a convolution whose window is the whole image: on a CPU it runs at a
tenth of a matrix product's speed. As one matrix product for each pixel of the kernel, over a few
images at a time so that they stay in the cache, it is 3 to 12 times as fast
(`tests/benchmarks/NOTES.md`). A 1x1 convolution is a matrix product altogether.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.models.chunks import sum_chunks

DIMENSIONS = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, for layers without dilation and groups.

    Args:
      images: [batch, height, width, channels].
      kernel: [height, width, channels, filters].
      window_strides: in pixels.
      padding: SAME, or pixels before and after, of each axis.
    """
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    return _convolve(images, kernel, strides, tuple((int(a), int(b)) for a, b in padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> jax.Array:
    native = functools.partial(_native, strides=strides, pads=pads)
    if not _is_product(kernel, strides, pads):
        return native(images, kernel)
    return jax.lax.platform_dependent(images, kernel, cpu=_product, default=native)


def _forward(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> Any:
    return _convolve(images, kernel, strides, pads), (images, kernel)


def _backward(strides: Strides, pads: Padding, kept: Any, gradient: jax.Array) -> Any:
    native = functools.partial(_native, strides=strides, pads=pads)

    def by_xla(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(native, images, kernel)[1](gradient)

    def on_cpu(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        forward = _product if _is_product(kernel, strides, pads) else native
        (back,) = jax.vjp(lambda images: forward(images, kernel), images)[1](gradient)
        return back, _to_kernel(images, gradient, kernel, strides, pads)

    return jax.lax.platform_dependent(*kept, gradient, cpu=on_cpu, default=by_xla)


_convolve.defvjp(_forward, _backward)


def _native(images: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, pads, dimension_numbers=DIMENSIONS)


def _is_product(kernel: jax.Array, strides: Strides, pads: Padding) -> bool:
    return (kernel.shape[:2], strides, pads) == ((1, 1), (1, 1), ((0, 0), (0, 0)))


def _product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.dot(images, kernel[0, 0])


def _to_kernel(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, strides: Strides, pads: Padding
) -> jax.Array:
    """The gradient to the kernel: for each of its pixels, images under it times `gradient`."""
    size = gradient.shape[1], gradient.shape[2]
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))

    def products(images: jax.Array, gradient: jax.Array) -> jax.Array:
        of_pixels = [
            jax.lax.dot_general(
                _under(images, row, column, size, strides).reshape(-1, images.shape[3]),
                gradient.reshape(-1, gradient.shape[3]),
                (((0,), (0,)), ((), ())),
                preferred_element_type=jnp.float32,
            )
            for row in range(kernel.shape[0])
            for column in range(kernel.shape[1])
        ]
        return jnp.stack(of_pixels).reshape(kernel.shape)

    return sum_chunks(products, images, gradient).astype(kernel.dtype)


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
