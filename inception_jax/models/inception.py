"""The Inception module (paper, section 4 and figure 2): parallel branches, concatenated."""

from typing import TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.conv_unit import ConvUnit, Pooling, fused_pointwise, no_pool
from inception_jax.models.layers import AveragePool, MaxPool
from inception_jax.models.row_types import POOL_PADDING, POOL_WINDOW, Convolution, ModuleRow, Pool


class Inception(nnx.Module):
    """The branches of a row over the same input, concatenated.

    Layers are attributes with Caffe's names (`inception_3a/3x3_reduce`), reached with getattr.
    """

    def __init__(self, row: ModuleRow, in_channels: int, **unit):
        """Builds the layers.

        Args:
          row: the branches.
          in_channels: of the input.
          unit: the arguments that all ConvUnits share.
        """
        self.branches = row.branches
        for branch in row.branches:
            channels = in_channels
            for part in branch:
                if isinstance(part, Convolution):
                    shape = channels, part.filters, part.kernel, part.stride
                    setattr(self, part.name, ConvUnit(*shape, **unit))
                    channels = part.filters

    def __call__(
        self, x: jax.Array, *, train: bool, following_pool: Pooling = no_pool
    ) -> jax.Array:
        """The outputs of all branches next to one another.

        A max pool that follows the module is taken of each branch by itself, so that the larger
        array of all branches is never put together. All pools of branches see the module's input.
        """
        first = [part for part, *_ in self.branches if _is_pointwise(part)]
        with jax.named_scope("+".join(part.name for part in first)):
            units = [getattr(self, part.name) for part in first]
            computed = dict(zip(first, fused_pointwise(units, x, train=train), strict=True))
        outputs = []
        for branch in self.branches:
            y = x
            for part in branch:
                at_the_end = following_pool if part is branch[-1] else no_pool
                match part:
                    case Convolution() if part in computed:
                        y = at_the_end(computed[part])
                    case Convolution():
                        with jax.named_scope(part.name):
                            unit = getattr(self, part.name)
                            y = unit(y, train=train, following_pool=at_the_end)
                    case Pool():
                        y = at_the_end(_pool(part)(y, train=train))
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


def _is_pointwise(part: Convolution | Pool) -> TypeGuard[Convolution]:
    return isinstance(part, Convolution) and (part.kernel, part.stride) == (1, 1)


def _pool(pool: Pool) -> nnx.Module:
    layer = {"average": AveragePool, "max": MaxPool}[pool.kind]
    return layer(POOL_WINDOW, pool.stride, POOL_PADDING[pool.kind])
