"""The running (Polyak) average of the weights, and when it is used."""

from typing import Any

import jax
import jax.numpy as jnp

from inception_jax.training.state import TrainState


def update_average(average: Any, new: Any, step: jax.Array, start: int, decay: float) -> Any:
    """Adds the tree `new` to its Polyak average.

    With n updates averaged so far, average = d x average + (1 - d) x new with d = min(decay,
    n / (n + 1)): the plain mean at first, exponential once n exceeds 1 / (1 - decay). Up to `start`
    the average is `new` itself, so that it is always usable.

    Args:
      average: the average so far.
      new: a tree of the same structure.
      step: the number of the update, from 1.
      start: the number of the last update that is not averaged.
      decay: in [0, 1).

    Returns:
      The new average.
    """
    averaged = jnp.maximum(step - start - 1, 0).astype(jnp.float32)
    keep = jnp.minimum(decay, averaged / (averaged + 1))
    return jax.tree.map(lambda old, value: value + keep * (old - value), average, new)


def inference_weights(state: TrainState) -> tuple[Any, Any]:
    """Parameters and batch statistics to test with: the averaged ones where there are any."""
    if state.average:
        return state.average["params"], state.average["batch_stats"]
    return state.params, state.batch_stats
