"""The training step of a config, as `train` builds it, compiled for devices one does not have."""

from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled, Wrapped
from ml_collections import ConfigDict

from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tasks.classification.batches import read_fake_batch
from inception_jax.tools.plan.compiled import OutOfMemory, compile_within_memory
from inception_jax.training.loop import make_plan, make_step

# Data need not be there. Its size turns epochs into steps: constants that change no cost.
EXAMPLES = 1_281_167  # ILSVRC's


class Step(NamedTuple):
    """A compiled step, or the compiler's refusal."""

    program: Compiled | OutOfMemory
    state_bytes: int  # on each device, whatever the batch


def compile_step(config: ConfigDict, mesh: Mesh) -> Step:
    """Compiles the step for the global batch of `config.data.batch_size`; nothing is run.

    Args:
      config: resolved.
      mesh: of devices that need not exist.

    Raises:
      UsageError: the config is wrong, or its batch cannot be split over the devices.
    """
    devices.check_batch_size(config.data.batch_size, mesh)
    network = build(network_config(config))
    train_step, state = make_step(config, network, make_plan(config, EXAMPLES), mesh)
    described = jax.tree.map(
        lambda leaf: _described(leaf, leaf.shape, devices.replicated(mesh)), state
    )
    lowered = cast(Wrapped, train_step).lower(described, describe_batch(config, mesh))
    return Step(compile_within_memory(lowered), sum(leaf.nbytes for leaf in jax.tree.leaves(state)))


def describe_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch on the mesh, without its contents: what `training_batches` yields."""
    one = read_fake_batch(config, slice(0, 1))
    batch_size = config.data.batch_size
    return {
        name: _described(rows, (batch_size, *rows.shape[1:]), devices.split_batch(mesh))
        for name, rows in one.items()
    }


def _described(leaf: np.ndarray, shape: tuple[int, ...], sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(leaf.dtype), sharding=sharding)
