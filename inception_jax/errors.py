"""The two errors that a person is meant to read: one line, naming the thing and the remedy."""


class UserError(Exception):
    """Something outside the program is wrong: a file, a checkpoint, a divergence. Exit code 1."""


class UsageError(UserError):
    """The command line or the config is wrong; nothing was started. Exit code 2."""
