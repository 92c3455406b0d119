"""The errors that a person is meant to read, one line that names the thing and the remedy; and the
exit codes, which launchers understand.
"""

import enum


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    ERROR = 1
    WRONG_USAGE = 2
    RESTART = 42  # preempted, stuck, or another process is lost: the same command goes on


class UserError(Exception):
    """Something outside the program is wrong: a file, a checkpoint, a divergence. Exit code 1."""


class UsageError(UserError):
    """The command line or the config is wrong; nothing was started. Exit code 2."""


class PreemptedError(UserError):
    """The machine will be taken away; the same command goes on later. Exit code 42."""
