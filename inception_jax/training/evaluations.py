"""The evaluations of a run: the first ranks its checkpoints, named ones follow."""

import dataclasses
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.config.resolve import evaluation_sections
from inception_jax.models.network import Network
from inception_jax.tasks.base import Evaluator, Task
from inception_jax.training.state import TrainState
from inception_jax.training.timetable import interval
from inception_jax.training.weight_averaging import inference_weights


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation, and how often it is made."""

    name: str  # "" for the first, config.evaluation; else its name in config.evaluations
    split: str
    every: int  # steps
    evaluator: Evaluator

    def run(self, state: TrainState) -> dict[str, Any]:
        """Tests the averaged weights where there are any, else the newest ones."""
        return self.evaluator.run(*inference_weights(state))


def open_evaluations(
    task: Task, network: Network, config: ConfigDict, examples: int, mesh: Mesh
) -> list[Evaluation]:
    """Opens `config.evaluation` and those of `config.evaluations`, in this order.

    Args:
      task: what is tested.
      network: whose weights are tested.
      config: resolved.
      examples: of the training split, for durations in epochs.
      mesh: the devices.
    """
    found = []
    for name, section in evaluation_sections(config).items():
        field = f"evaluations.{name}.every" if name else "evaluation.every"
        every = interval(field, section.every, config, examples)
        found.append(Evaluation(name, section.split, every, task.evaluator(network, section, mesh)))
    return found
