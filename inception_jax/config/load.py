"""Configs from files: arguments after the colon, overrides on the command line, checked.

A config is a locked `ml_collections.ConfigDict`; `docs/reference/config.md` has every field.
"""

import ast
import importlib
import importlib.util
import os
import re
import runpy
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from inception_jax import paths
from inception_jax.config import checking, compatibility
from inception_jax.config.nearest_names import unknown
from inception_jax.errors import UsageError


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads `path[:arguments]` and applies overrides like `--config.optimizer.momentum=0.8`.

    Fields younger than the file get what older versions did.

    Raises:
      UsageError: no such file, an error in it, an unknown field, a value that is not allowed, a
        URL in place of a path.
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
    values = compatibility.with_legacy_values(config.to_dict())
    checking.check(values)
    config = override_config(ConfigDict(values), overrides)
    _check_paths(config, checking.flatten(values))
    return config


def override_config(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Applies overrides like `--config.data.data_dir=/data`; returns a locked copy.

    Raises:
      UsageError: an unknown field (with the nearest name), a value that is not allowed, a URL in
        place of a path.
    """
    config = _with_inherited_fields(config, overrides)
    known = checking.flatten(config.to_dict())
    changed = []
    for argument in overrides:
        match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        if match and match[1] not in known:
            raise UsageError(unknown(f"config field {match[1]!r}", match[1], known))
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
    checking.check(config.to_dict())
    _check_paths(config, changed)  # others may be an older checkpoint's, and nobody needs them
    return config


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
            raise UsageError(unknown(f"config argument {name!r}", name, defaults))
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


def _with_inherited_fields(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """An unlocked copy in which further evaluations have the fields that overrides set in them."""
    config = config.copy_and_resolve_references().unlock()
    for argument in overrides:
        match = re.match(rf"--?(?:no)?config\.{checking.EVALUATIONS}\.(\w+)\.(\w+)", argument)
        if match and match[1] in config.evaluations and match[2] in config.evaluation:
            inherited = {match[2]: config.evaluation[match[2]]}
            own = config.evaluations[match[1]].to_dict()
            config.evaluations[match[1]] = inherited | own
    return config


def _check_paths(config: ConfigDict, fields: Iterable[str]) -> None:
    values = checking.flatten(config.to_dict())
    for field in fields:
        option = checking.find(field, config.task)
        if option.path and (values[field] or option.default):
            paths.to_path(values[field], field)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
