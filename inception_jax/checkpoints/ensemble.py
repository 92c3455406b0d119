"""Flags that name a checkpoint or an ensemble of them, and their loading."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import processes

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from inception_jax.checkpoints.loaded_model import LoadedModel

# Of a checkpoint: the running average of the parameters, or the parameters of the last step.
WEIGHTS = ("average", "raw")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name checkpoints and say which of their weights to take."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=cli.path, help="a run: its newest good checkpoint")
    which.add_argument(
        "--checkpoint",
        type=cli.paths,
        metavar="DIR[,DIR...]",
        help="WORKDIR/checkpoints/STEP, or what convert wrote",
    )
    parser.add_argument("--weights", choices=WEIGHTS, help="default: average if kept")


def load_ensemble(
    flags: argparse.Namespace, mesh: "Mesh", overrides: Sequence[str], *, task: str
) -> "list[LoadedModel]":
    """Loads the networks that the flags of `add_flags` name.

    Args:
      flags: parsed.
      mesh: where to put the weights.
      overrides: --config.a.b=value, on top of the configs in the checkpoints.
      task: name of the task that the command is for.

    Raises:
      UserError, UsageError: as `loaded_model.load`; networks of another task, or of different
        classes.
    """
    from inception_jax.checkpoints import loaded_model  # JAX, which flags need not wait for

    checkpoints = flags.checkpoint
    if flags.workdir:
        # All processes take the same one: a run may be writing newer ones meanwhile.
        newest = loaded_model.newest_in(flags.workdir) if processes.is_primary() else None
        path = Path(processes.broadcast_json(str(newest.path) if newest else ""))
        checkpoints = [newest or path]
    models = [
        loaded_model.load(one, mesh, flags.weights, overrides=overrides) for one in checkpoints
    ]
    if [model.digest for model in models] != processes.broadcast_json([m.digest for m in models]):
        raise UserError("its checkpoints are not those of process 0: use a common disk")
    for model in models:
        check_task(model, task)
        if model.class_names != models[0].class_names:
            raise UsageError(
                f"{model.checkpoint} has other classes than {models[0].checkpoint}: "
                "their probabilities cannot be averaged"
            )
    return models


def check_task(model: "LoadedModel", task: str) -> None:
    """Raises UsageError if a network was trained for another task than `task`."""
    if model.config.task != task:
        raise UsageError(
            f"{model.checkpoint} was trained for the task {model.config.task!r}; this command is "
            f"for {task}"
        )
