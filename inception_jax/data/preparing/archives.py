"""Archives from elsewhere: what is in them, before anything is done with it."""

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from inception_jax.errors import UserError


def check(file: IO[bytes], name: str) -> None:
    """Reads the headers of a tar archive, and leaves the file at its beginning.

    TFDS passes over the members that are refused here, without a word.

    Args:
      file: the archive; it can be sought in.
      name: for the message.

    Raises:
      UserError: a member is no file or folder, or its name leads out of the archive.
      tarfile.TarError: it is no archive, or damaged.
    """
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if not (member.isfile() or member.isdir()):
                problem = "is neither a file nor a folder"
            elif path.is_absolute() or ".." in path.parts:
                problem = "leads out of it"
            else:
                continue
            raise UserError(f"{name} is not to be trusted: {member.name!r} {problem}")
    file.seek(0)


def checked(
    archives: Iterator[tuple[str, IO[bytes]]], name: str
) -> Iterator[tuple[str, IO[bytes]]]:
    """The same archives in an archive, each checked before it is read."""
    for path, file in archives:
        check(file, f"{path} in {name}")
        yield path, file
