"""BN-Inception: figure 5 of "Batch Normalization" (Ioffe & Szegedy 2015, arXiv 1502.03167).

Two 3x3 convolutions for each 5x5, a third module at 28x28, average pools in most modules, and
modules with stride 2 (3c, 4e) in place of pools between them. As the published weights have it
(Caffe's BN-Inception, ported as `bninception`), 4c and 4d have 128 filters after their pool, and so
608 channels, where the figure prints 576; and the first convolution is an ordinary one, where the
paper's is separable. The names are those of the published weights.
"""

import dataclasses

from inception_jax.models.row_types import Branch, Convolution, ModuleRow, Pool


@dataclasses.dataclass(frozen=True)
class BNInceptionRow:
    """A row of figure 5: the number of filters of each convolution; 0 leaves the layer out.

    A module with stride 2 passes its max pool's channels on.
    """

    name: str
    conv_1x1: int
    conv_3x3_reduce: int
    conv_3x3: int
    double_3x3_reduce: int
    double_3x3: int
    pool: str  # average | max
    pool_proj: int
    stride: int = 1

    def module(self) -> ModuleRow:
        """The row's branches, in the order of the published weights."""
        stride = self.stride
        pool: Branch = (Pool(self.pool, stride),)
        branches: tuple[Branch, ...] = (
            (
                Convolution("3x3_reduce", 1, self.conv_3x3_reduce),
                Convolution("3x3", 3, self.conv_3x3, stride),
            ),
            (
                Convolution("double_3x3_reduce", 1, self.double_3x3_reduce),
                Convolution("double_3x3_1", 3, self.double_3x3),
                Convolution("double_3x3_2", 3, self.double_3x3, stride),
            ),
        )
        if self.conv_1x1:
            branches = ((Convolution("1x1", 1, self.conv_1x1),), *branches)
        if self.pool_proj:
            pool = (*pool, Convolution("pool_proj", 1, self.pool_proj))
        return ModuleRow(self.name, (*branches, pool))


MODULES: tuple[BNInceptionRow, ...] = (
    #              name            1x1 3x3red 3x3 dblred dbl pool pool_proj stride
    BNInceptionRow("inception_3a", 64, 64, 64, 64, 96, "average", 32),
    BNInceptionRow("inception_3b", 64, 64, 96, 64, 96, "average", 64),
    BNInceptionRow("inception_3c", 0, 128, 160, 64, 96, "max", 0, stride=2),
    BNInceptionRow("inception_4a", 224, 64, 96, 96, 128, "average", 128),
    BNInceptionRow("inception_4b", 192, 96, 128, 96, 128, "average", 128),
    BNInceptionRow("inception_4c", 160, 128, 160, 128, 160, "average", 128),
    BNInceptionRow("inception_4d", 96, 128, 192, 160, 192, "average", 128),
    BNInceptionRow("inception_4e", 0, 128, 192, 192, 256, "max", 0, stride=2),
    BNInceptionRow("inception_5a", 352, 192, 320, 160, 224, "average", 128),
    BNInceptionRow("inception_5b", 352, 192, 320, 192, 224, "max", 128),
)
