"""Stochastic gradient descent with momentum, and what may stand before it."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def make_optimizer(
    optimizer: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """Clipping (if on), weight decay, momentum, learning rate, in this order.

    The decay joins the gradient before the momentum, as L2 does in Caffe's solver.
    """
    steps = [
        optax.add_decayed_weights(optimizer.weight_decay, mask=decayed),
        optax.sgd(learning_rate, momentum=optimizer.momentum, nesterov=optimizer.nesterov),
    ]
    if optimizer.gradient_clip:
        steps.insert(0, optax.clip_by_global_norm(optimizer.gradient_clip))
    return optax.chain(*steps)


def decayed(params: Any) -> Any:
    """True for what decays: kernels. Biases and normalisation parameters are spared."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
