"""How fast a run goes, and how long it waits for its input."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Rates between log steps."""

    def __init__(self, batch_size: int, total: int, step: int):
        """Starts at `step` of `total` steps."""
        self._batch_size, self._total, self._step = batch_size, total, step
        self._since, self._waited = time.perf_counter(), 0.0
        self._seconds_a_step = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that waits for input."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A block that does not count at all: evaluation and saving."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def read(self, step: int) -> dict[str, float]:
        """`images_per_second` and `input_wait` (share of the time) since the last reading."""
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
        """An estimate from the pace at the last reading; evaluations not included."""
        return (self._total - step) * self._seconds_a_step
