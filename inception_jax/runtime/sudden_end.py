"""Ending a process from one of its threads, while its main thread is stuck."""

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

_SECONDS = 10


def within_seconds(work: Callable[[], object]) -> None:
    """Does some work, but no longer than ten seconds: it may wait for a lock of a stuck thread.

    What it raises is lost, too: there is nobody left to tell.
    """

    def attempt() -> None:
        with contextlib.suppress(BaseException):
            work()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_SECONDS)


def end(message: str, exit_code: int) -> NoReturn:
    """Says why in one line, writes the stacks of all threads to the log file, and ends at once.

    Nothing is cleaned up: what a run has on disk is whole at any moment.
    """

    def say() -> None:
        log.error(f"error: {message}")
        log.debug(f"stacks of all threads:\n{stacks()}")

    within_seconds(say)
    os._exit(exit_code)


def stacks() -> str:
    """What every thread of this process is doing, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
    )
