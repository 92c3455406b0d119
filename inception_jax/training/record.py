"""What a run leaves on disk: metrics, TensorBoard, checkpoints. One process writes it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from inception_jax.checkpoints import store
from inception_jax.runtime import processes
from inception_jax.storage import workdir
from inception_jax.training.metrics_log import MetricsLog
from inception_jax.training.state import TrainState, to_tree


class Record:
    """Of a job of several processes all but the first have this one, which writes nothing."""

    def write(self, step: int, values: Mapping[str, Any], split: str | None = None) -> None:
        """A line of metrics: see `MetricsLog.write`."""

    def save(
        self, step: int, state: TrainState, description: dict[str, Any], top1: float | None = None
    ) -> None:
        """A checkpoint: see `CheckpointWriter.save`."""


class _FilesRecord(Record):
    def __init__(self, metrics: MetricsLog, checkpoints: store.CheckpointWriter):
        self._metrics, self._checkpoints = metrics, checkpoints

    def write(self, step: int, values: Mapping[str, Any], split: str | None = None) -> None:
        self._checkpoints.check()  # a save that failed is not to be found out at the next one
        self._metrics.write(step, values, split)

    def save(
        self, step: int, state: TrainState, description: dict[str, Any], top1: float | None = None
    ) -> None:
        self._checkpoints.save(step, to_tree(state), description, top1)


@contextlib.contextmanager
def open_record(
    folder: Path, checkpoints: ConfigDict, resume_step: int, *, evaluated: bool
) -> Iterator[Record]:
    """The record of a run that goes on after `resume_step`; all is on disk at the block's end.

    Args:
      folder: of the run.
      checkpoints: how many to keep.
      resume_step: what an interrupted run has written of later steps is dropped.
      evaluated: whether an evaluation that may have been at `resume_step` is complete and saved.
    """
    if not processes.is_primary():
        yield Record()
        return
    with (
        MetricsLog(folder, resume_step=resume_step, evaluated=evaluated) as metrics,
        store.CheckpointWriter(
            folder / workdir.CHECKPOINTS,
            keep_last=checkpoints.keep_last,
            keep_best=checkpoints.keep_best,
        ) as writer,
    ):
        yield _FilesRecord(metrics, writer)
