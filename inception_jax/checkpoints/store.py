"""Saving, finding and restoring checkpoints. The only module that knows Orbax.

A checkpoint is a directory, WORKDIR/checkpoints/STEP where a run made it, with the items `state`
(nested dictionaries of arrays) and `description` (JSON: what the state is, see `describe.py`).
Orbax gives the directory its name when all of it is written. While a checkpoint is written in the
place of another one of the same step, the older one is called STEP.replaced.

Each process does everything here for itself, without waiting for others: a state is the same in all
of them, so that one writes it, and arrays are read to the host.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
import math
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from inception_jax.checkpoints import integrity, sealed
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError
from inception_jax.storage import disk
from inception_jax.storage.workdir import REPLACED

log = logging.getLogger(__name__)

Tree = dict[str, Any]

_ORBAX = "orbax-checkpoint"
_ORBAX_VERSION = importlib.metadata.version(_ORBAX)
_DELETED = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole and verified.

    Attributes:
      path: its directory.
      description: the JSON that was saved with the arrays.
      arrays: on the host, by their names, as "params/inception_3a/1x1/kernel".
      digest: SHA-256; two checkpoints that have the same are the same.
    """

    path: Path
    description: dict[str, Any]
    arrays: dict[str, np.ndarray]
    digest: str

    def take(self, target: Tree) -> Tree:
        """Returns the arrays that `target` names.

        Args:
          target: nested dictionaries of shapes and dtypes; a part of what was saved will do.

        Raises:
          UserError: there are other arrays than `target`.
        """

        def find(keys: tuple[Any, ...], leaf: Any) -> np.ndarray:
            name = "/".join(str(key.key) for key in keys)
            found = self.arrays.get(name)
            if found is None:
                raise UserError(f"{self.path} has no array {name}: another model made it")
            if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
                raise UserError(
                    f"{self.path} has {name} of shape {list(found.shape)} and {found.dtype}, the "
                    f"model needs {list(leaf.shape)} and {leaf.dtype}: another model made it"
                )
            return found

        return jax.tree.map_with_path(find, target)


@dataclasses.dataclass(frozen=True)
class Restored:
    """The part of a verified checkpoint that was asked for, and the checkpoint's description."""

    tree: Tree
    description: dict[str, Any]


class CheckpointWriter:
    """Writes in the background; keeps the newest `keep_last` and the `keep_best` of highest score.

    Close it (or use it in a `with`) to be sure that the last one is complete.
    """

    def __init__(self, directory: Path, *, keep_last: int, keep_best: int, ranked_by: str):
        self._directory = directory.absolute()
        disk.make_folder(self._directory)  # Orbax makes it with all processes
        self._saving: int | None = None
        self._replaced: Path | None = None
        self._bytes = 0
        self._ranked_by = ranked_by
        policies = checkpoint_managers
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True,
                best_fn=self._ranking,
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(keep_last),
                        policies.BestN(
                            get_metric_fn=self._ranking,
                            n=keep_best,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                multiprocessing_options=_without_other_processes(),
                create=False,
            ),
        )

    def save(self, step: int, tree: Tree, description: dict, score: float | None = None) -> None:
        """Copies the state to the host and returns; writing goes on behind.

        Args:
          step: finished updates; names the checkpoint.
          tree: nested dictionaries of arrays.
          description: JSON; the step, the score and the checksums are added.
          score: `ranked_by` in an evaluation of this very state, if there was one.

        Raises:
          UserError: there is no room for this one, or was none for the one before it.
        """
        self._wait()
        if step in self._manager.all_steps():  # saved when it was interrupted, evaluated now
            self._replaced = self._directory / f"{step}{REPLACED}"
            (self._directory / str(step)).rename(self._replaced)
            self._manager.reload()
        # Own copies: the next training step reuses the memory behind the state.
        host = jax.tree.map(functools.partial(np.array, copy=True), tree)
        self._saving, self._bytes = step, _bytes(host)
        metrics = None if score is None else {self._ranked_by: score}
        description = _complete(description | {"metrics": metrics}, step, host)
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(host), description=ocp.args.JsonSave(description)
                ),
                metrics=metrics,
                force=True,
            )

    def check(self) -> None:
        """Raises the error of a save that has failed in the background; does not wait for a save.

        Raises:
          UserError: there is no room.
        """
        if not self._manager.is_saving_in_progress():
            self._wait()

    def _ranking(self, metrics: dict[str, float]) -> float:
        """Ranks a checkpoint; a non-finite metric must never look like the best one."""
        score = metrics[self._ranked_by]
        return score if math.isfinite(score) else -math.inf

    def _wait(self) -> None:
        with self._writing():
            self._manager.wait_until_finished()
        self._drop_replaced()

    def _drop_replaced(self) -> None:
        if self._replaced is not None:
            shutil.rmtree(self._replaced)
            self._replaced = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Makes one line of the error of a full disk, and deletes the unfinished checkpoint."""
        needed = f"checkpoint {self._saving} takes up to {disk.megabytes(self._bytes)}"
        with disk.writing(self._directory, needed):
            try:
                yield
            except Exception:
                for path in self._directory.glob(f"{self._saving}.*"):
                    if path != self._replaced:  # Orbax adds to the name until all is written
                        shutil.rmtree(path, ignore_errors=True)
                raise

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, first: BaseException | None, _: object
    ) -> None:
        try:
            with self._writing():
                self._manager.close()
            self._drop_replaced()
        except Exception as error:
            if kind is None:
                raise
            if str(error) != str(first):  # the first error is the cause: it is raised
                log.error(f"and the last checkpoint was not written: {error}")


def write(directory: Path, tree: Tree, description: dict[str, Any]) -> None:
    """Writes a checkpoint that does not belong to a run: `directory` itself, of step 0.

    It gets its name when it is complete: a process that is killed leaves nothing of that name.

    Args:
      directory: not there, or empty; folders above it are made.
      tree: nested dictionaries of arrays.
      description: JSON; the step and the checksums are added.

    Raises:
      UserError: there is no room.
    """
    host = jax.tree.map(np.asarray, tree)
    description = _complete(description, 0, host)
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    needed = f"the checkpoint takes up to {disk.megabytes(_bytes(host))}"
    with (
        disk.writing(directory.parent, needed),
        tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as folder,
    ):
        unfinished = Path(folder) / directory.name
        handler = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(
                multiprocessing_options=_without_other_processes()
            )
        )
        with ocp.Checkpointer(
            handler, multiprocessing_options=_without_other_processes()
        ) as checkpointer:
            checkpointer.save(
                unfinished,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(host), description=ocp.args.JsonSave(description)
                ),
            )
        unfinished.rename(directory)


def _without_other_processes() -> ocp.options.MultiprocessingOptions:
    """Tells Orbax that this process waits for no other."""
    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process_{this}"
    )


def _complete(description: dict[str, Any], step: int, host: Tree) -> dict[str, Any]:
    arrays = integrity.describe_arrays(host)
    return integrity.with_digest(description | {"step": step, "arrays": arrays})


def _bytes(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


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


def read_description(checkpoint: Path) -> dict[str, Any]:
    """Reads and verifies the description of a checkpoint; of format 1 all of its files.

    Raises:
      UserError: there is no such directory, or a file cannot be read.
      DamagedCheckpointError: the description is not what was saved.
    """
    return _read_description(checkpoint)[0]


def read(checkpoint: Path) -> Checkpoint:
    """Reads a checkpoint whole and verifies it.

    Raises:
      UserError: there is no such directory, or it cannot be read for a reason that is not damage.
      DamagedCheckpointError: it is not what was saved; the message names the array or file.
    """
    description, digest = _read_description(checkpoint)
    names = list(description["arrays"])
    with _reading(checkpoint, description):
        restored = _reader(ocp.PyTreeCheckpointHandler).restore(
            checkpoint.absolute() / "state",
            args=ocp.args.PyTreeRestore(
                item=_nested(names, 0),
                restore_args=_nested(names, ocp.RestoreArgs(restore_type=np.ndarray)),
                partial_restore=True,
            ),
        )
        arrays = {name: np.asarray(_find(restored, name)) for name in names}
    integrity.check_arrays(arrays, description["arrays"])
    return Checkpoint(checkpoint, description, arrays, digest)


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
    _check_metrics(checkpoint, read_one.description)
    return read_one


def restore(checkpoint: Path, target: Tree) -> Restored:
    """Reads a checkpoint, verifies it and takes the arrays that `target` names.

    Args:
      checkpoint: the directory.
      target: nested dictionaries of shapes and dtypes; a part of what was saved will do.

    Raises:
      UserError: it holds other arrays than `target`, or see `read`.
      DamagedCheckpointError: see `read`.
    """
    return _restored(read(checkpoint), target)


def _restored(checkpoint: Checkpoint, target: Tree) -> Restored:
    return Restored(checkpoint.take(target), checkpoint.description)


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
                restored = _restored(checkpoint, target)
                log.info(f"resuming from {path}")
        except DamagedCheckpointError as error:
            moved = _move_aside(path, set_aside)
            log.warning(f"checkpoint {step} is damaged ({error}); moved it to {moved}")
    if found and restored is None:
        log.warning("no checkpoint is undamaged: starting from step 0")
    return restored


def _put_back_replaced(directory: Path) -> None:
    """Where a checkpoint was being written in the place of another, one of the two is whole."""
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


def _read_description(checkpoint: Path) -> tuple[dict[str, Any], str]:
    """Returns the verified description, and the digest of the checkpoint."""
    if not checkpoint.exists():
        raise UserError(f"no checkpoint directory {str(checkpoint)!r}")
    if not checkpoint.is_dir():
        raise DamagedCheckpointError("it is not a folder")
    integrity.check_files(checkpoint)
    digest = sealed.verify(checkpoint) if sealed.has_seal(checkpoint) else None
    if not (checkpoint / "description").is_dir():
        raise DamagedCheckpointError("it has no description")
    with _reading(checkpoint):
        description = _read_json(checkpoint / "description")
    digest = digest or integrity.check_digest(description)
    integrity.check_description(description)
    return description, digest


def _check_metrics(checkpoint: Path, description: dict[str, Any]) -> None:
    """Compares the score that Orbax ranks checkpoints by with the one in the description."""
    if "metrics" not in description:  # of format 1, where the seal has proved it, or not of a run
        return
    found, metrics = None, checkpoint / "metrics"
    if metrics.exists():
        with _reading(checkpoint):
            found = _read_json(metrics, "metrics")
    if repr(found) != repr(description["metrics"]):  # NaN does not equal itself
        raise DamagedCheckpointError("its score is not the one in its description")


def _read_json(item: Path, filename: str | None = None) -> Any:
    return _reader(ocp.JsonCheckpointHandler, filename).restore(item.absolute())


def _reader(handler: Callable[..., Any], *arguments: Any) -> ocp.Checkpointer:
    options = _without_other_processes()
    return ocp.Checkpointer(
        handler(*arguments, multiprocessing_options=options), multiprocessing_options=options
    )


def _nested(names: Iterable[str], leaf: Any) -> Tree:
    """The nested dictionaries of arrays of these names, with `leaf` in the place of each array."""
    tree: Tree = {}
    for name in names:
        *folders, last = name.split("/")
        part = tree
        for folder in folders:
            part = part.setdefault(folder, {})
        part[last] = leaf
    return tree


def _find(tree: Tree, name: str) -> Any:
    return functools.reduce(lambda part, key: part[key], name.split("/"), tree)


@contextlib.contextmanager
def _reading(checkpoint: Path, description: dict[str, Any] | None = None) -> Iterator[None]:
    """Tells damage from other reasons why Orbax cannot read: it has an error for each file.

    Args:
      checkpoint: the directory.
      description: of the checkpoint, if it was read before.

    Raises:
      DamagedCheckpointError: all there is can be read, and does not make sense.
      UserError: the system does not give a file, memory and the like, or another version of Orbax
        wrote it.
    """
    try:
        yield
    except Exception as error:
        why = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
        of_format_1 = sealed.has_seal(checkpoint)
        if of_format_1:
            sealed.verify(checkpoint)
        integrity.check_readable(checkpoint)
        of_the_system = isinstance(error, OSError) and not isinstance(error, _DELETED)
        if of_the_system or isinstance(error, MemoryError) or of_format_1:
            raise UserError(f"{checkpoint} cannot be read, but is not damaged: {why}") from error
        if (written_with := _orbax_version(description)) not in (None, _ORBAX_VERSION):
            raise UserError(
                f"{checkpoint} was written with orbax-checkpoint {written_with} and cannot be read "
                f"with {_ORBAX_VERSION} ({why}): install that version, or move the checkpoint away"
            ) from error
        raise DamagedCheckpointError(f"Orbax cannot read it: {why}") from None


def _orbax_version(description: dict[str, Any] | None) -> str | None:
    versions = (description or {}).get("versions")
    return versions.get(_ORBAX) if isinstance(versions, dict) else None
