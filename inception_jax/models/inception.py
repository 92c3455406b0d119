"""The Inception module (paper, section 4 and figure 2)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.layers import ConvUnit, MaxPool


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

    def branches(self, module: str) -> tuple[tuple[tuple[str, int], ...], ...]:
        """The (layer name, filters) of each branch, as they are concatenated; the pool's last."""
        if module == "naive":  # figure 2a: no reductions, and the pool passes all its channels on
            return (
                (("1x1", self.conv_1x1),),
                (("3x3", self.conv_3x3),),
                (("5x5", self.conv_5x5),),
                (),
            )
        return (  # figure 2b
            (("1x1", self.conv_1x1),),
            (("3x3_reduce", self.conv_3x3_reduce), ("3x3", self.conv_3x3)),
            (("5x5_reduce", self.conv_5x5_reduce), ("5x5", self.conv_5x5)),
            (("pool_proj", self.pool_proj),),
        )


class Inception(nnx.Module):
    """Parallel branches over the same input, concatenated: 1x1, 3x3, 5x5, pool.

    Layers are attributes with Caffe's names (`inception_3a/3x3_reduce`), reached with getattr.
    """

    def __init__(
        self, row: InceptionRow, in_channels: int, *, module: str, large_kernel: int, **unit
    ):
        """`unit` holds what every ConvUnit shares; `row` has its filters scaled by width."""
        kernels = {"3x3": 3, "5x5": large_kernel}
        branches = row.branches(module)
        for branch in branches:
            channels = in_channels
            for name, filters in branch:
                setattr(self, name, ConvUnit(channels, filters, kernels.get(name, 1), **unit))
                channels = filters
        self.branch_names = tuple(tuple(name for name, _ in branch) for branch in branches)
        self.pool = MaxPool(window=3, stride=1, padding="same")

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = self.pool(x, train=train)
        outputs = []
        for branch, y in zip(self.branch_names, (x, x, x, pooled), strict=True):
            for name in branch:
                with jax.named_scope(name):
                    y = getattr(self, name)(y, train=train)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)
