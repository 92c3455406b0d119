"""A network as pure functions of plain dictionaries: the only place where NNX meets the outside."""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.errors import UsageError
from inception_jax.models.googlenet import GoogLeNet, Outputs
from inception_jax.models.initialization import initial_values
from inception_jax.models.options import GoogLeNetConfig

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
        model = self._merge(params, batch_stats)
        rngs = None if dropout_key is None else nnx.Rngs(dropout=dropout_key)
        outputs = model(images, train=train, rngs=rngs)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def activations(
        self, params: Tree, batch_stats: Tree, images: jax.Array, name: str
    ) -> jax.Array:
        """The output of the row `name`, [batch, height, width, channels], as at inference.

        Args:
          params: as in `apply`.
          batch_stats: as in `apply`.
          images: as in `apply`.
          name: of a row, `inception_3a`.

        Raises:
          UsageError: there is no such row.
        """
        for row, output in self._merge(params, batch_stats).activations(images):
            if row == name:
                return output
        names = ", ".join(row.name for row in self.config.rows())
        raise UsageError(f"the network has no {name!r}; there are {names}")

    def _merge(self, params: Tree, batch_stats: Tree) -> GoogLeNet:
        # NNX updates statistics in place, which host arrays would not survive.
        batch_stats = jax.tree.map(jnp.asarray, batch_stats)
        return nnx.merge(self.graph, params, batch_stats)


class _OneKey:
    """In place of nnx.Rngs, whose bookkeeping is half of the time where only shapes count."""

    def __init__(self):
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        """The key of every parameter."""
        return self._key


@functools.cache
def build(config: GoogLeNetConfig) -> Network:
    """Builds the network without allocating it, once: nobody may change its trees.

    Raises:
      UsageError: the images are too small for the auxiliary heads.
    """
    model = nnx.eval_shape(lambda: GoogLeNet(config, rngs=cast(nnx.Rngs, _OneKey())))
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return Network(config, graph, params, batch_stats)
