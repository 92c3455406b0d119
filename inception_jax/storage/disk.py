"""Errors of a disk that is full or cannot be written, as one line for all libraries."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from inception_jax.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# TensorStore and others have no errno, but these words in their messages.
_FULL_IN_WORDS = ("ENOSPC", "No space left on device", "EDQUOT", "Disk quota exceeded")


class DiskError(UserError):
    """A folder has no room left, or cannot be written."""


@contextlib.contextmanager
def writing(folder: Path, needed: str = "") -> Iterator[None]:
    """Turns errors of a disk, in a block that writes in `folder`, into a `DiskError`.

    Args:
      folder: for the message, with the room that is left there.
      needed: what the block needs, for the message: "checkpoint 7 takes up to 1.6 MB".

    Raises:
      DiskError: there is no room left, or the folder cannot be written for another reason.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        if is_full(error):
            raise DiskError(_no_room(folder, needed)) from error
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise DiskError(f"{folder} cannot be written: {error.strerror}") from error
        raise


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
      DiskError: a file has the name of one of them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise DiskError(f"{folder} cannot be a folder: a file is in the way") from None


def is_full(error: BaseException | None) -> bool:
    """Tells if a full disk, or a quota that is used up, caused an error."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if any(words in str(error) for words in _FULL_IN_WORDS):
        return True
    return is_full(error.__cause__ or error.__context__)


def megabytes(size: int) -> str:
    """A number of bytes as megabytes, for a person."""
    return f"{size / 1e6:,.1f} MB"


def _no_room(folder: Path, needed: str) -> str:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = f"{megabytes(shutil.disk_usage(folder).free)} free"
    room = f"{needed}, {free}" if needed else free
    return f"no room left in {folder} ({room}): make room and give the same command again"
