"""The checkpoints of a run: which there are, the newest good one, and going on from it.

A checkpoint is a directory, WORKDIR/checkpoints/STEP where a run made it, with the items `state`
(nested dictionaries of arrays) and `description` (JSON: what the state is, see `description.py`).
Orbax gives the directory its name when all of it is written. While a checkpoint is written in the
place of another one of the same step, the older one is called STEP.replaced.

`repair_and_restore` and `CheckpointWriter` rename, move and delete folders; all else only reads.
"""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.checkpoints.reading import (
    Checkpoint,
    Tree,
    check_metadata,
    check_metrics,
    read,
    read_description,
)
from inception_jax.checkpoints.writing import CheckpointWriter, write
from inception_jax.storage.workdir import REPLACED

__all__ = [
    "Checkpoint",
    "CheckpointWriter",
    "Restored",
    "checkpoints_in",
    "read",
    "read_description",
    "read_newest",
    "read_step",
    "repair_and_restore",
    "steps",
    "write",
]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
    """The part of a verified checkpoint that was asked for, and the checkpoint's description."""

    tree: Tree
    description: dict[str, Any]


def checkpoints_in(directory: Path) -> dict[int, Path]:
    """Folders that have the names of checkpoints, by step, ascending; damaged ones included.

    STEP.replaced stands for STEP where a run was killed while it wrote the latter.
    """
    if not directory.is_dir():
        return {}
    paths = {path.name: path for path in directory.iterdir()}
    names = {name.removesuffix(REPLACED) for name in paths}
    numbers = sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))
    return {step: paths.get(str(step)) or paths[f"{step}{REPLACED}"] for step in numbers}


def steps(directory: Path) -> list[int]:
    """The steps of `checkpoints_in`."""
    return list(checkpoints_in(directory))


def read_step(checkpoint: Path) -> Checkpoint:
    """Reads a checkpoint of a run, which must be of the step in its name, and verifies it.

    Raises:
      UserError: it cannot be read for a reason that is not damage.
      DamagedCheckpointError: it is not what was saved, or is a copy of another step.
    """
    if not checkpoint.is_dir():
        raise DamagedCheckpointError("it is not a folder")
    read_one = read(checkpoint)
    step = read_one.description["step"]
    if checkpoint.name.removesuffix(REPLACED) != str(step):
        raise DamagedCheckpointError(f"it is a copy of step {step}")
    check_metrics(checkpoint, read_one.description)
    check_metadata(checkpoint, read_one.description)
    return read_one


def read_newest(directory: Path) -> Checkpoint | None:
    """Reads the newest undamaged checkpoint of a run, and moves nothing.

    Damaged ones are named in the log and passed over.

    Raises:
      UserError: a file of one that is newer cannot be read.
    """
    passed_over: set[Path] = set()
    while paths := {s: p for s, p in checkpoints_in(directory).items() if p not in passed_over}:
        step, path = max(paths.items())
        try:
            return read_step(path)
        except DamagedCheckpointError as error:
            log.warning(f"checkpoint {step} is damaged ({error}); falling back to an older one")
            passed_over.add(path)
    return None


def repair_and_restore(directory: Path, target: Tree, set_aside: Path) -> Restored | None:
    """Restores the newest undamaged checkpoint; moves damaged ones to `set_aside`.

    For the process that trains in the run. Older checkpoints are verified, too, since Orbax reads
    some of their files. STEP.replaced gets its name back where there is no STEP.

    Returns:
      The state and its description; None if there is no undamaged checkpoint.

    Raises:
      UserError: a checkpoint cannot be read for a reason that is not damage: nothing of it is
        moved.
    """
    _put_back_replaced(directory)
    found, restored = checkpoints_in(directory), None
    for step, path in reversed(found.items()):
        try:
            checkpoint = read_step(path)
            if restored is None:
                restored = Restored(checkpoint.take(target), checkpoint.description)
                log.info(f"resuming from {path}")
        except DamagedCheckpointError as error:
            moved = _move_aside(path, set_aside)
            log.warning(f"checkpoint {step} is damaged ({error}); moved it to {moved}")
    if found and restored is None:
        log.warning("no checkpoint is undamaged: starting from step 0")
    return restored


def _put_back_replaced(directory: Path) -> None:
    """Puts STEP.replaced back where STEP is missing, and deletes it where STEP is whole."""
    for replaced in directory.glob(f"*{REPLACED}"):
        checkpoint = replaced.with_name(replaced.name.removesuffix(REPLACED))
        if checkpoint.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(checkpoint)


def _move_aside(checkpoint: Path, set_aside: Path) -> Path:
    set_aside.mkdir(parents=True, exist_ok=True)
    target, number = set_aside / checkpoint.name, 1
    while target.exists():
        number += 1
        target = set_aside / f"{checkpoint.name}-{number}"
    return Path(shutil.move(checkpoint, target))
