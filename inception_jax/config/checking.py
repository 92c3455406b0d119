"""Checks configs against the schema of their task, and makes the default one."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from inception_jax.config import schema
from inception_jax.config.declaration import Option, options
from inception_jax.config.nearest_names import unknown
from inception_jax.config.task_registry import task_module
from inception_jax.errors import UsageError

EVALUATIONS = "evaluations"  # {name: fields of the section `evaluation`}, for further evaluations


def task_of(values: dict[str, Any]) -> str:
    """The task that a config names, whatever stands there."""
    return str(values.get("task", "classification"))


@functools.cache
def declared(task: str) -> Mapping[str, Option]:
    """The fields of a task's config: {"seed": ..., "model.norm": ...}.

    Raises:
      UsageError: there is no such task.
    """
    found, own = options(schema.Run), task_module(task).SECTIONS
    if taken := own.keys() & {*found, *schema.SECTIONS, EVALUATIONS}:
        raise UsageError(f"the task {task!r} has a section {min(taken)!r}, which all configs have")
    for section, kind in (schema.SECTIONS | own).items():
        found |= {f"{section}.{name}": option for name, option in options(kind).items()}
    return MappingProxyType(found)


def default_config(task: str = "classification") -> ConfigDict:
    """The config of the paper, locked: every field at its default.

    Raises:
      UsageError: there is no such task.
    """
    values: dict[str, Any] = {}
    for path, option in declared(task).items():
        section, _, name = path.rpartition(".")
        (values.setdefault(section, {}) if section else values)[name] = option.default
    return ConfigDict(values | {"task": task, EVALUATIONS: {}}).lock()


def find(path: str, task: str = "classification") -> Option:
    """The declaration of a field.

    Raises:
      UsageError: there is no such field; the nearest name is given.
    """
    found = declared(task).get(declared_as(path))
    if found is None:
        raise UsageError(unknown(f"config field {path!r}", path, declared(task)))
    return found


def declared_as(path: str) -> str:
    """The field that has the declaration of `path`: `evaluation.every` for those of EVALUATIONS."""
    section, _, rest = path.partition(".")
    return f"evaluation.{rest.partition('.')[2]}" if section == EVALUATIONS else path


def check(values: dict[str, Any]) -> None:
    """Checks the fields of a config, given as nested dictionaries, one by one and together.

    Raises:
      UsageError: a field is unknown, missing, of another type, or has a value that is not allowed.
    """
    task = task_of(values)
    known_fields, found = declared(task), flatten(values)
    known = [*known_fields, *_check_evaluations(values.get(EVALUATIONS), task)]
    for path, value in found.items():
        if path not in known:
            raise UsageError(unknown(f"config field {path!r}", path, known))
        check_value(path, value, task)
    sections = {EVALUATIONS, *(path.partition(".")[0] for path in known_fields)}
    if empty := values.keys() - sections:  # others have a field, which is unknown
        raise UsageError(unknown(f"config section {min(empty)!r}", min(empty), sections))
    for path in known_fields:
        if path not in found:
            raise UsageError(f"the config has no field {path!r}")
    for problem in schema.PROBLEMS:
        if text := problem(found):
            raise UsageError(text)


def check_value(path: str, value: Any, task: str = "classification") -> None:
    """Raises UsageError if a field may not have this value."""
    if error := find(path, task).error(value):
        raise UsageError(f"{path} is {value!r}; it {error}")


def _check_evaluations(values: Any, task: str) -> list[str]:
    """Checks the names of further evaluations; returns the fields that they may have."""
    if not isinstance(values, dict):
        raise UsageError(f"the config has no field {EVALUATIONS!r}: evaluations by name, or {{}}")
    inherited = [path for path in declared(task) if path.startswith("evaluation.")]
    known = []
    for name, own in values.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"{EVALUATIONS} has {name!r}; a name is letters, digits and _")
        if not isinstance(own, dict):
            raise UsageError(f"{EVALUATIONS}.{name} is {own!r}; it takes fields of evaluation")
        known += [path.replace("evaluation", f"{EVALUATIONS}.{name}", 1) for path in inherited]
    return known


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"batch_size": 32}} -> {"data.batch_size": 32}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
