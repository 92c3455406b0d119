"""A network as pure functions of plain dictionaries: the only place where NNX meets the outside."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.errors import UsageError
from inception_jax.models.conv_unit import BatchNormReLU
from inception_jax.models.googlenet import GoogLeNet, Outputs
from inception_jax.models.initialization import initial_values
from inception_jax.models.options import GoogLeNetConfig

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """The graph of a network, split once from its arrays.

    `params` and `batch_stats` are nested dictionaries of shapes and dtypes.
    """

    config: GoogLeNetConfig
    graph: nnx.GraphDef
    params: Tree
    batch_stats: Tree

    def initial(self, seed: int) -> tuple[Tree, Tree]:
        """The parameters and batch statistics to start from, as host arrays."""
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
        frozen: Collection[str] = (),
    ) -> tuple[Outputs, Tree]:
        """Runs the network; traceable.

        Args:
          params: the parameters.
          batch_stats: the running means and variances.
          images: normalised float images [batch, image_size, image_size, 3], RGB.
          train: use and update batch statistics, drop out, run the auxiliary heads.
          dropout_key: needed in training unless both dropout rates are 0.
          frozen: names of layers (`inception_3a/3x3/norm`) that in training, too, normalise with
            their running statistics and leave them as they are; other names count for nothing.

        Returns:
          The outputs, and the batch statistics (updated in training).
        """
        model = self._merge(params, batch_stats)
        if frozen:
            for path, module in nnx.iter_modules(model):
                if isinstance(module, BatchNormReLU) and "/".join(map(str, path)) in frozen:
                    module.use_running_average = True
        rngs = None if dropout_key is None else nnx.Rngs(dropout=dropout_key)
        outputs = model(images, train=train, rngs=rngs)
        return outputs, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def activations(
        self, params: Tree, batch_stats: Tree, images: jax.Array, name: str
    ) -> jax.Array:
        """The output of the row `name`, [batch, height, width, channels], as at inference.

        Args:
          params, batch_stats, images: as in `apply`.
          name: the row's, `inception_3a`.

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
    """Replaces nnx.Rngs, whose bookkeeping takes half of the time where only shapes count."""

    def __init__(self):
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        """The key of every parameter."""
        return self._key


@functools.cache
def build(config: GoogLeNetConfig) -> Network:
    """Builds the network without allocating it; the same config gives the same object.

    Nobody may change its trees.

    Raises:
      UsageError: the images are too small for the auxiliary heads.
    """
    model = nnx.eval_shape(lambda: GoogLeNet(config, rngs=cast(nnx.Rngs, _OneKey())))
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return Network(config, graph, params, batch_stats)
