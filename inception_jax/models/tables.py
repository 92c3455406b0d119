"""GoogLeNet: Table 1 of "Going Deeper with Convolutions" (arXiv 1409.4842) as a table of rows.

Layers carry the names of Caffe's bvlc_googlenet, so that weights and papers can be matched by eye:
`params["inception_3a"]["3x3_reduce"]["kernel"]`.
"""

import dataclasses

from inception_jax.models import bn_inception
from inception_jax.models.bn_inception import BNInceptionRow
from inception_jax.models.row_types import (
    Convolution,
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Pool,
)


@dataclasses.dataclass(frozen=True)
class InceptionRow:
    """An inception row of Table 1: the number of filters of each convolution."""

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
        """Figure 2b; `large_kernel` is the kernel of the layer named 5x5, in pixels."""
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


TableRow = ConvolutionRow | MaxPoolRow | LocalResponseNormRow | InceptionRow | BNInceptionRow

# An Inception module in place of conv2, of the same multiply-adds (1 % less) and output.
_LOWER_MODULE = InceptionRow("inception_2a", 24, 72, 112, 32, 40, 16)

STEMS: dict[str, tuple[TableRow, ...]] = {
    # Figure 3: LRN after the first pool and before the second.
    "imagenet": (
        ConvolutionRow("conv1/7x7_s2", 7, 2, 64),
        MaxPoolRow("pool1/3x3_s2"),
        LocalResponseNormRow("pool1/norm1"),
        ConvolutionRow("conv2/3x3_reduce", 1, 1, 64),
        ConvolutionRow("conv2/3x3", 3, 1, 192),
        LocalResponseNormRow("conv2/norm2"),
        MaxPoolRow("pool2/3x3_s2"),
    ),
    # For 32-pixel inputs, which three halvings would leave with 4x4: no reduction before 3a.
    "small": (
        ConvolutionRow("conv1/3x3", 3, 1, 64),
        LocalResponseNormRow("conv1/norm1"),
        ConvolutionRow("conv2/3x3", 3, 1, 192),
        LocalResponseNormRow("conv2/norm2"),
    ),
    # One reduction, after both convolutions: a third of small's multiply-adds.
    "medium": (
        ConvolutionRow("conv1/3x3", 3, 1, 64),
        LocalResponseNormRow("conv1/norm1"),
        ConvolutionRow("conv2/3x3", 3, 1, 192),
        LocalResponseNormRow("conv2/norm2"),
        MaxPoolRow("pool2/3x3_s2"),
    ),
    # Section 4 keeps "the lower layers in traditional convolutional fashion"; these do not.
    "inception": (
        ConvolutionRow("conv1/7x7_s2", 7, 2, 64),
        MaxPoolRow("pool1/3x3_s2"),
        LocalResponseNormRow("pool1/norm1"),
        _LOWER_MODULE,
        LocalResponseNormRow("conv2/norm2"),
        MaxPoolRow("pool2/3x3_s2"),
    ),
    "small_inception": (
        ConvolutionRow("conv1/3x3", 3, 1, 64),
        LocalResponseNormRow("conv1/norm1"),
        _LOWER_MODULE,
        LocalResponseNormRow("conv2/norm2"),
    ),
    "medium_inception": (
        ConvolutionRow("conv1/3x3", 3, 1, 64),
        LocalResponseNormRow("conv1/norm1"),
        _LOWER_MODULE,
        LocalResponseNormRow("conv2/norm2"),
        MaxPoolRow("pool2/3x3_s2"),
    ),
}

MODULES: tuple[TableRow, ...] = (
    #            name            1x1  3x3red 3x3 5x5red 5x5 pool_proj
    InceptionRow("inception_3a", 64, 96, 128, 16, 32, 32),
    InceptionRow("inception_3b", 128, 128, 192, 32, 96, 64),
    MaxPoolRow("pool3/3x3_s2"),
    InceptionRow("inception_4a", 192, 96, 208, 16, 48, 64),
    InceptionRow("inception_4b", 160, 112, 224, 24, 64, 64),
    InceptionRow("inception_4c", 128, 128, 256, 24, 64, 64),
    InceptionRow("inception_4d", 112, 144, 288, 32, 64, 64),
    InceptionRow("inception_4e", 256, 160, 320, 32, 128, 128),
    MaxPoolRow("pool4/3x3_s2"),
    InceptionRow("inception_5a", 256, 160, 320, 32, 128, 128),
    InceptionRow("inception_5b", 384, 192, 384, 48, 128, 128),
)

# One module a resolution, with Table 1's filters: an ablation of depth, and a network for tests and
# tutorials, since it compiles in a third of the time.
SHALLOW_MODULES: tuple[TableRow, ...] = tuple(
    row
    for row in MODULES
    if isinstance(row, MaxPoolRow) or row.name in ("inception_3a", "inception_4a", "inception_5a")
)

ARCHITECTURES: dict[str, tuple[TableRow, ...]] = {
    "googlenet": MODULES,
    "shallow": SHALLOW_MODULES,
    "bn_inception": bn_inception.MODULES,
}

# How the names of the modules without reductions begin.
NAIVE = {"reduced": (), "naive": ("inception_",), "naive_3": ("inception_3",)}

AUXILIARY_HEADS = {"inception_4a": "loss1", "inception_4d": "loss2"}  # section 5
AUXILIARY_WINDOW, AUXILIARY_STRIDE = 5, 3  # pixels, of the heads' average pool
AUXILIARY_PARTS = 4  # along each axis, of an adaptive one: as many as windows at 14x14
AUXILIARY_FILTERS = 128
FULLY_CONNECTED_UNITS = 1024  # of the auxiliary heads, and of `head` = fully_connected
