"""Measures the speed of an endless stream of batches, and summarises repeated measurements."""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Share of the measuring time that passes uncounted before it.
WARM_UP = 0.25


class Speed(NamedTuple):
    """Images a second, and the CPU time of an image in all threads of this process.

    The CPU time suffers less from other programs that run at the same time.
    """

    images_per_second: float
    cpu_ms_per_image: float


def measure(batches: Iterator[Any], batch_size: int, warm_up_batches: int, seconds: float) -> Speed:
    """Consumes batches as fast as they come.

    Args:
      batches: an endless stream.
      batch_size: images in each batch.
      warm_up_batches: at least so many are not counted: those that were read ahead.
      seconds: the time to measure, with one batch at least.
    """
    start, consumed = time.perf_counter(), 0
    while consumed < warm_up_batches or time.perf_counter() - start < WARM_UP * seconds:
        next(batches)
        consumed += 1
    start, cpu_start, consumed = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - start) < seconds or not consumed:
        next(batches)
        consumed += 1
    images = consumed * batch_size
    return Speed(images / passed, 1e3 * (time.process_time() - cpu_start) / images)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The `median`, `min` and `max` of repeated measurements, and all of them as `repeats`."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "repeats": list(values),
    }


def cells(value: dict[str, Any], places: int) -> tuple[str, str]:
    """The cells of a table for a `spread`: median, and minimum..maximum."""
    median, least, most = (f"{value[part]:,.{places}f}" for part in ("median", "min", "max"))
    return median, f"{least}..{most}"
