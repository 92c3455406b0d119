"""Stochastic gradient descent with momentum; learning rates of layers, down to frozen ones."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from inception_jax.errors import UsageError

Factors = Sequence[tuple[str, float]]  # beginning of a parameter's name, factor

_OTHERS = ""  # the beginning of all names


def make_optimizer(
    optimizer: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """Builds the chain: clipping (if on), decay, momentum, learning rate, factors of layers.

    The decay joins the gradient before the momentum, as L2 does in Caffe's solver.

    Args:
      optimizer: the config's section.
      learning_rate: a function of the step, from 0.
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
      UsageError: when it is initialised: no parameter has a name that begins with one of these.
    """

    def beginnings(params: Any) -> Any:
        found = jax.tree.map_with_path(lambda path, _: _beginning(_name(path), factors), params)
        if unused := {begin for begin, _ in factors} - set(jax.tree.leaves(found)):
            raise UsageError(
                f"optimizer.learning_rate_factors: no layer begins with {min(unused)!r}; there are "
                f"{', '.join(sorted(params))}"
            )
        return found

    scales = {begin: optax.scale(factor) for begin, factor in reversed(factors)}
    return optax.partition({_OTHERS: optax.identity(), **scales}, beginnings)


def frozen_layers(params: Any, factors: Factors) -> frozenset[str]:
    """The names of the layers all of whose parameters have the factor 0 (`conv1/7x7_s2/norm`).

    Args:
      params: nested dictionaries; only the names count.
      factors: of `optimizer.learning_rate_factors`.
    """
    factor_of = {_OTHERS: 1.0} | dict(reversed(factors))
    layers = collections.defaultdict(list)
    for path, _ in jax.tree.leaves_with_path(params):
        name = _name(path)
        layers[name.rpartition("/")[0]].append(factor_of[_beginning(name, factors)])
    return frozenset(layer for layer, of_parameters in layers.items() if not any(of_parameters))


def decayed(params: Any) -> Any:
    """True for kernels, which decay; False for biases and the parameters of normalisations."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _beginning(name: str, factors: Factors) -> str:
    """The first of the factors' names that `name` begins with, or that of all other parameters."""
    return next((begin for begin, _ in factors if name.startswith(begin)), _OTHERS)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(key.key for key in path)
