"""Saving, finding and restoring checkpoints. The only module that knows Orbax.

A checkpoint is a directory, WORKDIR/checkpoints/STEP where a run made it, with the items `state`
(nested dictionaries of arrays) and `description` (JSON: what the state is, see `describe.py`).

Everything here is done by one process for itself, without waiting for others: a state is the same
in all of them, so that one writes it, and arrays are read to the host.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from inception_jax.checkpoints import integrity
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError
from inception_jax.storage import disk

log = logging.getLogger(__name__)

Tree = dict[str, Any]

# Added to the name of a checkpoint that another one of the same step is to replace.
_REPLACED = ".replaced"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A verified checkpoint: nested dictionaries of arrays, and what it says of itself."""

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
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                multiprocessing_options=_alone(),
                create=False,
            ),
        )

    def save(self, step: int, tree: Tree, description: dict, score: float | None = None) -> None:
        """Copies the state to the host and returns; writing goes on behind.

        Args:
          step: finished updates; names the checkpoint.
          tree: nested dictionaries of arrays.
          description: JSON; the step and the arrays' checksums are added.
          score: `ranked_by` in an evaluation of this very state, if there was one.

        Raises:
          UserError: there is no room for this one, or was none for the one before it.
        """
        self._wait()  # one save at a time: the seal belongs to one step
        if step in self._manager.all_steps():  # saved when it was interrupted, evaluated now
            self._replaced = self._directory / f"{step}{_REPLACED}"
            (self._directory / str(step)).rename(self._replaced)
            self._manager.reload()
        # Own copies: the next training step reuses the memory behind the state.
        host = jax.tree.map(functools.partial(np.array, copy=True), tree)
        self._saving, self._bytes = step, _bytes(host)
        description = description | {"step": step, "arrays": integrity.describe_arrays(host)}
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(host), description=ocp.args.JsonSave(description)
                ),
                metrics=None if score is None else {self._ranked_by: score},
                force=True,
            )

    def check(self) -> None:
        """Raises what a save has failed of behind the caller's back; waits for none.

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
        """Makes one line of a full disk, and clears away what was begun."""
        needed = f"checkpoint {self._saving} takes up to {disk.megabytes(self._bytes)}"
        with disk.writing(self._directory, needed):
            try:
                yield
            except Exception:
                for unfinished in self._unfinished():
                    shutil.rmtree(unfinished, ignore_errors=True)
                raise

    def _unfinished(self) -> list[Path]:
        return list(self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"))

    def _seal(self) -> None:
        """Called by Orbax when all files are written and the directory has no final name yet.

        All but one: its metadata, which a thread of its own may be writing (no public name to wait
        for it); sealed before, a good checkpoint would be damaged.
        """
        self._manager._non_blocking_metadata_store.wait_until_finished()
        (unfinished,) = self._unfinished()
        integrity.seal(unfinished)

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
            if str(error) != str(first):  # not to hide the cause
                log.error(f"and the last checkpoint was not written: {error}")


def write(directory: Path, tree: Tree, description: dict[str, Any]) -> None:
    """Writes a checkpoint that belongs to no run: `directory` itself, of step 0.

    It gets its name when it is complete: a process that is killed leaves none of that name.

    Args:
      directory: not there, or empty; folders above it are made.
      tree: nested dictionaries of arrays.
      description: JSON; the step and the arrays' checksums are added.
    """
    host = jax.tree.map(np.asarray, tree)
    description = description | {"step": 0, "arrays": integrity.describe_arrays(host)}
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    needed = f"the checkpoint takes up to {disk.megabytes(_bytes(host))}"
    with (
        disk.writing(directory.parent, needed),
        tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as folder,
    ):
        unfinished = Path(folder) / directory.name
        handler = ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(multiprocessing_options=_alone())
        )
        with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
            checkpointer.save(
                unfinished,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(host), description=ocp.args.JsonSave(description)
                ),
            )
        integrity.seal(unfinished)
        unfinished.rename(directory)


def _alone() -> ocp.options.MultiprocessingOptions:
    """For Orbax: this process waits for no other."""
    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process_{this}"
    )


def _bytes(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def steps(directory: Path) -> list[int]:
    """The numbers in `directory` that look like checkpoints, ascending; damaged ones included."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def verify(checkpoint: Path) -> None:
    """Raises DamagedCheckpointError if a file has changed or it is not of the step of its name."""
    if not checkpoint.is_dir():
        raise DamagedCheckpointError("it is no folder")
    step = read_description(checkpoint)["step"]
    if checkpoint.name != str(step):
        raise DamagedCheckpointError(f"it is a copy of step {step}")


def read_description(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, after verifying that nothing in it has changed.

    Raises:
      UserError: `checkpoint` is no checkpoint directory.
      DamagedCheckpointError: a file is missing or changed.
    """
    if not checkpoint.exists():
        raise UserError(f"no checkpoint directory {str(checkpoint)!r}")
    integrity.verify_seal(checkpoint)
    item = checkpoint.absolute() / "description"
    with _reading(checkpoint):
        checkpointer = ocp.Checkpointer(
            ocp.JsonCheckpointHandler(multiprocessing_options=_alone()),
            multiprocessing_options=_alone(),
        )
        try:
            description = checkpointer.restore(item)
        except (ValueError, RecursionError):
            raise DamagedCheckpointError("its description is no JSON") from None
    integrity.check_description(description)
    return description


def restore(checkpoint: Path, target: Tree) -> Restored:
    """Reads the arrays that `target` names to the host and verifies them.

    Args:
      checkpoint: the directory.
      target: nested dictionaries of shapes and dtypes; a part of what was saved will do.

    Raises:
      UserError: it holds other arrays than `target`.
      DamagedCheckpointError: a file or an array is missing or changed.
    """
    description = read_description(checkpoint)
    _check_same_arrays(checkpoint, target, description["arrays"])
    arguments = ocp.args.PyTreeRestore(
        item=target,
        restore_args=jax.tree.map(
            lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), target
        ),
        partial_restore=True,
    )
    checkpointer = ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone()),
        multiprocessing_options=_alone(),
    )
    with _reading(checkpoint):
        tree = checkpointer.restore(checkpoint.absolute() / "state", args=arguments)
    integrity.verify_arrays(tree, description["arrays"])
    return Restored(tree, description)


@contextlib.contextmanager
def _reading(checkpoint: Path) -> Iterator[None]:
    """A run may delete a checkpoint while another process reads it, and Orbax fails in many ways.

    Raises:
      DamagedCheckpointError: it is not what it was.
      UserError: it is, and yet cannot be read.
    """
    try:
        yield
    except Exception as error:
        integrity.verify_seal(checkpoint)
        if isinstance(error, DamagedCheckpointError):
            raise
        why = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
        raise UserError(
            f"{checkpoint} cannot be read, although nothing in it has changed since it was "
            f"written: {why}"
        ) from error


def _check_same_arrays(checkpoint: Path, target: Tree, described: dict[str, Any]) -> None:
    for path, leaf in jax.tree.leaves_with_path(target):
        name = "/".join(str(key.key) for key in path)
        found = described.get(name)
        if found is None:
            raise UserError(f"{checkpoint} has no array {name}: another model made it")
        if tuple(found["shape"]) != leaf.shape:
            raise UserError(
                f"{checkpoint} has {name} of shape {found['shape']}, "
                f"the model needs {list(leaf.shape)}: another model made it"
            )


def newest_good(directory: Path) -> Path | None:
    """The newest undamaged checkpoint in `directory`; passed-over ones are named in the log."""
    for step in reversed(steps(directory)):
        try:
            verify(directory / str(step))
            return directory / str(step)
        except DamagedCheckpointError as error:
            log.warning(f"checkpoint {step} is damaged ({error}); falling back to an older one")
    return None


def restore_newest(directory: Path, target: Tree, set_aside: Path) -> Restored | None:
    """Restores the newest good checkpoint; moves damaged ones to `set_aside`, losing nothing.

    Older ones are verified, too: what Orbax is then told to look after is sound.

    Returns None if there is no good checkpoint.
    """
    _put_back_replaced(directory)
    found, restored = steps(directory), None
    for step in reversed(found):
        checkpoint = directory / str(step)
        try:
            verify(checkpoint)
            if restored is None:
                restored = restore(checkpoint, target)
                log.info(f"resuming from {checkpoint}")
        except DamagedCheckpointError as error:
            moved = _move_aside(checkpoint, set_aside)
            log.warning(f"checkpoint {step} is damaged ({error}); moved it to {moved}")
    if found and restored is None:
        log.warning("no checkpoint is undamaged: starting from step 0")
    return restored


def _put_back_replaced(directory: Path) -> None:
    """Where a checkpoint was being written in the place of another, one of the two is whole."""
    for replaced in directory.glob(f"*{_REPLACED}"):
        checkpoint = replaced.with_name(replaced.name.removesuffix(_REPLACED))
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
