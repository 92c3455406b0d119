"""Measures how fast a run goes and how long it waits for its input."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Measures rates between log steps."""

    def __init__(self, batch_size: int, total: int, step: int):
        """Starts at `step` of `total` steps."""
        self._batch_size, self._total, self._step = batch_size, total, step
        self._since, self._waited = time.perf_counter(), 0.0
        self._seconds_a_step = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Times a block that waits for input."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of a block: evaluation, saving."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def read(self, step: int) -> dict[str, float]:
        """Returns `images_per_second` and `input_wait` (0..1) since the last reading."""
        now = time.perf_counter()
        seconds, steps = max(now - self._since, 1e-9), step - self._step
        self._seconds_a_step = seconds / steps
        rates = {
            "images_per_second": steps * self._batch_size / seconds,
            "input_wait": min(1.0, self._waited / seconds),
        }
        self._step, self._since, self._waited = step, now, 0.0
        return rates

    def seconds_left(self, step: int) -> float:
        """Estimates the seconds left from the last reading; evaluations are not included."""
        return (self._total - step) * self._seconds_a_step
