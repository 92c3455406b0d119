"""Ending a process from one of its threads, while its main thread is stuck."""

import logging
import os
import sys
import threading
import traceback
from typing import NoReturn

log = logging.getLogger(__name__)

_SECONDS_TO_SAY_IT = 10


def end(message: str, exit_code: int) -> NoReturn:
    """Says why in one line, writes the stacks of all threads to the log file, and ends at once.

    Nothing is cleaned up: what a run has on disk is whole at any moment.
    """

    def say() -> None:
        log.error(f"error: {message}")
        log.debug(f"stacks of all threads:\n{stacks()}")

    # The stuck thread may be writing to the log, too, and hold its lock.
    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(_SECONDS_TO_SAY_IT)
    os._exit(exit_code)


def stacks() -> str:
    """What every thread of this process is doing, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
    )
