"""Errors for a person, and the exit codes that launchers understand.

The message of such an error is one line that names the thing and the remedy.
"""

import enum


class ExitCode(enum.IntEnum):
    """Exit codes of commands."""

    DONE = 0
    ERROR = 1
    WRONG_USAGE = 2
    RESTART = 42  # preempted, stuck, or another process is lost: the same command goes on


class UserError(Exception):
    """Something outside the program is wrong: a file, a checkpoint, the data. Exit code 1."""


class UsageError(UserError):
    """The command line or the config is wrong; nothing was started. Exit code 2."""


class PreemptedError(UserError):
    """The machine will be taken away; the same command continues later. Exit code 42."""
