"""A run's folder: what lies where, and whose it is."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from inception_jax import configuration, json_files
from inception_jax.errors import UsageError, UserError


def checkpoints_in(workdir: Path) -> Path:
    """Folder with one folder a saved step."""
    return workdir / "checkpoints"


def damaged_checkpoints_in(workdir: Path) -> Path:
    """Where checkpoints that failed verification are moved."""
    return workdir / "damaged_checkpoints"


def results_in(workdir: Path) -> Path:
    """Folder with the results of evaluations, JSON."""
    return workdir / "results"


def claim(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder and writes config.json, or checks that the run in it is of this config.

    Raises:
      UsageError: it belongs to another config; the differing fields are named.
    """
    path = workdir / "config.json"
    new = configuration.to_dict(config)
    if path.exists():
        try:
            old = json.loads(path.read_text())
        except ValueError:
            raise UserError(f"{path} is not readable as JSON: move {workdir} away") from None
        if changed := configuration.differences(old, new):
            fields = ", ".join(f"{name} was {a!r}, is {b!r}" for name, (a, b) in changed.items())
            raise UsageError(f"{workdir} has a run of another config ({fields}): use another one")
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        json_files.replace(path, json_files.to_text(new, indent=2) + "\n")
