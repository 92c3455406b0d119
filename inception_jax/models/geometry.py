"""Where windows lie along one axis: padding and number of windows of convolutions and pools.

The rules are Caffe's where the paper leaves them open (see the README's table of departures).
"""

import math
from collections.abc import Callable

Padding = tuple[int, int]  # pixels before and after
Paddings = tuple[Padding, Padding]  # of height and width
Rule = Callable[[int, int, int], Padding]  # of an axis' size, a window and a stride, in pixels


def valid(size: int, window: int, stride: int) -> Padding:
    """No padding: windows lie inside."""
    return 0, 0


def half(size: int, window: int, stride: int) -> Padding:
    """Half a window on both sides."""
    return (window - 1) // 2, (window - 1) // 2


def covering(size: int, window: int, stride: int) -> Padding:
    """All after the last pixel, so that some window covers it (Caffe's "ceil")."""
    windows = 1 + max(0, math.ceil((size - window) / stride))
    return 0, _missing(size, window, stride, windows)


def same(size: int, window: int, stride: int) -> Padding:
    """TensorFlow's: as many windows as strides fit, and half of what they need before."""
    missing = _missing(size, window, stride, math.ceil(size / stride))
    return missing // 2, missing - missing // 2


def _missing(size: int, window: int, stride: int, windows: int) -> int:
    return max(0, (windows - 1) * stride + window - size)


# By kind, and by the name of the padding.
CONVOLUTION: dict[str, Rule] = {"caffe": half, "same": same}
POOL: dict[str, dict[str, Rule]] = {
    "max": {"caffe": covering, "same": same},
    "average": {"valid": valid, "zeros": half},
}


def windows(size: int, window: int, stride: int, rule: Rule) -> int:
    """How many windows lie along an axis of `size` pixels: the size of the output."""
    return (size + sum(rule(size, window, stride)) - window) // stride + 1
