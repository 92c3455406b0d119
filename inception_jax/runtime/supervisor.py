"""Supervises another process: ends it by a signal when it gives no sign of life for long.

A program, not for import: python supervisor.py PID SIGNAL SECONDS. Each sign of life is a byte on
standard input, whose end says that the other process has ended or needs no more supervision.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

LOOKS = 20
PATIENCE = 5.0  # seconds for whoever reads standard error
STDERR = 2


def main(pid: int, number: int, seconds: float) -> None:
    """Returns when standard input ends, or after sending the signal."""
    silent = 0  # looks are counted: time in which both processes are frozen is one look
    while silent < LOOKS:
        if select.select([0], [], [], seconds / LOOKS)[0]:
            if not os.read(0, 1 << 16):
                return
            silent = 0
        elif not is_stopped(pid):
            silent += 1
    say(
        f"error: Python has not run for {seconds / 60:g} minutes: stuck in C code; the stacks of "
        "all threads:\n"
    )
    # The first signal makes faulthandler write stacks, which waits for a reader that is stuck. At
    # the second one faulthandler writes nothing: it is writing. A process may block both.
    for one in (number, number, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, one)
        if ends_within(PATIENCE):
            return


def say(text: str) -> None:
    """Writes to standard error: for a few seconds if nobody reads it, and without an error."""

    def write() -> None:
        with contextlib.suppress(OSError):
            os.write(STDERR, text.encode())

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(PATIENCE)


def ends_within(seconds: float) -> bool:
    """Waits for the end of standard input."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([0], [], [], left)[0] and not os.read(0, 1 << 16):
            return True
    return False


def is_stopped(pid: int) -> bool:
    """Tells a process that SIGSTOP or a debugger holds, by Linux's /proc."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
