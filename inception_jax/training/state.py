"""The state of a training run: a plain tree of arrays."""

from typing import Any

import flax.serialization
import flax.struct
import jax
import numpy as np
import optax

from inception_jax.models.network import Network


@flax.struct.dataclass
class TrainState:
    """Nested dictionaries of arrays: params["inception_3a"]["3x3_reduce"]["kernel"].

    `step` is the number of finished updates, an int32 scalar. `average` is empty when averaging is
    off, otherwise {"params", "batch_stats"} with the Polyak average of both.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any


def initial_state(
    network: Network, optimizer: optax.GradientTransformation, seed: int, *, averaging: bool
) -> TrainState:
    """Makes the state before the first step, on the host."""
    params, batch_stats = network.initial(seed)
    average = {"params": params, "batch_stats": batch_stats} if averaging else {}
    # As one program: otherwise the zeroing of each shape is compiled by itself, 100 of them.
    opt_state = jax.tree.map(np.asarray, jax.jit(optimizer.init)(params))
    return TrainState(np.int32(0), params, batch_stats, opt_state, average)


def to_tree(state: TrainState) -> dict[str, Any]:
    """Turns a state into nested dictionaries alone, as they are written to disk."""
    return flax.serialization.to_state_dict(state)


def from_tree(state: TrainState, tree: dict[str, Any]) -> TrainState:
    """Turns nested dictionaries into a state of the same structure as `state`."""
    return flax.serialization.from_state_dict(state, tree)
