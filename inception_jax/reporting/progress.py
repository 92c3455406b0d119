"""Progress for a person: a bar on a terminal, lines in a log elsewhere."""

import contextlib
import datetime
import logging
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from inception_jax.reporting import console

log = logging.getLogger(__name__)

Update = Callable[..., None]


@contextlib.contextmanager
def show(what: str, total: int, start: int = 0) -> Iterator[Update]:
    """Yields `update(done, text, seconds_left)`; the text is printed when there is no terminal.

    Args:
      what: the first words of the line.
      total: number of things to do.
      start: how many were done before.
    """
    if not console.stderr.is_terminal:

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


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
