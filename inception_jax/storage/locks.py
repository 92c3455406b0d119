"""Locks of folders: one process at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from inception_jax.errors import UserError
from inception_jax.storage import disk


@contextlib.contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Makes a folder where it is missing, and keeps every other process out within the block.

    The kernel frees the lock when the process ends, in whatever way.

    Args:
      folder: to be locked.
      doing: what the block does, for the message in another process, as "training".

    Raises:
      UserError: another process holds the lock, or a file is in the place of the folder.
    """
    disk.make_folder(folder)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is {doing} in {folder}") from None
        yield


def is_held(folder: Path) -> bool:
    """Tells if another process holds the lock of a folder; a `hold` at the same moment may fail."""
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
