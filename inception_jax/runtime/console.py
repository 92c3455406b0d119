"""The console: results go to standard output, everything said on the way to standard error."""

import logging
from pathlib import Path

from rich.console import Console


class _Stderr(Console):
    """A run goes on when nobody reads what it says any more: the log file has it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


stdout = Console(highlight=False, markup=False, emoji=False)
stderr = _Stderr(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

_only_warnings = False


def printable(text: str) -> str:
    """What would steer the terminal is shown as an escape instead: names of files may have any."""
    return "".join(one if one.isprintable() or one == "\n" else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class _ConsoleHandler(logging.Handler):
    """Prints through the one console, so that a line never tears a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr.print(printable(self.format(record)))


class _FileHandler(logging.FileHandler):
    """A line that could not be written, the disk being full, is no reason for a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def attach(log: logging.Logger) -> None:
    """Sends a logger's messages of level INFO and above to the console, and to nobody else."""
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = _ConsoleHandler(logging.INFO)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]


def is_for_a_person() -> bool:
    """Whether a progress bar has a place: a terminal, and no other process that shows one."""
    return stderr.is_terminal and not _only_warnings


def only_warnings() -> None:
    """Of several processes one tells how it goes; from this one come warnings and errors."""
    global _only_warnings
    _only_warnings = True
    for handler in logging.getLogger("inception_jax").handlers:
        if isinstance(handler, _ConsoleHandler):
            handler.setLevel(logging.WARNING)


def add_file(log: logging.Logger, path: Path) -> None:
    """Also appends every message, tracebacks included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
