"""The state of a run between two steps: a plain tree of arrays."""

from typing import Any

import flax.serialization
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.models.network import Network


@flax.struct.dataclass
class TrainState:
    """Dictionaries of arrays, named like params["inception_3a"]["3x3_reduce"]["kernel"].

    `step` counts finished updates, int32 scalar. `average` is empty when averaging is off,
    otherwise {"params", "batch_stats"} with the Polyak average of both.
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
    # As one program: by itself each zeroing of an array of another shape is compiled, 100 of them.
    opt_state = jax.tree.map(np.asarray, jax.jit(optimizer.init)(params))
    return TrainState(np.int32(0), params, batch_stats, opt_state, average)


def to_tree(state: TrainState) -> dict[str, Any]:
    """Returns nested dictionaries, as they are written to disk."""
    return flax.serialization.to_state_dict(state)


def from_tree(state: TrainState, tree: dict[str, Any]) -> TrainState:
    """Inverts `to_tree`; `state` gives the structure."""
    return flax.serialization.from_state_dict(state, tree)


def update_average(average: Any, new: Any, step: jax.Array, start: int, decay: float) -> Any:
    """Updates the Polyak average by the tree `new`, after update number `step` (from 1).

    With n updates averaged so far, average = d x average + (1 - d) x new with d = min(decay,
    n / (n + 1)): the plain mean at first, exponential once n exceeds 1 / (1 - decay). Up to `start`
    the average follows the parameters, so that it is always usable.
    """
    averaged = jnp.maximum(step - start - 1, 0).astype(jnp.float32)
    keep = jnp.minimum(decay, averaged / (averaged + 1))
    return jax.tree.map(lambda old, value: value + keep * (old - value), average, new)
