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

    Raises:
      OSError: a folder that may not be read; os.walk alone would pass over it.
    """

    def fail(error: OSError) -> None:
        raise error

    found = (
        Path(below, name)
        for below, _, names in os.walk(folder, onerror=fail, followlinks=True)
        for name in names
        if not name.startswith(".")
    )
    yield from sorted(found)
