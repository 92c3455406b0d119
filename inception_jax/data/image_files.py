"""Image files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image(path: Path) -> bool:
    """By its name alone, in any case; hidden files (.DS_Store, ._photo.jpg) are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, at any depth, sorted.

    Raises:
      OSError: a folder that may not be read; os.walk alone would pass over it.
    """

    def fail(error: OSError) -> None:
        raise error

    found = (
        Path(below, name)
        for below, _, names in os.walk(folder, onerror=fail, followlinks=True)
        for name in names
    )
    yield from sorted(found)
