"""Supervises another process: sends it a signal when it gives no sign of life for long.

A program, not for import: python supervisor.py PID SIGNAL SECONDS. Each sign of life is a byte on
standard input, whose end says that the other process has ended or needs no more supervision.
"""

import contextlib
import os
import select
import sys
from pathlib import Path

LOOKS = 20


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
    print(
        f"error: Python has not run for {seconds / 60:g} minutes: stuck in C code; the stacks of "
        "all threads:",
        file=sys.stderr,
        flush=True,
    )
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Tells a process that SIGSTOP or a debugger holds, by Linux's /proc."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
