"""The console: results go to standard output, everything said on the way to standard error."""

import logging
from pathlib import Path

from rich.console import Console

stdout = Console(highlight=False, markup=False, emoji=False)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    """Prints through the one console, so that a line never tears a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr.print(self.format(record))


def attach(log: logging.Logger) -> None:
    """Sends a logger's messages of level INFO and above to the console, and to nobody else."""
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = _ConsoleHandler(logging.INFO)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]


def add_file(log: logging.Logger, path: Path) -> None:
    """Also appends every message, tracebacks included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
