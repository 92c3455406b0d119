"""Which networks a command is to show images to, and how: flags that evaluate and predict share."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import processes
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from inception_jax.checkpoints.loaded_model import LoadedModel

WEIGHTS = ("average", "raw")  # of a checkpoint: the running average of its weights, or they
AVERAGES = ("probabilities", "max")  # over crops; over networks it is always probabilities


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which networks, with which weights, over which crops: for commands that show them images."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", type=cli.path, help="a run: its newest good checkpoint")
    which.add_argument(
        "--checkpoint",
        type=cli.paths,
        metavar="DIR[,DIR...]",
        help="WORKDIR/checkpoints/STEP, or what convert wrote",
    )
    parser.add_argument("--weights", choices=WEIGHTS, help="default: average if kept")
    parser.add_argument(
        "--crops",
        type=int,
        choices=PROTOCOLS,
        default=1,
        help="of each image; default: 1, the centre",
    )
    parser.add_argument(
        "--average",
        choices=AVERAGES,
        default=AVERAGES[0],
        help="over crops: their mean (default) or maximum",
    )


def load(flags: argparse.Namespace, mesh: "Mesh", overrides: Sequence[str]) -> "list[LoadedModel]":
    """Loads what the flags of `add_flags` name.

    Raises:
      UserError, UsageError: as `loaded_model.load`; networks of different classes.
    """
    from inception_jax.checkpoints import loaded_model  # JAX, which flags need not wait for

    # All processes the same: a run may be writing newer ones meanwhile.
    find = flags.workdir and processes.is_primary()
    newest = loaded_model.newest_in(flags.workdir) if find else None
    if flags.workdir:
        path = Path(processes.broadcast_json(str(newest.path) if newest else None))
    checkpoints = flags.checkpoint or [newest or path]
    models = [
        loaded_model.load(one, mesh, flags.weights, overrides=overrides) for one in checkpoints
    ]
    if [model.digest for model in models] != processes.broadcast_json([m.digest for m in models]):
        raise UserError("its checkpoints are not those of process 0: use a common disk")
    for model in models:
        if model.class_names != models[0].class_names:
            raise UsageError(
                f"{model.checkpoint} has other classes than {models[0].checkpoint}: "
                "their probabilities cannot be averaged"
            )
    return models
