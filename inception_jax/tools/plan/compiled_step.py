"""Compiles a config's training step, as `train` builds it, for devices that need not exist."""

from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled, Wrapped
from ml_collections import ConfigDict

from inception_jax.data.read_ahead import DeviceBatch
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices
from inception_jax.tasks import make_task
from inception_jax.tools.fake_batch import fake_batch
from inception_jax.tools.plan.compiler import OutOfMemory, compile_within_memory
from inception_jax.training.setup import make_step
from inception_jax.training.timetable import make_timetable

# Data need not exist. Its size turns epochs into steps: constants that change no cost.
EXAMPLES = 1_281_167  # ILSVRC's


class CompiledStep(NamedTuple):
    """A compiled training step, or that it takes too much memory."""

    program: Compiled | OutOfMemory
    state_bytes: int  # on each device, at any batch size


def compile_step(config: ConfigDict, mesh: Mesh) -> CompiledStep:
    """Compiles the step for the global batch of `config.data.batch_size`; nothing is run.

    Args:
      config: a resolved config.
      mesh: devices, which need not exist.

    Raises:
      UsageError: the config is wrong, or its batch cannot be split over the devices.
    """
    devices.check_batch_size(config.data.batch_size, mesh)
    network = build(network_config(config))
    train_step, state = make_step(
        make_task(config), config, network, make_timetable(config, EXAMPLES), mesh
    )
    described = jax.tree.map(
        lambda leaf: _described(leaf, leaf.shape, devices.replicated(mesh)), state
    )
    lowered = cast(Wrapped, train_step).lower(described, describe_batch(config, mesh))
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return CompiledStep(compile_within_memory(lowered), state_bytes)


def describe_batch(config: ConfigDict, mesh: Mesh) -> DeviceBatch:
    """Shapes, dtypes and shardings of a global batch, as `training_batches` yields it."""
    batch_size = config.data.batch_size
    return jax.tree.map(
        lambda rows: _described(rows, (batch_size, *rows.shape[1:]), devices.split_batch(mesh)),
        fake_batch(config, slice(0, 1)),
    )


def _described(leaf: np.ndarray, shape: tuple[int, ...], sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(leaf.dtype), sharding=sharding)
