"""Reads published weights of other frameworks as ours.

Each format is a module with CONFIG, the file in configs/ that has its network and preprocessing;
READERS, {kind of file: reader}; `separate(tensors)`, which returns the weights, and notes on other
tensors for the checkpoint; and `layers(config, tensors)`, the names and layouts of our layers.
"""

import dataclasses
import importlib
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

import inception_jax
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.errors import UserError
from inception_jax.models.network import Tree, build
from inception_jax.models.options import GoogLeNetConfig, network_config
from inception_jax.models.tables import AUXILIARY_HEADS
from inception_jax.tools.interop import files, weight_maps
from inception_jax.tools.interop.formats import IMPORTED

FORMATS: dict[str, ModuleType] = {
    name: importlib.import_module(module) for name, module in IMPORTED.items()
}
CONFIGS = Path(inception_jax.__file__).parent.parent / "configs"


@dataclasses.dataclass(frozen=True)
class Published:
    """Converted weights.

    `tree` is {"params", "batch_stats"}, float32; `config` is resolved; `source` names the format
    and the files, as JSON.
    """

    tree: Tree
    config: ConfigDict
    source: dict[str, Any]


def read_weights(name: str, path: Path, overrides: Sequence[str] = ()) -> Published:
    """Reads a file of weights.

    Args:
      name: of the format, a key of FORMATS.
      path: the file.
      overrides: --config.a.b=value, on top of the format's config. model.auxiliary is what the file
        has, unless it is among them.

    Raises:
      UserError: the file does not exist, is of another format or network, or is damaged.
      UsageError: an override does not fit.
    """
    chosen, kind = FORMATS[name], files.kind(path)
    if kind not in chosen.READERS:
        other = next(other for other, module in FORMATS.items() if kind in module.READERS)
        raise UserError(f"{path} is {kind}, not of {name}: use --from {other}")
    try:
        tensors = chosen.READERS[kind](path)
    except UserError:
        raise
    except Exception as error:  # the libraries have no class of errors for damaged files
        message = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
        raise UserError(f"{path} looks like {kind} and is damaged: {message}") from error
    tensors, notes = chosen.separate(tensors)
    auxiliary = _has_auxiliary_heads(chosen, tensors)
    config = resolve(
        load_config(
            str(CONFIGS / chosen.CONFIG),
            [
                f"--config.model.auxiliary={auxiliary}",
                *overrides,
                "--config.training.average_decay=0.0",  # the file has one set of weights
            ],
        )
    )
    network = build(network_config(config))
    weight_map = weight_maps.make_map(network, chosen.layers(network.config, tensors))
    tree = weight_maps.import_weights(network, weight_map, tensors, path)
    return Published(tree, config, {"format": name, "files": files.digests(path), **notes})


def _has_auxiliary_heads(chosen: ModuleType, tensors: weight_maps.Tensors) -> bool:
    layers = chosen.layers(GoogLeNetConfig(), tensors)
    names = [
        layers[f"{head}/fc"].name for head in AUXILIARY_HEADS.values() if f"{head}/fc" in layers
    ]
    return any(tensor.startswith(name) for tensor in tensors for name in names)
