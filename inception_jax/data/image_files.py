"""Image files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image(path: Path) -> bool:
    """By its name alone, in any case."""
    return path.suffix.lower() in SUFFIXES


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, at any depth, sorted; hidden ones (.DS_Store) left out.

    Links are followed, to each folder once and never to one that has this one in it.

    Raises:
      OSError: a folder that may not be read; os.walk alone would pass over it.
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
