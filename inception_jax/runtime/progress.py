"""Progress for a person: a bar on a terminal, lines in a log elsewhere."""

import contextlib
import datetime
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from inception_jax.runtime import console

log = logging.getLogger(__name__)

Update = Callable[..., None]
Thing = TypeVar("Thing")

SECONDS_BETWEEN_LINES = 30
SECONDS_BETWEEN_MOVES = 0.2  # of the bar


@contextlib.contextmanager
def show(what: str, total: int, start: int = 0) -> Iterator[Update]:
    """Shows progress within a block.

    Args:
      what: the first words of the line.
      total: number of things to do.
      start: how many were done before.

    Yields:
      `update(done, text, seconds_left)`, which moves the bar, or logs a line where there is no
      terminal and `text` is not empty.
    """
    if not console.is_for_a_person():

        def print_line(done: int, text: str = "", seconds_left: float | None = None) -> None:
            if text:
                eta = "" if seconds_left is None else f", {_clock(seconds_left)} left"
                log.info(f"{what} {done}/{total} {text}{eta}")

        yield print_line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[text]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console.stderr) as bar:
        task = bar.add_task(what, total=total, completed=start, text="")

        def move(done: int, text: str = "", seconds_left: float | None = None) -> None:
            bar.update(task, completed=done)
            if text:
                bar.update(task, text=text)

        yield move


def track(things: Iterable[Thing], what: str, total: int) -> Iterator[Thing]:
    """Yields the things, showing how many are done; without a terminal, a line now and then."""
    said = moved = time.monotonic()
    with show(what, total) as update:
        for done, thing in enumerate(things, 1):
            yield thing
            now = time.monotonic()
            if now - said > SECONDS_BETWEEN_LINES:
                said = now
                update(done, f"({done / max(total, 1):.0%})")
            elif now - moved > SECONDS_BETWEEN_MOVES or done == total:
                moved = now
                update(done)


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
