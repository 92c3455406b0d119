"""GoogLeNet: Table 1 of "Going Deeper with Convolutions" (arXiv 1409.4842) as a table of rows.

Layers carry the names of Caffe's bvlc_googlenet, so that weights and papers can be matched by eye:
`params["inception_3a"]["3x3_reduce"]["kernel"]`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.errors import UsageError
from inception_jax.models import bn_inception
from inception_jax.models.bn_inception import BNInceptionRow
from inception_jax.models.inception import Convolution, Inception, InceptionRow, ModuleRow, Pool
from inception_jax.models.initialization import INITIALIZATIONS
from inception_jax.models.layers import (
    AdaptiveAveragePool,
    AveragePool,
    ConvUnit,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    relu,
)


@dataclasses.dataclass(frozen=True)
class ConvolutionRow:
    """A convolution outside the modules: kernel and stride in pixels, number of filters."""

    name: str
    kernel: int
    stride: int
    filters: int


@dataclasses.dataclass(frozen=True)
class MaxPoolRow:
    """A max pool with stride 2; window in pixels."""

    name: str
    window: int = 3


@dataclasses.dataclass(frozen=True)
class LocalResponseNormRow:
    """Local response normalisation; present only with `norm` = lrn."""

    name: str


Row = ConvolutionRow | MaxPoolRow | LocalResponseNormRow | ModuleRow  # what a network is made of
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

# Beginnings of the names of those modules that have no reductions.
NAIVE = {"reduced": (), "naive": ("inception_",), "naive_3": ("inception_3",)}

AUXILIARY_HEADS = {"inception_4a": "loss1", "inception_4d": "loss2"}  # section 5
AUXILIARY_FILTERS = 128
FULLY_CONNECTED_UNITS = 1024  # of the auxiliary heads, and of `head` = fully_connected


@dataclasses.dataclass(frozen=True)
class GoogLeNetConfig:
    """What can be varied; the defaults are the paper. `configs/googlenet.py` says why of each.

    Raises:
      UsageError: a value out of its range, naming the field and what it may be.
    """

    num_classes: int = 1000
    image_size: int = 224  # pixels, square; fixes the width of the fully connected layers
    architecture: str = "googlenet"  # a key of ARCHITECTURES
    norm: str = "lrn"  # lrn | batch | none
    batch_norm_bias: bool = False  # convolutions before a batch normalisation have a bias, too
    module: str = "reduced"  # reduced (figure 2b) | naive (figure 2a) | naive_3 (in 3a and 3b)
    large_kernel: int = 5  # pixels; 3 is TF-slim's and torchvision's variant
    head: str = "average_pool"  # average_pool | fully_connected
    stem: str = "imagenet"  # a key of STEMS
    padding: str = "caffe"  # of windows with stride 2: caffe | same (TensorFlow's)
    last_pool: int = 3  # pixels, window of pool4; 2 in TF-slim and torchvision
    auxiliary_pool: str = "5x5"  # 5x5 (stride 3) | adaptive (4x4 parts, torchvision)
    auxiliary: bool = True  # build the auxiliary heads
    # Modules that have one; those that the architecture lacks do not count.
    auxiliary_after: tuple[str, ...] = tuple(AUXILIARY_HEADS)
    width: float = 1.0  # multiplies every number of filters and hidden units
    dropout: float = 0.4  # share of activations dropped before the classifier
    auxiliary_dropout: float = 0.7  # the same, in the auxiliary heads
    initialization: str = "caffe"  # caffe | he
    dtype: str = "float32"  # of the computation: float32 | bfloat16; parameters are float32

    def __post_init__(self):
        choices: dict[str, tuple] = {
            "architecture": tuple(ARCHITECTURES),
            "norm": ("lrn", "batch", "none"),
            "module": tuple(NAIVE),
            "large_kernel": (5, 3),
            "head": ("average_pool", "fully_connected"),
            "stem": tuple(STEMS),
            "padding": ("caffe", "same"),
            "last_pool": (3, 2),
            "auxiliary_pool": ("5x5", "adaptive"),
            "initialization": tuple(INITIALIZATIONS),
            "dtype": ("float32", "bfloat16"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise UsageError(
                    f"model.{field} is {getattr(self, field)!r}; it may be "
                    + " or ".join(map(repr, allowed))
                )
        for field in ("dropout", "auxiliary_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise UsageError(f"model.{field} is {getattr(self, field)}; it lies in [0, 1)")
        for field in ("num_classes", "image_size", "width"):
            if getattr(self, field) <= 0:
                raise UsageError(f"model.{field} is {getattr(self, field)}; it must be positive")
        for module in self.auxiliary_after:
            if module not in AUXILIARY_HEADS:
                raise UsageError(
                    f"model.auxiliary_after has {module!r}; there are "
                    + " and ".join(map(repr, AUXILIARY_HEADS))
                )
        for field in ("module", "large_kernel", "last_pool"):
            table_1 = getattr(GoogLeNetConfig, field)
            if self.architecture == "bn_inception" and getattr(self, field) != table_1:
                raise UsageError(
                    f"model.{field} is for the modules of Table 1, not for "
                    f"model.architecture='bn_inception'; leave it at {table_1!r}"
                )

    def rows(self) -> tuple[Row, ...]:
        """All between image and head, with this config's modules, normalisation, width, pools."""
        rows = STEMS[self.stem] + ARCHITECTURES[self.architecture]
        if self.norm != "lrn":
            rows = tuple(row for row in rows if not isinstance(row, LocalResponseNormRow))
        return tuple(self._adapt(row) for row in rows)

    def auxiliary_heads(self) -> dict[str, str]:
        """{module: the head on its output}, in the order of the network."""
        modules = {row.name for row in ARCHITECTURES[self.architecture]}
        chosen = modules.intersection(self.auxiliary_after) if self.auxiliary else ()
        return {module: head for module, head in AUXILIARY_HEADS.items() if module in chosen}

    def scale(self, units: int) -> int:
        """A number of filters or hidden units of the paper, times the width multiplier."""
        return max(1, round(units * self.width))

    def _adapt(self, row: TableRow) -> Row:
        match row:
            case ConvolutionRow():
                return dataclasses.replace(row, filters=self.scale(row.filters))
            case MaxPoolRow(name="pool4/3x3_s2") if self.last_pool == 2:
                return MaxPoolRow("pool4/2x2_s2", window=2)
            case InceptionRow():
                naive = row.name.startswith(NAIVE[self.module])
                form = row.naive if naive else row.reduced
                return self._scale_module(form(self.large_kernel))
            case BNInceptionRow():
                return self._scale_module(row.module())
            case _:
                return row

    def _scale_module(self, row: ModuleRow) -> ModuleRow:
        def scaled(part: Convolution | Pool) -> Convolution | Pool:
            match part:
                case Convolution():
                    return part._replace(filters=self.scale(part.filters))
                case Pool():
                    return part

        return ModuleRow(row.name, tuple(tuple(map(scaled, branch)) for branch in row.branches))


class Outputs(NamedTuple):
    """What the network returns: float32 logits [batch, classes].

    `auxiliary` has those of loss1 (on 4a) and loss2 (on 4d) in training, where the network has
    them, and is empty otherwise.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...]


class AuxiliaryHead(nnx.Module):
    """Section 5: average pool 5x5/3, 1x1 convolution, fully connected, dropout 70 %, linear."""

    def __init__(self, features: jax.ShapeDtypeStruct, config: GoogLeNetConfig, **unit):
        dense = {key: unit[key] for key in ("dtype", "rngs")}
        hidden = config.scale(FULLY_CONNECTED_UNITS)
        adaptive = config.auxiliary_pool == "adaptive"
        self.pool = AdaptiveAveragePool(4) if adaptive else AveragePool(window=5, stride=3)
        self.conv = ConvUnit(features.shape[-1], config.scale(AUXILIARY_FILTERS), 1, **unit)
        pooled = jax.eval_shape(functools.partial(self.pool, train=False), features)
        flat = math.prod(pooled.shape[1:3]) * config.scale(AUXILIARY_FILTERS)
        self.fc = nnx.Linear(flat, hidden, **dense)
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

    def __init__(self, features: jax.ShapeDtypeStruct, config: GoogLeNetConfig, **dense):
        average = config.head == "average_pool"
        hidden = features.shape[-1] if average else config.scale(FULLY_CONNECTED_UNITS)
        flat = math.prod(features.shape[1:])
        if average:
            self.pool = GlobalAveragePool()
        else:
            self.fc = nnx.Linear(flat, hidden, **dense)
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
        # Shapes come from tracing the layers built so far: no second copy of their arithmetic.
        x = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), unit["dtype"])
        for row in config.rows():
            layer = _build(row, x.shape[-1], config, unit)
            _attach(self, row.name, layer)
            x = jax.eval_shape(functools.partial(layer, train=False), x)
            if row.name in heads:
                if min(x.shape[1:3]) < 5 and config.auxiliary_pool == "5x5":
                    small = "" if config.stem.startswith("small") else ", model.stem='small'"
                    raise UsageError(
                        f"data.image_size {config.image_size} leaves {x.shape[1]}x{x.shape[2]} at "
                        f"{row.name}, less than the auxiliary heads' 5x5 pool: use larger images"
                        f"{small} or model.auxiliary=False"
                    )
                _attach(self, heads[row.name], AuxiliaryHead(x, config, **unit))
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
            return MaxPool(row.window, 2, config.padding)
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
