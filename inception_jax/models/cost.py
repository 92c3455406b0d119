"""Counts parameters and multiply-adds of each layer, by arithmetic over the network's rows."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.row_types import Convolution, ConvolutionRow, ModuleRow, Row
from inception_jax.models.shapes import Maps, auxiliary_pool, output_of
from inception_jax.models.tables import AUXILIARY_FILTERS, FULLY_CONNECTED_UNITS


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """The costs of one row for one image; `output` is a shape without the batch."""

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """The costs of a network at inference for one image.

    `training_parameters` includes the auxiliary heads. Multiply-adds are those of convolutions and
    linear layers, as the paper counts them.
    """

    parameters: int
    training_parameters: int
    multiply_adds: int
    convolutions: int
    layers: tuple[LayerCost, ...]


class _Cost(NamedTuple):
    parameters: int
    multiply_adds: int


def network_cost(config: GoogLeNetConfig) -> NetworkCost:
    """Counts parameters and multiply-adds of a network, without building it.

    Raises:
      UsageError: the images are too small for the auxiliary heads.
    """
    layers, convolutions, auxiliary_parameters = [], 0, 0
    heads = config.auxiliary_heads()
    x = Maps(config.image_size, 3)
    for row in config.rows():
        costs = list(_convolutions(row, x, config))
        x = output_of(row, x, config.padding)
        layers.append(_layer(row.name, (x.size, x.size, x.channels), *costs))
        convolutions += len(costs)
        if row.name in heads:
            pooled = auxiliary_pool(config, row.name, x)
            auxiliary_parameters += _auxiliary_parameters(pooled, config)
    layers += _main_head(x, config)
    parameters = sum(layer.parameters for layer in layers)
    return NetworkCost(
        parameters=parameters,
        training_parameters=parameters + auxiliary_parameters,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        convolutions=convolutions,
        layers=tuple(layers),
    )


def _layer(name: str, output: tuple[int, ...], *costs: _Cost) -> LayerCost:
    parameters = sum(cost.parameters for cost in costs)
    return LayerCost(name, output, parameters, sum(cost.multiply_adds for cost in costs))


def _convolutions(row: Row, x: Maps, config: GoogLeNetConfig) -> Iterator[_Cost]:
    """The cost of each convolution of a row with the input `x`."""
    for branch in row.branches if isinstance(row, ModuleRow) else ((row,),):
        y = x
        for part in branch:
            before, y = y, output_of(part, y, config.padding)
            if isinstance(part, Convolution | ConvolutionRow):
                yield _convolution(part.kernel, before.channels, y, config)


def _convolution(kernel: int, channels: int, output: Maps, config: GoogLeNetConfig) -> _Cost:
    weights = kernel**2 * channels * output.channels
    batch_norm = config.norm == "batch"
    # A bias, or a scale and a bias of the batch normalisation, or all three.
    per_filter = 2 * batch_norm + (not batch_norm or config.batch_norm_bias)
    return _Cost(weights + per_filter * output.channels, weights * output.size**2)


def _linear(inputs: int, outputs: int) -> _Cost:
    weights = inputs * outputs
    return _Cost(weights + outputs, weights)


def _main_head(x: Maps, config: GoogLeNetConfig) -> tuple[LayerCost, LayerCost]:
    if config.head == "average_pool":
        features = x.channels
        first = _layer("loss3/pool", (1, 1, features))
    else:
        features = config.scale(FULLY_CONNECTED_UNITS)
        first = _layer("loss3/fc", (features,), _linear(x.values, features))
    classes = config.num_classes
    return first, _layer("loss3/classifier", (classes,), _linear(features, classes))


def _auxiliary_parameters(pooled: Maps, config: GoogLeNetConfig) -> int:
    """Counts the parameters of an auxiliary head whose convolution has the input `pooled`."""
    maps = Maps(pooled.size, config.scale(AUXILIARY_FILTERS))
    hidden = config.scale(FULLY_CONNECTED_UNITS)
    costs = (
        _convolution(1, pooled.channels, maps, config),
        _linear(maps.values, hidden),
        _linear(hidden, config.num_classes),
    )
    return sum(cost.parameters for cost in costs)
