"""Writing checkpoints: those of a run, in the background, and single ones.

One process writes, without waiting for others: the state is the same in all of them.
"""

import contextlib
import functools
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from inception_jax.checkpoints import integrity
from inception_jax.checkpoints.reading import Tree, without_other_processes
from inception_jax.storage import disk
from inception_jax.storage.workdir import REPLACED

log = logging.getLogger(__name__)


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
                multiprocessing_options=without_other_processes(),
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
                multiprocessing_options=without_other_processes()
            )
        )
        with ocp.Checkpointer(
            handler, multiprocessing_options=without_other_processes()
        ) as checkpointer:
            checkpointer.save(
                unfinished,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(host), description=ocp.args.JsonSave(description)
                ),
            )
        unfinished.rename(directory)


def _complete(description: dict[str, Any], step: int, host: Tree) -> dict[str, Any]:
    arrays = integrity.describe_arrays(host)
    return integrity.with_digest(description | {"step": step, "arrays": arrays})


def _bytes(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
