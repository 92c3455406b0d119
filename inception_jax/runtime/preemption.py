"""Preemption: SIGTERM says that the machine will be taken away soon.

Only this module listens to that signal. In a job of one process it has its own handler. In a job of
several each may get the signal at another moment or not at all, so they agree on the step at which
all of them stop: JAX does that, and has the signal as soon as the processes have met.
"""

import contextlib
import functools
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from inception_jax.errors import ExitCode, PreemptedError
from inception_jax.runtime.immediate_exit import within_seconds

log = logging.getLogger(__name__)

_asked = threading.Event()
_work_at_stake = False
_checks = itertools.count()
_reached_by_all: Callable[[int], bool] | None = None


def listen() -> None:
    """Answers SIGTERM from now on; to be called before the imports that take seconds."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Python's own handlers wait until the main thread runs Python again, which may be compiling for
    # minutes; the byte that this writes is read at once.
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_answer, args=(read_end,), name="SIGTERM", daemon=True).start()


def _answer(read_end: int) -> None:
    while signals := os.read(read_end, 64):
        if signal.SIGTERM not in signals:
            continue
        again, save = _asked.is_set(), _work_at_stake
        _asked.set()
        if save and not again:
            within_seconds(functools.partial(log.info, "terminated: saving the last step"))
            continue
        why = "at once" if again else "there is nothing to save"
        within_seconds(functools.partial(log.info, f"terminated: {why}"))
        os._exit(ExitCode.RESTART)


def hand_over(reached_by_all: Callable[[int], bool]) -> None:
    """Leaves the signal to JAX, since several processes have met.

    Args:
      reached_by_all: takes the number of the check, and is true in all processes at the same one.
    """
    global _reached_by_all
    _reached_by_all = reached_by_all
    if _asked.is_set():  # before JAX listened, after `stopping_at_checks`: it is to know, too
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def stopping_at_checks() -> Iterator[None]:
    """Within the block SIGTERM waits for the next `check`; outside it ends the process at once.

    A second SIGTERM ends the process at once anywhere. Several processes that have met never end at
    once: they stop together, at the next check, though a compilation may come before it.
    """
    global _work_at_stake
    _work_at_stake = True
    try:
        yield
    finally:
        _work_at_stake = False


def check() -> None:
    """Stops here if SIGTERM came: at every step and batch, equally often in all processes.

    Raises:
      PreemptedError: it is time to save and to stop, in all processes at the same call.
    """
    stop = _reached_by_all(next(_checks)) if _reached_by_all else _asked.is_set()
    if stop:
        raise PreemptedError("terminated: the same command goes on")
