"""The console: results go to standard output, messages to standard error."""

import logging
from pathlib import Path

from rich.console import Console


class _Stderr(Console):
    """A console whose closed pipe does not end a run: the log file has the messages."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


stdout = Console(highlight=False, markup=False, emoji=False)
stderr = _Stderr(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

_only_warnings = False


def printable(text: str) -> str:
    """Text without control characters, which names of files may have: they are shown as escapes."""
    return "".join(one if one.isprintable() or one == "\n" else _escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class _ConsoleHandler(logging.Handler):
    """Prints through the one console, so that a line never tears a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr.print(printable(self.format(record)))


class _FileHandler(logging.FileHandler):
    """A log file that drops a line where the disk is full, without a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def attach(log: logging.Logger) -> None:
    """Sends a logger's messages of level INFO and above to the console only."""
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = _ConsoleHandler(logging.INFO)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]


def is_for_a_person() -> bool:
    """Tells if a progress bar can be shown: on a terminal, and in the primary process."""
    return stderr.is_terminal and not _only_warnings


def only_warnings() -> None:
    """Leaves other messages than warnings and errors to the primary process."""
    global _only_warnings
    _only_warnings = True
    for handler in logging.getLogger("inception_jax").handlers:
        if isinstance(handler, _ConsoleHandler):
            handler.setLevel(logging.WARNING)


def add_file(log: logging.Logger, path: Path) -> None:
    """Appends every message, with tracebacks, to a file, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
