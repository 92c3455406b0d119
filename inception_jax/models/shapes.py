"""Output shapes of rows by arithmetic, for building layers and for counting costs."""

from typing import NamedTuple

from inception_jax.errors import UsageError
from inception_jax.models import window_geometry
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.row_types import (
    POOL_PADDING,
    POOL_WINDOW,
    Convolution,
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Pool,
    Row,
)
from inception_jax.models.tables import AUXILIARY_PARTS, AUXILIARY_STRIDE, AUXILIARY_WINDOW


class Maps(NamedTuple):
    """Square feature maps of an image: height and width in pixels, number of channels."""

    size: int
    channels: int

    @property
    def values(self) -> int:
        """Number of values in all maps."""
        return self.size**2 * self.channels


def output_of(row: Row | Convolution | Pool, x: Maps, padding: str) -> Maps:
    """The output of a row, or of a part of a branch.

    Args:
      row: the row or part.
      x: its input.
      padding: of windows with stride 2, caffe or same.
    """
    match row:
        case ConvolutionRow() | Convolution():
            rule = window_geometry.CONVOLUTION[padding]
            return Maps(window_geometry.windows(x.size, row.kernel, row.stride, rule), row.filters)
        case MaxPoolRow():
            rule = window_geometry.POOL["max"][padding]
            return x._replace(size=window_geometry.windows(x.size, row.window, row.stride, rule))
        case Pool():
            rule = window_geometry.POOL[row.kind][POOL_PADDING[row.kind]]
            return x._replace(size=window_geometry.windows(x.size, POOL_WINDOW, row.stride, rule))
        case LocalResponseNormRow():
            return x
        case ModuleRow():
            outputs = []
            for branch in row.branches:
                y = x
                for part in branch:
                    y = output_of(part, y, padding)
                outputs.append(y)
            return Maps(outputs[0].size, sum(y.channels for y in outputs))


def auxiliary_pool(config: GoogLeNetConfig, module: str, x: Maps) -> Maps:
    """The output of an auxiliary head's first layer, an average pool.

    Args:
      config: of the network.
      module: the module that the head stands on, for the message.
      x: the output of the module.

    Raises:
      UsageError: the images are too small.
    """
    if config.auxiliary_pool == "adaptive":
        return x._replace(size=AUXILIARY_PARTS)
    if x.size < AUXILIARY_WINDOW:
        small = "" if config.stem.startswith("small") else ", model.stem='small'"
        raise UsageError(
            f"data.image_size {config.image_size} leaves {x.size}x{x.size} at {module}, less than "
            f"the auxiliary heads' 5x5 pool: use larger images{small} or model.auxiliary=False"
        )
    rule = window_geometry.POOL["average"]["valid"]
    return x._replace(
        size=window_geometry.windows(x.size, AUXILIARY_WINDOW, AUXILIARY_STRIDE, rule)
    )
