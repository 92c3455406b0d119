"""Writes the files of a run: metrics, TensorBoard, checkpoints."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from inception_jax.checkpoints import store
from inception_jax.storage import workdir
from inception_jax.training.metrics_log import MetricsLog
from inception_jax.training.state import TrainState, to_tree


class RunWriter:
    """Writes metrics and checkpoints of one run."""

    def __init__(self, metrics: MetricsLog, checkpoints: store.CheckpointWriter):
        """Takes both, opened."""
        self._metrics, self._checkpoints = metrics, checkpoints

    def write(
        self, step: int, values: Mapping[str, Any], split: str | None = None, evaluation: str = ""
    ) -> None:
        """Writes a line of metrics: see `MetricsLog.write`."""
        self._checkpoints.check()  # a save that failed is not to be found out at the next one
        self._metrics.write(step, values, split, evaluation)

    def save(
        self, step: int, state: TrainState, description: dict[str, Any], score: float | None = None
    ) -> None:
        """Writes a checkpoint: see `CheckpointWriter.save`."""
        self._checkpoints.save(step, to_tree(state), description, score)


@contextlib.contextmanager
def open_run_writer(
    folder: Path, checkpoints: ConfigDict, resume_step: int, *, evaluated: bool, ranked_by: str
) -> Iterator[RunWriter]:
    """Opens the writer of a run that goes on after `resume_step`; at the end all is on disk.

    Args:
      folder: of the run.
      checkpoints: the config's section: how many to keep.
      resume_step: what an interrupted run has written of later steps is dropped.
      evaluated: False drops evaluations of `resume_step`, which are made again.
      ranked_by: the metric whose best checkpoints are kept.
    """
    with (
        MetricsLog(folder, resume_step=resume_step, evaluated=evaluated) as metrics,
        store.CheckpointWriter(
            folder / workdir.CHECKPOINTS,
            keep_last=checkpoints.keep_last,
            keep_best=checkpoints.keep_best,
            ranked_by=ranked_by,
        ) as writer,
    ):
        yield RunWriter(metrics, writer)
