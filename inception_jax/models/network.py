"""A network as pure functions of plain dictionaries: the only place where NNX meets the outside."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from inception_jax.errors import UsageError
from inception_jax.models.googlenet import GoogLeNet, GoogLeNetConfig, Outputs
from inception_jax.models.initialization import initial_values

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """The graph of a network, split from its arrays once; `params` and `batch_stats` are shapes."""

    config: GoogLeNetConfig
    graph: nnx.GraphDef
    params: Tree
    batch_stats: Tree

    def initial(self, seed: int) -> tuple[Tree, Tree]:
        """Host arrays to start from: parameters, batch statistics."""
        kind = self.config.initialization
        return initial_values(self.params, kind, seed), initial_values(self.batch_stats, kind, seed)

    def apply(
        self,
        params: Tree,
        batch_stats: Tree,
        images: jax.Array,
        *,
        train: bool,
        dropout_key: jax.Array | None = None,
    ) -> tuple[Outputs, Tree]:
        """Runs the network on normalised images [batch, size, size, 3]; traceable.

        Returns:
          The outputs, and the batch statistics (updated in training).
        """
        # NNX updates statistics in place, which host arrays would not survive.
        batch_stats = jax.tree.map(jnp.asarray, batch_stats)
        model = nnx.merge(self.graph, params, batch_stats)
        rngs = None if dropout_key is None else nnx.Rngs(dropout=dropout_key)
        outputs = model(images, train=train, rngs=rngs)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def network_config(config: ConfigDict) -> GoogLeNetConfig:
    """`config.model` and the image size, checked.

    Raises:
      UsageError: an unknown field or a value out of its range.
    """
    fields = {field.name for field in dataclasses.fields(GoogLeNetConfig)}
    values = {name: value for name, value in config.model.items() if name != "init_from"}
    for name in values:
        if name not in fields - {"image_size"}:
            raise UsageError(f"unknown config field 'model.{name}'")
    return GoogLeNetConfig(image_size=config.data.image_size, **values)


def build(config: GoogLeNetConfig) -> Network:
    """Builds the network without allocating it."""
    model = nnx.eval_shape(lambda: GoogLeNet(config, rngs=nnx.Rngs(0)))
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return Network(config, graph, params, batch_stats)
