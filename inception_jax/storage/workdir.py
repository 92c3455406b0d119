"""A run's folder: the names of its files, and the lock and config that keep others out."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inception_jax.config import compatibility
from inception_jax.errors import UsageError, UserError
from inception_jax.storage import json_files, locks

CONFIG, METRICS, TENSORBOARD, LOGS = "config.json", "metrics.jsonl", "tensorboard", "logs"
CHECKPOINTS = "checkpoints"  # one folder a saved step
REPLACED = ".replaced"  # is added to the name of a checkpoint while its successor is written
DAMAGED_CHECKPOINTS = "damaged_checkpoints"  # those that failed verification are moved here
MODEL = "model.json"  # what the network costs, as `describe --json` prints it
RESULTS = "results"  # of evaluations, JSON
PREVIEW = "preview.png"  # what the network is shown in training
SWEEP = "sweep.json"  # in a folder of runs: which they are


def of_checkpoint(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to, or else the folder it lies in."""
    checkpoint = checkpoint.resolve()
    parent = checkpoint.parent
    step = checkpoint.name.removesuffix(REPLACED)
    of_a_run = parent.name == CHECKPOINTS and step.isdecimal()
    return parent.parent if of_a_run else parent


@contextlib.contextmanager
def claim(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Makes the folder with its config.json, or checks that the run in it has this config.

    Within the block no other process can claim the folder.

    Raises:
      UsageError: it belongs to another config; the differing fields are named.
      UserError: another process is training in it.
    """
    with locks.hold(folder, "training"):
        path = folder / CONFIG
        if path.exists():
            check_same(folder, read_config(path), config)
        else:
            json_files.replace(path, json_files.to_text(config, indent=2) + "\n")
        yield


def check_same(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises UsageError, naming the differing fields, if `new` is not the config of the run."""
    if changed := compatibility.differences(old, new):
        fields = ", ".join(f"{name} was {a!r}, is {b!r}" for name, (a, b) in changed.items())
        raise UsageError(f"{folder} has a run of another config ({fields}): use another --workdir")


def read_config(path: Path) -> dict[str, Any]:
    """Reads a config.json.

    Raises:
      UserError: the file is not a JSON object.
    """
    try:
        config = json.loads(path.read_text())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object: move {path.parent} away")
    return config
