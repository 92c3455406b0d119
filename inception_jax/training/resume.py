"""Finds where a run starts: its newest checkpoint, another run's weights, or initial values."""

from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax import paths
from inception_jax.checkpoints import store
from inception_jax.config import compatibility
from inception_jax.errors import UsageError
from inception_jax.runtime import devices, processes
from inception_jax.storage import workdir
from inception_jax.training import warm_start
from inception_jax.training.state import TrainState, from_tree, to_tree


def resume(
    state: TrainState,
    folder: Path,
    config: ConfigDict,
    description: dict[str, Any],
    mesh: Mesh,
) -> tuple[TrainState, dict[str, Any]]:
    """Reads the newest good checkpoint of this run, else `model.init_from`, else takes `state`.

    The primary process reads it and sends it to the others: all start from the same state.

    Args:
      state: the initial one, on the host.
      folder: of the run.
      config: of the run, resolved.
      description: what this run's checkpoints will say of themselves.
      mesh: the devices.

    Returns:
      The state on the devices, and the description of its checkpoint (empty without one).

    Raises:
      UsageError: the checkpoint is of another config or other data.
    """
    found: dict[str, Any] = {}
    if processes.is_primary():
        state, found = _read_newest(state, folder, config, description, mesh)
    if processes.is_multi_process():
        processes.barrier("process 0 has the state")
        state, found = devices.broadcast_arrays(state), processes.broadcast_json(found)
    return devices.replicate(state, mesh), found


def _read_newest(
    state: TrainState,
    folder: Path,
    config: ConfigDict,
    description: dict[str, Any],
    mesh: Mesh,
) -> tuple[TrainState, dict[str, Any]]:
    restored = store.repair_and_restore(
        folder / workdir.CHECKPOINTS, to_tree(state), folder / workdir.DAMAGED_CHECKPOINTS
    )
    if restored is None:
        if config.model.init_from:
            checkpoint = paths.to_path(config.model.init_from, "model.init_from")
            class_names = tuple(description.get("class_names", ()))
            state = warm_start.start_from(state, checkpoint, config.task, class_names, mesh)
        return state, {}
    workdir.check_same(folder, restored.description["config"], description["config"])
    if restored.description["data_fingerprint"] != description["data_fingerprint"]:
        raise UsageError(
            f"the training data is not what {folder} was trained on (its fingerprint differs): "
            "use the same data, or another --workdir"
        )
    _check_frozen_statistics(folder, config, restored.description)
    return from_tree(state, restored.tree), restored.description


def _check_frozen_statistics(folder: Path, config: ConfigDict, description: dict[str, Any]) -> None:
    """Refuses to go on with a run whose frozen layers moved their batch statistics.

    In the versions that wrote format 1 the factor 0 froze parameters alone.

    Raises:
      UsageError: the run is one of those.
    """
    frozen = [name for name, factor in config.optimizer.learning_rate_factors if factor == 0]
    if description["format"] == 1 and frozen and config.model.norm == "batch":
        raise UsageError(
            f"{folder} was begun by a version in which layers with the factor 0 ({frozen[0]!r}) "
            "still moved their batch statistics: finish it with that version, or start again in "
            "another --workdir"
        )


def check_same_job(description: dict[str, Any], evaluated: list[str]) -> None:
    """Raises UsageError in a process that would train something else than the primary one.

    Args:
      description: of this process's checkpoints.
      evaluated: fingerprints of the splits that the evaluations read.
    """
    mine = [description["config"], description["data_fingerprint"], evaluated]
    of_primary = processes.broadcast_json(mine)
    if changed := compatibility.differences(of_primary[0], mine[0]):
        raise UsageError(f"its config differs from process 0's in {', '.join(changed)}")
    if mine[1:] != of_primary[1:]:
        raise UsageError(
            "its data differs from process 0's (another fingerprint): prepare it on one machine "
            "and copy it, or use a common disk"
        )
