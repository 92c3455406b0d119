"""Rows: the parts that a network is made of, as data.

`tables.py` and `bn_inception.py` write networks down with them; `googlenet.py` builds the layers,
`shapes.py` and `cost.py` work out sizes and costs.
"""

import dataclasses
from typing import NamedTuple

POOL_WINDOW = 3  # pixels, of the pools of branches (section 4)
# Their padding. With stride 2 and an even size Caffe's max pool covers the last column in the same
# way; of an odd size its output would not fit those of the convolutions beside it.
POOL_PADDING = {"max": "same", "average": "zeros"}


@dataclasses.dataclass(frozen=True)
class ConvolutionRow:
    """A convolution outside the modules: kernel and stride in pixels, number of filters."""

    name: str
    kernel: int
    stride: int
    filters: int


@dataclasses.dataclass(frozen=True)
class MaxPoolRow:
    """A max pool between modules; window and stride in pixels."""

    name: str
    window: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class LocalResponseNormRow:
    """Local response normalisation; present only with `norm` = lrn."""

    name: str


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
        """Finds each branch's channels among the `total` of the module's output.

        Returns:
          {branch: its channels}. A branch has the name of its last layer, `3x3`, or `pool` if that
          is a pool, which passes on the channels of its input.
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


Row = ConvolutionRow | MaxPoolRow | LocalResponseNormRow | ModuleRow
