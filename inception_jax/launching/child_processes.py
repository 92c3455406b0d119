"""Child processes that get this process's signals, and that do not outlive it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(command: Sequence[str], variables: dict[str, str], **pipes: Any) -> subprocess.Popen:
    """Starts a command that reads nothing and dies with this process.

    Args:
      command: the program and its arguments.
      variables: added to this process's environment.
      **pipes: `stdout` and `stderr`, as `subprocess.Popen` takes them.
    """
    return subprocess.Popen(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        # A group of its own: a terminal sends Ctrl-C to the whole group, and passed on it would be
        # the second one, which ends a run at once.
        process_group=0,
        preexec_fn=_end_with(os.getpid()),
        **pipes,
    )


def _end_with(parent: int) -> Callable[[], None] | None:
    """A function for the child that asks for SIGTERM at the end of `parent` (on Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded here: not after the fork

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os.kill(os.getpid(), signal.SIGTERM)

    return prepare


@contextlib.contextmanager
def recorded_signals() -> Iterator[list[int]]:
    """Yields a list to which SIGTERM and SIGINT are added when they arrive.

    They do nothing else: a signal may arrive in the middle of a start, when the new child is not in
    any list yet. `pass_on` sends them between two starts.
    """
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on(
    signals: Sequence[int], processes: Iterable[subprocess.Popen], sent: Counter[int]
) -> None:
    """Sends each process those of `signals` that it has not got yet; `sent` counts them by pid."""
    for process in processes:
        for number in signals[sent[process.pid] :]:
            process.send_signal(number)
            sent[process.pid] += 1
