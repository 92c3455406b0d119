"""Opens a checkpoint as a model: network, weights, config and names of the classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import check_format
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.config import compatibility, task_registry
from inception_jax.config.load import override_config
from inception_jax.config.resolve import resolve
from inception_jax.errors import UsageError, UserError
from inception_jax.models.network import Network, build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.storage import workdir


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A network with its weights on the devices, its resolved config and its label names."""

    checkpoint: Path
    step: int
    config: ConfigDict
    class_names: tuple[str, ...]
    network: Network
    params: Any
    batch_stats: Any
    weights: str  # average | raw
    description: dict[str, Any]  # of the checkpoint, see `description.py`
    digest: str  # SHA-256: checkpoints that have the same are the same


def load(
    checkpoint: Path | store.Checkpoint,
    mesh: Mesh,
    weights: str | None = None,
    *,
    overrides: Sequence[str] = (),
) -> LoadedModel:
    """Loads the weights of a checkpoint, verified.

    Args:
      checkpoint: WORKDIR/checkpoints/STEP or any directory of the same form; or what
        `store.read` has returned for it.
      mesh: where to put the weights.
      weights: average (Polyak) or raw; None takes the average where the run kept one.
      overrides: --config.a.b=value, on top of the config in the checkpoint.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
      UsageError: it has no averaged weights, or an override does not fit.
    """
    path = checkpoint if isinstance(checkpoint, Path) else checkpoint.path
    try:
        found = store.read(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        description = found.description
        check_format(description)
        config = resolve(override_config(_config(path, description["config"]), overrides))
        task_registry.task_module(config.task).make_task(config).check_description(description)
        network = build(network_config(config))
        averaged = config.training.average_decay > 0
        if weights == "average" and not averaged:
            raise UsageError(f"{path} has no averaged weights (training.average_decay is 0)")
        weights = weights or ("average" if averaged else "raw")
        values = {"params": network.params, "batch_stats": network.batch_stats}
        target = {"average": values} if weights == "average" else values
        tree = devices.replicate(found.take(target), mesh)
    except DamagedCheckpointError as error:
        raise UserError(f"{path} is not a good checkpoint: {error}") from error
    values = tree["average"] if weights == "average" else tree
    return LoadedModel(
        checkpoint=path,
        step=description["step"],
        config=config,
        class_names=tuple(description["class_names"]),
        network=network,
        params=values["params"],
        batch_stats=values["batch_stats"],
        weights=weights,
        description=description,
        digest=found.digest,
    )


def _config(checkpoint: Path, values: dict[str, Any]) -> ConfigDict:
    try:
        return compatibility.from_dict(values)
    except UsageError as error:
        raise UserError(
            f"{checkpoint} has a config that this version cannot read: {error}"
        ) from error


def newest_in(run: Path) -> store.Checkpoint:
    """Reads the newest good checkpoint of a run.

    Raises:
      UserError: there is no good checkpoint.
    """
    folder = run / workdir.CHECKPOINTS
    checkpoint = store.read_newest(folder)
    if checkpoint is None:
        raise UserError(f"no good checkpoint in {folder}: train first")
    return checkpoint
