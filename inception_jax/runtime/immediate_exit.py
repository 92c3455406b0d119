"""The end of a process by one of its threads, while its main thread is stuck."""

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
    """Calls `work` and waits for it for ten seconds: it may need a lock of a stuck thread.

    Errors are dropped.
    """

    def attempt() -> None:
        with contextlib.suppress(BaseException):
            work()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_SECONDS)


def end(message: str, exit_code: int) -> NoReturn:
    """Logs an error and the stacks of all threads, and ends the process at once.

    Nothing is cleaned up: the files of a run are whole at any moment.

    Args:
      message: of the error, one line.
      exit_code: of the process.
    """

    def say() -> None:
        log.error(f"error: {message}")
        log.debug(f"stacks of all threads:\n{stacks()}")

    within_seconds(say)
    os._exit(exit_code)


def stacks() -> str:
    """The stacks of all threads of this process as text, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
    )
