"""The Inception module (paper, section 4 and figure 2): parallel branches, concatenated."""

import dataclasses
from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.layers import (
    AveragePool,
    ConvUnit,
    MaxPool,
    Pooling,
    side_by_side,
    unpooled,
)

POOL_WINDOW = 3  # pixels (section 4)


class Convolution(NamedTuple):
    """A convolution of a branch: kernel and stride in pixels, number of filters."""

    name: str
    kernel: int
    filters: int
    stride: int = 1


class Pool(NamedTuple):
    """A 3x3 pool of a branch, max or average."""

    kind: str
    stride: int = 1


Branch = tuple[Convolution | Pool, ...]


@dataclasses.dataclass(frozen=True)
class ModuleRow:
    """A module: its branches in the order in which they are concatenated."""

    name: str
    branches: tuple[Branch, ...]

    def channels(self, total: int) -> dict[str, slice]:
        """{branch: its channels among the `total` of the module's output}.

        A branch is called as its last layer, `3x3`, or `pool` where that passes its channels on.
        """
        found: dict[str, slice] = {}
        start = 0
        for branch in self.branches:
            last = branch[-1]
            match last:
                case Convolution():
                    found[last.name] = slice(start, start + last.filters)
                    start += last.filters
                case Pool():  # only the last branch ends in one
                    found["pool"] = slice(start, total)
        return found


@dataclasses.dataclass(frozen=True)
class InceptionRow:
    """One inception row of Table 1: the number of filters of each convolution."""

    name: str
    conv_1x1: int
    conv_3x3_reduce: int
    conv_3x3: int
    conv_5x5_reduce: int
    conv_5x5: int
    pool_proj: int

    def naive(self, large_kernel: int) -> ModuleRow:
        """Figure 2a: no reductions, and the pool passes all its channels on."""
        return ModuleRow(
            self.name,
            (
                (Convolution("1x1", 1, self.conv_1x1),),
                (Convolution("3x3", 3, self.conv_3x3),),
                (Convolution("5x5", large_kernel, self.conv_5x5),),
                (Pool("max"),),
            ),
        )

    def reduced(self, large_kernel: int) -> ModuleRow:
        """Figure 2b; `large_kernel` is that of the layer named 5x5, in pixels."""
        return ModuleRow(
            self.name,
            (
                (Convolution("1x1", 1, self.conv_1x1),),
                (
                    Convolution("3x3_reduce", 1, self.conv_3x3_reduce),
                    Convolution("3x3", 3, self.conv_3x3),
                ),
                (
                    Convolution("5x5_reduce", 1, self.conv_5x5_reduce),
                    Convolution("5x5", large_kernel, self.conv_5x5),
                ),
                (Pool("max"), Convolution("pool_proj", 1, self.pool_proj)),
            ),
        )


class Inception(nnx.Module):
    """The branches of a row over the same input, concatenated.

    Layers are attributes with Caffe's names (`inception_3a/3x3_reduce`), reached with getattr.
    """

    def __init__(self, row: ModuleRow, in_channels: int, **unit):
        """`unit` holds what every ConvUnit shares."""
        self.branches = row.branches
        for branch in row.branches:
            channels = in_channels
            for part in branch:
                if isinstance(part, Convolution):
                    shape = channels, part.filters, part.kernel, part.stride
                    setattr(self, part.name, ConvUnit(*shape, **unit))
                    channels = part.filters

    def __call__(self, x: jax.Array, *, train: bool, pool: Pooling = unpooled) -> jax.Array:
        """Outputs lie next to one another; all pools of branches see what the module sees.

        `pool` takes the maximum of windows of the output, here of each branch by itself: the larger
        array of all is never put together.
        """
        first = [part for part, *_ in self.branches if _is_pointwise(part)]
        with jax.named_scope("+".join(part.name for part in first)):
            units = [getattr(self, part.name) for part in first]
            computed = dict(zip(first, side_by_side(units, x, train=train), strict=True))
        outputs = []
        for branch in self.branches:
            y = x
            for part in branch:
                at_the_end = pool if part is branch[-1] else unpooled
                match part:
                    case Convolution() if part in computed:
                        y = at_the_end(computed[part])
                    case Convolution():
                        with jax.named_scope(part.name):
                            y = getattr(self, part.name)(y, train=train, pool=at_the_end)
                    case Pool():
                        y = at_the_end(_pool(part)(y, train=train))
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


def _is_pointwise(part: Convolution | Pool) -> TypeGuard[Convolution]:
    return isinstance(part, Convolution) and (part.kernel, part.stride) == (1, 1)


def _pool(pool: Pool) -> nnx.Module:
    if pool.kind == "average":
        return AveragePool(POOL_WINDOW, pool.stride, padding="zeros")
    # With stride 2 Caffe's covers the last column of an even size in the same way; of an odd one
    # its output would not fit those of the convolutions beside it.
    return MaxPool(POOL_WINDOW, pool.stride, padding="same")
