"""The options of a network, checked, and the rows that they make of the tables."""

import dataclasses

from ml_collections import ConfigDict

from inception_jax.errors import UsageError
from inception_jax.models.bn_inception import BNInceptionRow
from inception_jax.models.initialization import INITIALIZATIONS
from inception_jax.models.rows import (
    Convolution,
    ConvolutionRow,
    LocalResponseNormRow,
    MaxPoolRow,
    ModuleRow,
    Pool,
    Row,
)
from inception_jax.models.tables import (
    ARCHITECTURES,
    AUXILIARY_HEADS,
    NAIVE,
    STEMS,
    InceptionRow,
    TableRow,
)


@dataclasses.dataclass(frozen=True)
class GoogLeNetConfig:
    """The options of a network; the defaults are the paper, `configs/googlenet.py` has reasons.

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


def network_config(config: ConfigDict) -> GoogLeNetConfig:
    """`config.model` and the image size, checked.

    Raises:
      UsageError: an unknown field or a value out of its range.
    """
    fields = {field.name for field in dataclasses.fields(GoogLeNetConfig)}
    values = {name: value for name, value in config.model.items() if name != "init_from"}
    for name in values:
        if name not in fields - {"image_size"}:
            raise UsageError(f"unknown config field 'model.{name}'")
    return GoogLeNetConfig(image_size=config.data.image_size, **values)
