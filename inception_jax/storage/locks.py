"""One process at a time in a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from inception_jax.errors import UserError
from inception_jax.storage import disk


@contextlib.contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Makes `folder` if need be, and keeps every other process out for the length of the block.

    The kernel frees the lock when the process ends, in whatever way.

    Raises:
      UserError: another process holds it; the message says that it is `doing` something. Or a file
        is where the folder should be.
    """
    disk.make_folder(folder)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is {doing} in {folder}") from None
        yield


def is_held(folder: Path) -> bool:
    """Whether another process holds the folder just now; a `hold` at this very moment may fail."""
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
