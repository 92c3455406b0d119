"""Ends this process although none of its Python threads can run, since C code keeps Python's lock.

A second process, `supervisor.py`, waits for signs of life. If there are none it sends signal 42,
for which this process has two handlers in C, which do not need the lock. The first is that of
faulthandler: it writes the stacks of all threads to standard error. The second is `_exit` of the C
library: it takes the number of the signal, which every handler gets, as the exit code.

(faulthandler has a timer of its own, which ends a process with exit code 1 only, and ends one that
was stopped for long and goes on.)
"""

import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from inception_jax.errors import ExitCode

log = logging.getLogger(__name__)

_SIGNAL = int(ExitCode.RESTART)  # a real-time signal of Linux, that nobody else uses
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_STDERR = 2


@contextlib.contextmanager
def armed(seconds: float) -> Iterator[Callable[[], None]]:
    """Within the block the process ends with exit code 42 if it gives no sign of life for so long.

    If it lets no signal through it is killed (SIGKILL), which launchers take for a failure. Where
    there are no real-time signals (macOS), nothing ends it; where the supervisor cannot be started,
    neither: that is a warning.

    Args:
      seconds: in which the process is not stopped.

    Yields:
      A function that gives a sign of life; not to be called after the block.
    """
    if not hasattr(signal, "SIGRTMIN"):
        yield lambda: None
        return
    # Isolated and in a session of its own: it ends when this process does, not at a Ctrl-C.
    command = [sys.executable, "-I", "-S", str(_SUPERVISOR), os.getpid(), _SIGNAL, seconds]
    try:
        supervisor = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=None if _has_stderr() else subprocess.DEVNULL, bufsize=0, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        log.warning(
            f"no process can be started beside this one ({error.strerror}): if C code hangs, "
            "nothing ends the run"
        )
        yield lambda: None
        return
    # The supervisor is gone before the handlers are: its signal may come late.
    with _exit_at_signal(), supervisor:
        assert supervisor.stdin is not None
        pipe = supervisor.stdin.fileno()
        os.set_blocking(pipe, False)

        def say_alive() -> None:
            with contextlib.suppress(OSError):  # somebody has killed it: the run goes on without
                os.write(pipe, b".")

        try:
            yield say_alive
        finally:
            supervisor.kill()


@contextlib.contextmanager
def _exit_at_signal() -> Iterator[None]:
    """Within the block the signal makes C code write all stacks and end the process."""
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    set_handler(_SIGNAL, ctypes.cast(ctypes.CDLL(None)._exit, ctypes.c_void_p))
    if _has_stderr():
        faulthandler.register(_SIGNAL, file=_STDERR, all_threads=True, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(_SIGNAL)
        set_handler(_SIGNAL, None)  # the default


def _has_stderr() -> bool:
    """Tells if standard error was open at the start: else another file may have its number."""
    return sys.__stderr__ is not None
