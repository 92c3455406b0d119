"""Checks archives from elsewhere before anything in them is read."""

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from inception_jax.errors import UserError


def check(file: IO[bytes], name: str) -> None:
    """Checks the members of a tar archive, and leaves the file at its beginning.

    TFDS would pass over the members that are refused here, without a word.

    Args:
      file: the archive; it can be sought in.
      name: for the message.

    Raises:
      UserError: a member is neither a file nor a folder, or its name leads out of the archive.
      tarfile.TarError: the file is not an archive, or it is damaged.
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
    """Yields the archives that an archive holds, each checked before it is read."""
    for path, file in archives:
        check(file, f"{path} in {name}")
        yield path, file
