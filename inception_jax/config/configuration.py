"""Configs: read from a file with overrides, checked, written as JSON and compared.

A config is a locked `ml_collections.ConfigDict`; `configs/googlenet.py` documents every field.
"""

import ast
import difflib
import functools
import importlib
import importlib.util
import json
import math
import os
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import inception_jax
from inception_jax import paths
from inception_jax.errors import UsageError

# These do not change what a step computes: they may differ when a run goes on.
RESUME_SAFE_FIELDS = (
    "data.data_dir",
    "data.threads",
    "data.max_bad_fraction",
    "evaluation.bad_images",
    "training.watchdog",
)

# Smallest and largest value of the plain numbers; choices and shapes are checked by who uses them.
RANGES = {
    "seed": (0, 2**32 - 1),  # all that a key for dropout takes
    "data.batch_size": (1, math.inf),
    "data.image_size": (0, math.inf),  # 0: from the data
    "data.threads": (0, 1024),
    "data.max_bad_fraction": (0, 1),
    "photometric.lighting": (0, 1e3),
    "data.fake_examples": (1, math.inf),
    "model.width": (1e-3, 1e3),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.gradient_clip": (0, math.inf),
    "schedule.learning_rate": (0, math.inf),
    "schedule.decay_rate": (0, 1),
    "schedule.power": (0, math.inf),
    "schedule.final_learning_rate": (0, math.inf),
    "training.auxiliary_weight": (0, math.inf),
    "training.label_smoothing": (0, 1),
    "training.mixup": (0, 1e3),
    "training.average_decay": (0, 1),
    "training.watchdog": (0, 1e6),
    "checkpoints.keep_last": (1, math.inf),  # a run resumes from the newest
    "checkpoints.keep_best": (0, math.inf),
}


# Fields with paths, and whether they may be empty.
PATHS = {"data.data_dir": False, "model.init_from": True}

# What a field may be where the schema has a value of the type on the left.
_TYPES: Mapping[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    tuple: (tuple,),
}

# Fields that checkpoints of older versions lack, and what those versions did.
LEGACY_DEFAULTS = {
    "model.init_from": "",
    "model.architecture": "googlenet",
    "model.batch_norm_bias": False,
    "model.auxiliary_after": ("inception_4a", "inception_4d"),
    "model.padding": "caffe",
    "model.last_pool": 3,
    "model.auxiliary_pool": "5x5",
    "data.crop": "inception",
    "data.exact_decoding": True,
    "data.max_bad_fraction": 0.0,
    "photometric.brightness": (1.0, 1.0),
    "photometric.contrast": (1.0, 1.0),
    "photometric.saturation": (1.0, 1.0),
    "photometric.lighting": 0.0,
    "optimizer.learning_rate_factors": (),
    "optimizer.decay_all": False,
    "training.label_smoothing": 0.0,
    "training.mixup": 0.0,
    "evaluation.bad_images": "error",
    "evaluation.resize": "short_side",
    "evaluation.interpolation": "area",
    "training.watchdog": 30.0,
}


def parse_arguments(argument: str | None, **defaults: Any) -> ConfigDict:
    """Parses the text after the colon of `configs/x.py:batch_size=256,runlocal`.

    Args:
      argument: comma-separated `name=value`; a bare `name` means True. None or "" for none.
      **defaults: the arguments that the config has; their types are those of the values.

    Raises:
      UsageError: an unknown name, or a value of another type.
    """
    values = dict(defaults)
    for part in filter(None, (argument or "").split(",")):
        name, _, text = part.partition("=")
        if name not in defaults:
            raise UsageError(_unknown(f"config argument {name!r}", name, defaults))
        values[name] = _typed(name, text or "True", type(defaults[name]))
    return ConfigDict(values)


def parse_ablation(argument: str | None, **defaults: Any) -> tuple[ConfigDict, ConfigDict]:
    """The config that an ablation changes, and the ablation's arguments.

    Args:
      argument: as for `parse_arguments`; `base=fashion_mnist` starts from configs/fashion_mnist.py.
      **defaults: the ablation's own arguments.

    Raises:
      UsageError: an unknown name, a value of another type, or a base that is not there.
    """
    arguments = parse_arguments(argument, base="googlenet", **defaults)
    name = f"configs.{arguments.base}"
    if not arguments.base.isidentifier() or importlib.util.find_spec(name) is None:
        raise UsageError(f"base={arguments.base}: there is no configs/{arguments.base}.py")
    return importlib.import_module(name).get_config(), arguments


def _typed(name: str, text: str, expected: type) -> Any:
    if expected is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        raise UsageError(f"config argument {name}={text}: expected {expected.__name__}")
    return value


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads `path[:arguments]` and applies overrides like `--config.optimizer.momentum=0.8`.

    Raises:
      UsageError: no such file, an error in it, an unknown field, a value of the wrong type, a URL.
    """
    paths.check(path)
    file, _, argument = path.partition(":")
    file = str(paths.to_path(file))
    if not os.path.isfile(file):
        raise UsageError(f"no config file {file!r} (looked from {os.getcwd()})")
    try:
        config = runpy.run_path(file)["get_config"](argument)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a config is code
        raise UsageError(f"{file}: {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UsageError(f"{file}: get_config returns a {type(config).__name__}, not a ConfigDict")
    _check_fields(config.to_dict())
    config = override(config, overrides)
    _check_paths(config, PATHS)
    return config


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Applies overrides like `--config.data.data_dir=/data`; returns the config, locked.

    Raises:
      UsageError: an unknown field (with the nearest name), a value of the wrong type or size, a URL
        in place of a path.
    """
    known = flatten(config.to_dict())
    changed = []
    for argument in overrides:
        match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if match and match[1] not in known:
            raise UsageError(_unknown(f"config field {match[1]!r}", match[1], known))
        changed += [match[1]] if match else []
    values = flags.FlagValues()
    argv = ["", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
        config = values.config.lock()
    except flags.Error as error:
        raise UsageError(_one_line(error)) from error
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}")
    _check_ranges(config)
    _check_paths(config, changed)  # others may be an older checkpoint's, and nobody needs them
    return config


@functools.cache
def _schema() -> dict[str, Any]:
    """Every field, with a value of its type: the config that all others start from."""
    file = Path(inception_jax.__file__).parent.parent / "configs" / "googlenet.py"
    return flatten(runpy.run_path(str(file))["get_config"]().to_dict())


def _check_fields(values: dict[str, Any]) -> None:
    """Raises UsageError for a field that is unknown, missing or of another type."""
    schema, found = _schema(), flatten(values)
    for field in found:
        if field not in schema:
            raise UsageError(_unknown(f"config field {field!r}", field, schema))
    for field, example in schema.items():
        if field not in found:
            raise UsageError(f"the config has no field {field!r}")
        kinds = _TYPES[type(example)]
        if type(found[field]) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise UsageError(f"{field} is {found[field]!r}; it takes {wanted}")


def _check_ranges(config: ConfigDict) -> None:
    fields = flatten(config.to_dict())
    for field, (least, most) in RANGES.items():
        if field in fields and not least <= fields[field] <= most:  # false for NaN, too
            raise UsageError(f"{field} is {fields[field]}; it may be from {least} to {most}")


def _check_paths(config: ConfigDict, fields: Iterable[str]) -> None:
    values = flatten(config.to_dict())
    for field in PATHS.keys() & set(fields):
        if values[field] or not PATHS[field]:
            paths.to_path(values[field], field)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Compares whole dotted names and their last parts: `momentun` is near optimizer.momentum."""
    last = {field.rpartition(".")[2]: field for field in known}
    near = difflib.get_close_matches(name, list(known), n=1) or [
        last[field] for field in difflib.get_close_matches(name.rpartition(".")[2], list(last), n=1)
    ]
    return f"unknown {what}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    )


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Plain JSON types: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `to_dict`; lists become tuples again, so that overrides keep their types.

    Fields younger than `values` get what older versions did.

    Raises:
      UsageError: a field is unknown, missing or of another type.
    """
    values = _tuples(with_legacy_defaults(values))
    _check_fields(values)
    return ConfigDict(values).lock()


def with_legacy_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which LEGACY_DEFAULTS that are missing are there."""
    values = {name: dict(v) if isinstance(v, dict) else v for name, v in values.items()}
    for field, value in LEGACY_DEFAULTS.items():
        section, name = field.split(".")
        if isinstance(fields := values.setdefault(section, {}), dict):
            fields.setdefault(name, value)
    return values


def _tuples(value: Any) -> Any:
    match value:
        case dict():
            return {key: _tuples(item) for key, item in value.items()}
        case list():
            return tuple(_tuples(item) for item in value)
    return value


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"batch_size": 32}} -> {"data.batch_size": 32}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields that make another run of it, as {"data.batch_size": (old, new)}."""
    old, new = (flatten(_tuples(with_legacy_defaults(values))) for values in (old, new))
    return {
        field: (old.get(field), new.get(field))
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field) and field not in RESUME_SAFE_FIELDS
    }
