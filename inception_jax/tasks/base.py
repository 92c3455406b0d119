"""The interface of a task: all that a run asks about what is learned.

`training/` drives a task without knowing which one: it opens the split, reads the batch of each
step, takes the step, tests, ranks checkpoints and writes their description. A task never sees the
loop, saving, processes or signals; its evaluations only say when a batch is done.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data import order
from inception_jax.data.read_ahead import HostBatch
from inception_jax.models.googlenet import Outputs
from inception_jax.models.network import Network, Tree
from inception_jax.runtime import preemption, watchdog

Inputs = dict[str, Any]  # arrays on the device; "image" is the network's input
Metrics = dict[str, Any]  # numbers by name


class Split(Protocol):
    """An opened split of a data set; how its examples are read is the task's business."""

    fingerprint: str  # changes when the data changes

    def __len__(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A test of weights on one split, opened once and run often."""

    # (params, batch_stats) -> the task's metrics, and `examples`, the number tested. It calls
    # `between_batches` after each batch, equally often in all processes.
    run: Callable[[Tree, Tree], Metrics]
    fingerprint: str  # of the split's data


def between_batches() -> None:
    """Says that an evaluation makes progress, and lets SIGTERM stop it.

    Raises:
      PreemptedError: it is time to stop, in all processes at the same call.
    """
    watchdog.beat()
    preemption.check()


class Task(abc.ABC):
    """The base class of tasks; a task is made for one resolved config."""

    # Ranks checkpoints: a metric of `evaluator`, higher is better.
    primary_metric: ClassVar[str]
    # The metrics that a line of the log shows: {name: what people call it}.
    metric_names: ClassVar[Mapping[str, str]]

    def __init__(self, config: ConfigDict):
        """Keeps a resolved config; nothing is opened yet."""
        self.config = config

    @abc.abstractmethod
    def open(self, split: str) -> Any:
        """Opens a split (a `Split`) of the config's data, by its name, slices allowed.

        Raises:
          UserError, UsageError: the data is not there, or does not fit the config.
        """

    @abc.abstractmethod
    def read(self, source: Any, step: int, part: slice, buffers: Any = None) -> HostBatch:
        """Reads rows `part` of the global batch of step `step` (from 0), on the host.

        A pure function of its arguments: threads call it ahead of time, and a run that resumes
        calls it again. Besides what the task wants a batch has `image`, `index` int64 [rows]
        (example numbers) and `replaced` bool [rows], True where another example stands in for an
        unreadable one.

        Args:
          source: what `open` returned.
          step: number of the step.
          part: rows of this process.
          buffers: what `buffers` returned; without it new memory is taken.
        """

    def buffers(self, rows: int) -> Any:
        """Returns memory that batches of `rows` rows may reuse, or None."""
        del rows

    @abc.abstractmethod
    def prepare(self, batch: Mapping[str, Any], key: jax.Array) -> Inputs:
        """Turns a batch into inputs of the network, on the devices; traced as part of the step.

        Args:
          batch: what `read` returned, on the devices.
          key: of the step.

        Returns:
          `image`, normalised, [batch, size, size, 3]; and all that `loss` needs.
        """

    @abc.abstractmethod
    def loss(self, outputs: Outputs, inputs: Inputs) -> tuple[jax.Array, Metrics]:
        """Returns the loss, float32 scalar, and other float32 scalars of this batch by name."""

    @abc.abstractmethod
    def evaluator(self, network: Network, evaluation: ConfigDict, mesh: Mesh) -> Evaluator:
        """Opens an evaluation.

        Args:
          network: whose weights are tested.
          evaluation: a section like `config.evaluation`.
          mesh: the devices.
        """

    def description(self, source: Any) -> dict[str, Any]:
        """Returns what checkpoints say about this task's data, as JSON, such as class names."""
        del source
        return {}

    def check_description(self, description: Mapping[str, Any]) -> None:
        """Raises DamagedCheckpointError if a checkpoint's description does not fit its config."""
        del description

    def titles(self, source: Any, batch: Mapping[str, Any]) -> Sequence[str]:
        """Returns a title for each image of a host batch, for pictures."""
        del source
        return [str(index) for index in batch["index"]]

    def examples_of(self, step: int, source: Any) -> np.ndarray:
        """Returns the numbers of the examples that step `step` (from 0) trains on, for messages."""
        config = self.config
        return order.batch_order(config.seed, step, config.data.batch_size, len(source))[1]

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """Writes the metrics that `metric_names` lists, for a line of the log."""
        return ", ".join(f"{name} {metrics[key]:.4f}" for key, name in self.metric_names.items())
