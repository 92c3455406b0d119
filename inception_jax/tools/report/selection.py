"""Finds the folders of runs that a command line names."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from inception_jax.errors import UserError
from inception_jax.storage import workdir


def find(folders: Sequence[Path]) -> list[Path]:
    """Returns each run once; a folder of runs or sweeps stands for all folders in it.

    Raises:
      UserError: a folder does not exist, or its sweep.json cannot be read.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        found += _runs_in(folder) or [folder]
    unique = {os.path.realpath(path): path for path in found}
    return list(unique.values())


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself, the runs of its sweep, or all folders in it if one of them has runs."""
    if os.path.lexists(folder / workdir.CONFIG):
        return [folder]
    if os.path.lexists(folder / workdir.SWEEP):
        return [folder / name for name in _runs_of_sweep(folder / workdir.SWEEP)]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    runs = {path: _runs_in(path) for path in inside if not path.is_symlink()}
    if not any(runs.values()):
        return []
    return [one for path in inside for one in runs.get(path) or [path]]


def _runs_of_sweep(path: Path) -> list[str]:
    try:
        names = [run["name"] for run in json.loads(path.read_text())["runs"]]
        if all(Path(name).name == name for name in names):
            return names
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{path} is not what a sweep writes: name the runs themselves")


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
