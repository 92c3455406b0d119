"""Finds image files in folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from inception_jax.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image(path: Path) -> bool:
    """True if a file's name ends as an image's does, in any case."""
    return path.suffix.lower() in SUFFIXES


def walk(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, sorted; hidden ones (.DS_Store) are left out.

    Links are followed, to each folder once and never to one that has this one in it.

    Raises:
      OSError: a folder may not be read; os.walk alone would pass over it.
    """

    def fail(error: OSError) -> None:
        raise error

    found, visited = [], {str(parent) for parent in folder.resolve().parents}
    for below, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(below)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        found += [Path(below, name) for name in names if not name.startswith(".")]
    yield from sorted(found)


def find(paths: Sequence[Path]) -> Iterator[Path]:
    """Yields the files among `paths`, and all image files below the folders, sorted.

    Raises:
      UserError: a path is not there, or a folder has no images.
    """
    for path in paths:
        if path.is_dir():
            files = [file for file in walk(path) if is_image(file)]
            if not files:
                suffixes = ", ".join(SUFFIXES)
                raise UserError(f"no images in {path} (looked for {suffixes})")
            yield from files
        elif path.exists():
            yield path
        else:
            raise UserError(f"no file {str(path)!r}")
