"""A run that does nothing for long is stuck: it ends, so that whoever launched it starts it again.

A read from a network disk that never returns or a dead-locked device would else hold a job, and
what it costs, for ever.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from inception_jax.errors import ExitCode
from inception_jax.runtime import sudden_end

_last_beat = 0.0


def beat() -> None:
    """Called at every step and every batch of an evaluation: the run is alive."""
    global _last_beat
    _last_beat = time.monotonic()


@contextlib.contextmanager
def watch(minutes: float) -> Iterator[None]:
    """Within the block the process ends with exit code 42 when it has not beaten for so long.

    The stacks of all threads go to the log file.

    Args:
      minutes: 0 never ends it.
    """
    beat()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(min(minutes * 6, 10)):  # seconds: ten times a period, or more often
            if time.monotonic() - _last_beat > 60 * minutes:
                sudden_end.end(
                    f"no step for {minutes:g} minutes: stuck; the log file has the stacks of all "
                    "threads. Start it again; if a step does take so long, set training.watchdog",
                    ExitCode.RESTART,
                )

    if minutes > 0:
        threading.Thread(target=look, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
