"""The network as NNX modules: the layers of its rows, the auxiliary heads and the main head."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.inception import Inception
from inception_jax.models.layers import (
    AdaptiveAveragePool,
    AveragePool,
    ConvUnit,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    relu,
)
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.rows import (
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Row,
)
from inception_jax.models.shapes import Maps, auxiliary_pool, output_of
from inception_jax.models.tables import (
    AUXILIARY_FILTERS,
    AUXILIARY_HEADS,
    AUXILIARY_PARTS,
    AUXILIARY_STRIDE,
    AUXILIARY_WINDOW,
    FULLY_CONNECTED_UNITS,
)


class Outputs(NamedTuple):
    """What the network returns: float32 logits [batch, classes].

    `auxiliary` has those of loss1 (on 4a) and loss2 (on 4d) in training, where the network has
    them, and is empty otherwise.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...]


class AuxiliaryHead(nnx.Module):
    """Section 5: average pool 5x5/3, 1x1 convolution, fully connected, dropout 70 %, linear."""

    def __init__(self, pooled: Maps, config: GoogLeNetConfig, **unit):
        """`pooled` is what the average pool makes of the module's output."""
        dense = {key: unit[key] for key in ("dtype", "rngs")}
        hidden = config.scale(FULLY_CONNECTED_UNITS)
        maps = Maps(pooled.size, config.scale(AUXILIARY_FILTERS))
        self.pool = (
            AdaptiveAveragePool(AUXILIARY_PARTS)
            if config.auxiliary_pool == "adaptive"
            else AveragePool(AUXILIARY_WINDOW, AUXILIARY_STRIDE)
        )
        self.conv = ConvUnit(pooled.channels, maps.channels, 1, **unit)
        self.fc = nnx.Linear(maps.values, hidden, **dense)
        self.dropout = nnx.Dropout(config.auxiliary_dropout)
        self.classifier = nnx.Linear(hidden, config.num_classes, **dense)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        x = self.pool(x, train=train)
        with jax.named_scope("conv"):
            x = self.conv(x, train=train)
        with jax.named_scope("fc"):
            x = relu(self.fc(_flatten(x)))
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        with jax.named_scope("classifier"):
            return self.classifier(x).astype(jnp.float32)


class MainHead(nnx.Module):
    """Global average pool (or, as an ablation, a fully connected layer), dropout 40 %, linear."""

    def __init__(self, features: Maps, config: GoogLeNetConfig, **dense):
        average = config.head == "average_pool"
        hidden = features.channels if average else config.scale(FULLY_CONNECTED_UNITS)
        if average:
            self.pool = GlobalAveragePool()
        else:
            self.fc = nnx.Linear(features.values, hidden, **dense)
        self.dropout = nnx.Dropout(config.dropout)
        self.classifier = nnx.Linear(hidden, config.num_classes, **dense)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        if hasattr(self, "pool"):
            with jax.named_scope("pool"):
                x = self.pool(x, train=train)
            x = _flatten(x)
        else:
            with jax.named_scope("fc"):
                x = relu(self.fc(_flatten(x)))
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        with jax.named_scope("classifier"):
            return self.classifier(x).astype(jnp.float32)


class GoogLeNet(nnx.Module):
    """The network of Table 1 and figure 3, with the options of `GoogLeNetConfig`.

    Only its structure counts: the values of a new network's parameters come from
    `initialization.initial_values`, not from the constructor's `rngs`.
    """

    def __init__(self, config: GoogLeNetConfig, *, rngs: nnx.Rngs):
        """Raises UsageError where the images are too small for the auxiliary heads."""
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
        for row, pool in _with_pools(self.config.rows()):
            layer = functools.partial(_lookup(self, row.name), train=train)
            if pool is not None:
                maxima = functools.partial(_lookup(self, pool.name), train=train)
                layer = functools.partial(layer, pool=jax.named_scope(pool.name)(maxima))
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
        """Each row's name and output, [batch, height, width, channels], as at inference.

        Args:
          images: as above.
        """
        x = images.astype(self.config.dtype)
        for row in self.config.rows():
            x = _lookup(self, row.name)(x, train=False)
            yield row.name, x


def _with_pools(rows: Sequence[Row]) -> Iterator[tuple[Row, MaxPoolRow | None]]:
    """The rows; a max pool after convolutions comes with them, since they apply it sooner."""
    taken = None
    for row, following in itertools.zip_longest(rows, rows[1:]):
        if row is taken:
            continue
        # A head's input is the whole output.
        convolves = isinstance(row, ConvolutionRow | ModuleRow) and row.name not in AUXILIARY_HEADS
        taken = following if convolves and isinstance(following, MaxPoolRow) else None
        yield row, taken


class _Group(nnx.Module):
    """The first part of a name like conv1/7x7_s2."""


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
    return functools.reduce(getattr, name.split("/"), root)


def _flatten(x: jax.Array) -> jax.Array:
    """[batch, height, width, channels] -> [batch, features], in that order (Caffe's is C, H, W)."""
    return x.reshape(x.shape[0], -1)
