"""Ends a run that does nothing for long, so that whoever launched it starts it again.

A read from a network disk that never returns or a dead-locked device would else hold a job, and
what it costs, for ever. A thread looks for steps. Where C code keeps Python's lock (the GIL), no
thread of Python runs: then a process beside this one ends it, see `hang_in_c_code.py`.
"""

import contextlib
import threading
from collections.abc import Iterator

from inception_jax.errors import ExitCode
from inception_jax.runtime import hang_in_c_code, immediate_exit

_LOOKS = 10  # so many in a row without a step are one too many
_SECONDS_BETWEEN_LOOKS = 10.0  # at most

_beaten = threading.Event()


def beat() -> None:
    """Says that the run is alive: called at every step and every batch of an evaluation."""
    _beaten.set()


@contextlib.contextmanager
def watch(minutes: float) -> Iterator[None]:
    """Within the block the process ends with exit code 42 when it has not beaten for so long.

    The stacks of all threads go to the log file; where C code keeps Python's lock, to standard
    error. Time in which the process is stopped or the machine sleeps does not count.

    Args:
      minutes: 0 never ends it.
    """
    if minutes <= 0:
        yield
        return
    seconds = 60 * minutes
    period = min(seconds / _LOOKS, _SECONDS_BETWEEN_LOOKS)
    stop = threading.Event()

    def look() -> None:
        without_step = 0  # looks are counted, not seconds: a process that is stopped does not look
        while not stop.wait(period):
            say_alive()
            without_step = 0 if _beaten.is_set() else without_step + 1
            _beaten.clear()
            if without_step * period >= seconds:
                immediate_exit.end(
                    f"no step for {minutes:g} minutes: stuck; the log file has the stacks of all "
                    "threads. Start it again; if a step does take so long, set training.watchdog",
                    ExitCode.RESTART,
                )

    beat()
    with hang_in_c_code.armed(seconds + 3 * period) as say_alive:
        thread = threading.Thread(target=look, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
