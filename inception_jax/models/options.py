"""The options of a network, checked, and the rows that they make of the tables."""

import dataclasses

from ml_collections import ConfigDict

from inception_jax.config import checking, schema
from inception_jax.errors import UsageError
from inception_jax.models.bn_inception import BNInceptionRow
from inception_jax.models.row_types import (
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
class GoogLeNetConfig(schema.Network):
    """The options of a network: the fields of the config's section `model`, and the image size.

    `docs/reference/config.md` has defaults, choices and reasons; what a config may leave open must
    have a value here.

    Raises:
      UsageError: a value that is not allowed, naming the field and what it may be.
    """

    image_size: int = schema.Data.image_size  # pixels, square; fixes the fully connected layers

    def __post_init__(self):
        values = {_path(name): value for name, value in dataclasses.asdict(self).items()}
        for path, value in values.items():
            checking.check_value(path, value)
            if value == checking.find(path).left_open:
                raise UsageError(f"{path} is {value!r}; only a config may leave it open")
        if problem := schema.beyond_table_1(values):
            raise UsageError(problem)

    def rows(self) -> tuple[Row, ...]:
        """Rows between image and head, with these options' modules, normalisation, width, pools."""
        rows = STEMS[self.stem] + ARCHITECTURES[self.architecture]
        if self.norm != "lrn":
            rows = tuple(row for row in rows if not isinstance(row, LocalResponseNormRow))
        return tuple(self._adapt(row) for row in rows)

    def auxiliary_heads(self) -> dict[str, str]:
        """Auxiliary heads by the module on whose output they are, in the order of the network."""
        modules = {row.name for row in ARCHITECTURES[self.architecture]}
        chosen = modules.intersection(self.auxiliary_after) if self.auxiliary else ()
        return {module: head for module, head in AUXILIARY_HEADS.items() if module in chosen}

    def scale(self, units: int) -> int:
        """Number of filters or hidden units for one of the paper, with the width multiplier."""
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
    """The network's options in a resolved config.

    Raises:
      UsageError: a field that is left open.
    """
    options = (field.name for field in dataclasses.fields(GoogLeNetConfig))
    values = checking.flatten(config.to_dict())
    return GoogLeNetConfig(**{name: values[_path(name)] for name in options})


def _path(name: str) -> str:
    """The config field of an option."""
    return f"data.{name}" if name == "image_size" else f"model.{name}"
