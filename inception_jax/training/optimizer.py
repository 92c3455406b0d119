"""Stochastic gradient descent with momentum, and what may stand before it."""

from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from inception_jax.errors import UsageError

Factors = Sequence[tuple[str, float]]


def make_optimizer(
    optimizer: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """Clipping (if on), weight decay, momentum, learning rate, factors of layers, in this order.

    The decay joins the gradient before the momentum, as L2 does in Caffe's solver.
    """
    steps = [
        optax.add_decayed_weights(
            optimizer.weight_decay, mask=None if optimizer.decay_all else decayed
        ),
        optax.sgd(learning_rate, momentum=optimizer.momentum, nesterov=optimizer.nesterov),
    ]
    if optimizer.gradient_clip:
        steps.insert(0, optax.clip_by_global_norm(optimizer.gradient_clip))
    if optimizer.learning_rate_factors:
        steps.append(scale_by_layer(optimizer.learning_rate_factors))
    return optax.chain(*steps)


def scale_by_layer(factors: Factors) -> optax.GradientTransformation:
    """Multiplies updates by the factor of the first name that their own begins with, else by 1.

    Raises:
      UsageError: at its start, a name with which none begins.
    """

    def beginnings(params: Any) -> Any:
        def beginning(path: tuple[Any, ...], _: Any) -> str:
            name = "/".join(key.key for key in path)
            return next((begin for begin, _ in factors if name.startswith(begin)), "")

        found = jax.tree.map_with_path(beginning, params)
        if unused := {begin for begin, _ in factors} - set(jax.tree.leaves(found)):
            raise UsageError(
                f"optimizer.learning_rate_factors: no layer begins with {min(unused)!r}; there are "
                f"{', '.join(sorted(params))}"
            )
        return found

    scales = {begin: optax.scale(factor) for begin, factor in factors}
    return optax.partition({"": optax.identity(), **scales}, beginnings)


def decayed(params: Any) -> Any:
    """True for what decays: kernels. Biases and normalisation parameters are spared."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)
