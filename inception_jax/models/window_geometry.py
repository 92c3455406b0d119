"""Padding and number of windows along one axis, of convolutions and pools.

The rules are Caffe's where the paper leaves them open (see the README's table of departures).
"""

import math
from collections.abc import Callable

Padding = tuple[int, int]  # pixels before and after
Paddings = tuple[Padding, Padding]  # of height and width
# From the size of an axis, a window and a stride, all in pixels.
Rule = Callable[[int, int, int], Padding]


def valid(size: int, window: int, stride: int) -> Padding:
    """Pads nothing: windows lie inside."""
    return 0, 0


def half(size: int, window: int, stride: int) -> Padding:
    """Pads half a window on both sides."""
    return (window - 1) // 2, (window - 1) // 2


def covering(size: int, window: int, stride: int) -> Padding:
    """Pads after the last pixel, so that some window covers it (Caffe's "ceil").

    Where the stride is larger than the window, the pixels between windows stay uncovered: the last
    window starts inside the image.
    """
    windows = 1 + max(0, min(math.ceil((size - window) / stride), (size - 1) // stride))
    return 0, _missing(size, window, stride, windows)


def same(size: int, window: int, stride: int) -> Padding:
    """Pads as TensorFlow does, for size / stride windows, rounded up.

    Half of the pixels that they lack are before the first pixel.
    """
    missing = _missing(size, window, stride, math.ceil(size / stride))
    return missing // 2, missing - missing // 2


def _missing(size: int, window: int, stride: int, windows: int) -> int:
    """Pixels that so many windows reach over the end of an axis."""
    return max(0, (windows - 1) * stride + window - size)


# Rules by kind of layer, and by the name of the padding.
CONVOLUTION: dict[str, Rule] = {"caffe": half, "same": same}
POOL: dict[str, dict[str, Rule]] = {
    "max": {"caffe": covering, "same": same},
    "average": {"valid": valid, "zeros": half},
}


def windows(size: int, window: int, stride: int, rule: Rule) -> int:
    """The number of windows along an axis of `size` pixels, which is the size of the output."""
    return (size + sum(rule(size, window, stride)) - window) // stride + 1
