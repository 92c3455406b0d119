"""The network as an NNX module: the layers of its rows, the auxiliary heads and the main head."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.conv_unit import ConvUnit
from inception_jax.models.heads import AuxiliaryHead, MainHead
from inception_jax.models.inception import Inception
from inception_jax.models.layers import LocalResponseNorm, MaxPool
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.row_types import (
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Row,
)
from inception_jax.models.shapes import Maps, auxiliary_pool, output_of
from inception_jax.models.tables import AUXILIARY_HEADS


class Outputs(NamedTuple):
    """The outputs of a network: float32 logits [batch, classes] of each head.

    `auxiliary` has those of loss1 (on 4a) and loss2 (on 4d) in training, as far as the network has
    these heads, and is empty otherwise.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...]


class GoogLeNet(nnx.Module):
    """The network of Table 1 and figure 3, with the options of `GoogLeNetConfig`.

    Only its structure counts: the values of a new network's parameters come from
    `initialization.initial_values`, not from the constructor's `rngs`.
    """

    def __init__(self, config: GoogLeNetConfig, *, rngs: nnx.Rngs):
        """Builds the layers.

        Raises:
          UsageError: the images are too small for the auxiliary heads.
        """
        self.config = config
        dense: dict[str, Any] = {"dtype": jnp.dtype(config.dtype), "rngs": rngs}
        unit = dense | {
            "batch_norm": config.norm == "batch",
            "batch_norm_bias": config.batch_norm_bias,
            "padding": config.padding,
        }
        heads = config.auxiliary_heads()
        x = Maps(config.image_size, 3)
        for row in config.rows():
            _attach(self, row.name, _build(row, x.channels, config, unit))
            x = output_of(row, x, config.padding)
            if row.name in heads:
                pooled = auxiliary_pool(config, row.name, x)
                _attach(self, heads[row.name], AuxiliaryHead(pooled, config, **unit))
        self.loss3 = MainHead(x, config, **dense)

    def __call__(
        self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Runs the network.

        Args:
          images: normalised float images [batch, image_size, image_size, 3], RGB.
          train: use and update batch statistics, drop out, run the auxiliary heads.
          rngs: a stream `dropout`; needed in training unless both rates are 0.
        """
        x = images.astype(self.config.dtype)
        auxiliary = []
        for row, pool in _with_following_pools(self.config.rows()):
            layer = functools.partial(_lookup(self, row.name), train=train)
            if pool is not None:
                maxima = functools.partial(_lookup(self, pool.name), train=train)
                layer = functools.partial(layer, following_pool=jax.named_scope(pool.name)(maxima))
            with jax.named_scope(row.name):
                x = layer(x)
            head = self.config.auxiliary_heads().get(row.name)
            if train and head is not None:
                with jax.named_scope(head):
                    auxiliary.append(getattr(self, head)(x, train=train, rngs=rngs))
        with jax.named_scope("loss3"):
            logits = self.loss3(x, train=train, rngs=rngs)
        return Outputs(logits, tuple(auxiliary))

    def activations(self, images: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """Runs the rows one by one, as at inference.

        Args:
          images: normalised float images [batch, image_size, image_size, 3], RGB.

        Yields:
          Each row's name and output, [batch, height, width, channels].
        """
        x = images.astype(self.config.dtype)
        for row in self.config.rows():
            x = _lookup(self, row.name)(x, train=False)
            yield row.name, x


def _with_following_pools(rows: Sequence[Row]) -> Iterator[tuple[Row, MaxPoolRow | None]]:
    """Pairs rows of convolutions with the max pool after them: see `conv_unit`."""
    taken = None
    for row, following in itertools.zip_longest(rows, rows[1:]):
        if row is taken:
            continue
        # An auxiliary head needs the output before the pool.
        convolves = isinstance(row, ConvolutionRow | ModuleRow) and row.name not in AUXILIARY_HEADS
        taken = following if convolves and isinstance(following, MaxPoolRow) else None
        yield row, taken


class _Group(nnx.Module):
    """Holds the layers whose names have the same first part, as conv1/7x7_s2."""


def _build(row: Row, in_channels: int, config: GoogLeNetConfig, unit: dict[str, Any]) -> nnx.Module:
    match row:
        case ConvolutionRow():
            return ConvUnit(in_channels, row.filters, row.kernel, row.stride, **unit)
        case ModuleRow():
            return Inception(row, in_channels, **unit)
        case MaxPoolRow():
            return MaxPool(row.window, row.stride, config.padding)
        case LocalResponseNormRow():
            return LocalResponseNorm()


def _attach(root: nnx.Module, name: str, layer: nnx.Module) -> None:
    *groups, last = name.split("/")
    for group in groups:
        if not hasattr(root, group):
            setattr(root, group, _Group())
        root = getattr(root, group)
    setattr(root, last, layer)


def _lookup(root: nnx.Module, name: str) -> Any:
    """The layer of a network with a name like inception_3a/3x3."""
    return functools.reduce(getattr, name.split("/"), root)
