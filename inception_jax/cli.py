"""Common parts of all commands: flags, the log, and errors as one line and an exit code."""

import argparse
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from inception_jax.errors import ExitCode, PreemptedError, UsageError, UserError
from inception_jax.paths import to_path
from inception_jax.runtime import console, processes
from inception_jax.storage import disk

log = logging.getLogger("inception_jax")

Main = Callable[[argparse.Namespace, list[str]], None]  # of parsed flags and config overrides


def path(text: str) -> Path:
    """Parses a path: ~ is the home folder, also after =, where the shell leaves it."""
    try:
        return to_path(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def paths(text: str) -> list[Path]:
    """Parses paths that have commas between them."""
    return [path(part) for part in text.split(",")]


def file_to_write(text: str) -> Path:
    """Parses the path of a file to write, whose folder must exist: known before any work."""
    file = path(text)
    if not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {str(file.parent)!r}")
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{str(file)!r} is a folder")
    if file.exists() and not file.is_file():  # a device or a pipe would be replaced by the file
        raise argparse.ArgumentTypeError(f"{str(file)!r} is not an ordinary file")
    return file


def picture_to_write(text: str) -> Path:
    """Parses the path of a picture to write: its name ends in .png."""
    file = file_to_write(text)
    if file.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{str(file)!r} does not end in .png")
    return file


def positive(text: str) -> int:
    """Parses a count, from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A wide left column: most flags and their help share a line."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, max_help_position=30, **options)


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and no guessing of abbreviated flags."""

    def __init__(self, description: str | None, **options: Any):
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=_Formatter,
            **options,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add_config(self) -> None:
        """Adds --config, and the overrides of the config's fields."""
        help = "config file, as configs/x.py[:name=value,...]"
        self.add_argument("--config", required=True, metavar="FILE", help=help)
        self.allow_overrides("the config")

    def allow_overrides(self, what: str) -> None:
        """Says in the help that --config.a.b=value is taken."""
        self.epilog = f"Any field of {what} can be set: --config.data.batch_size=64"

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)")


def run(main: Main, parser: Parser) -> NoReturn:
    """Parses the command line, runs `main(flags, config_overrides)` and exits.

    Overrides are the arguments that start with --config. ; any other unknown one is an error.
    """
    # Imports and traced programs are many objects that stay. To look for garbage among them after
    # each 700 new ones, as Python does, takes an eighth of the time of a start.
    gc.set_threshold(100_000)
    exit_code, message = invoke(main, parser, sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:  # the interpreter would try again, and complain in its own way
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exit_code == ExitCode.DONE and not isinstance(error, BrokenPipeError):
            message = f"error: standard output: {error.strerror}"
            log.error(message)
        exit_code = exit_code or ExitCode.ERROR
    processes.leave(exit_code, message)
    sys.exit(exit_code)


def invoke(main: Main, parser: Parser, argv: Sequence[str]) -> tuple[ExitCode, str]:
    """Parses `argv` and calls `main`, for Python that runs a command in its own process.

    It changes the process: handlers of the loggers, and the hooks for exceptions that are not
    caught.

    Args:
      main: the command.
      parser: of its flags.
      argv: the command line, without the name of the command.

    Returns:
      The exit code, and the message of the error.
    """
    console.attach(log)
    # Orbax and TFDS log every step, and their failures come as errors, too.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    debug = "--debug" in argv
    if not debug:  # where Orbax fails at one array, its reads of others end later, with tracebacks
        sys.unraisablehook = lambda ignored: log.debug(f"ignored: {ignored.exc_value!r}")
        threading.excepthook = lambda failed: log.debug(f"in a thread: {failed.exc_value!r}")
    try:
        flags, overrides = parser.parse_known_args(_join_values(argv))
        for argument in overrides:
            if not (parser.epilog and argument.startswith(("--config.", "--noconfig."))):
                parser.error(f"unknown argument {argument!r}")
        main(flags, overrides)
    except BrokenPipeError:  # the reader of the output, as head, wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR, "nobody reads its output"
    except KeyboardInterrupt:
        log.error("interrupted")
        return ExitCode.ERROR, "interrupted"
    except PreemptedError as error:
        log.info(str(error))
        return ExitCode.RESTART, str(error)
    except Exception as error:
        log.log(logging.ERROR if debug else logging.DEBUG, "traceback", exc_info=True)
        if not isinstance(error, UserError):
            processes.wait_for_failure_report()
        message = in_one_line(error)
        log.error(f"error: {message}")
        usage = isinstance(error, UsageError)
        return ExitCode.WRONG_USAGE if usage else ExitCode.ERROR, message
    return ExitCode.DONE, ""


def in_one_line(error: Exception) -> str:
    """The message of an error for a person: one line."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if disk.is_full(error):
        return "no room left where the output goes: make room and give the same command again"
    return f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows the traceback)"


def _join_values(argv: Sequence[str]) -> list[str]:
    """`--config.seed 1` becomes `--config.seed=1`, so that the value stays with its field."""
    joined: list[str] = []
    for argument in argv:
        wants_value = joined and joined[-1].startswith("--config.") and "=" not in joined[-1]
        if wants_value and not argument.startswith("--"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
