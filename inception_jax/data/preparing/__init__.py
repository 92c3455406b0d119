"""Data sets to ArrayRecord files in TFDS's layout: one builder a module."""

from collections.abc import Callable
from pathlib import Path

from inception_jax.data.preparing import digits

# What `prepare NAME` runs: data_dir -> the folder that was made.
PREPARERS: dict[str, Callable[[Path], Path]] = {"digits": digits.prepare}
