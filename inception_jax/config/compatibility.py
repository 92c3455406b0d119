"""Configs as JSON, those of older versions among them, and how two configs differ."""

import json
from typing import Any

from ml_collections import ConfigDict

from inception_jax.config import checking
from inception_jax.config.checking import flatten
from inception_jax.config.declaration import NOTHING


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Plain JSON types: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `to_dict`; lists become tuples again, so that overrides keep their types.

    Fields younger than `values` get what older versions did. Paths are not checked: nobody may
    need them.

    Raises:
      UsageError: a field is unknown, missing, of another type, or has a value that is not allowed.
    """
    values = _tuples(with_legacy_values(values))
    checking.check(values)
    return ConfigDict(values).lock()


def with_legacy_values(values: dict[str, Any]) -> dict[str, Any]:
    """A copy with what older versions did in place of fields that they did not have.

    Raises:
      UsageError: there is no such task.
    """
    values = {name: dict(v) if isinstance(v, dict) else v for name, v in values.items()}
    values.setdefault(checking.EVALUATIONS, {})
    for path, option in checking.declared(checking.task_of(values)).items():
        section, _, name = path.rpartition(".")
        fields = values.setdefault(section, {}) if section else values
        if option.legacy is not NOTHING and isinstance(fields, dict):
            fields.setdefault(name, option.legacy)
    return values


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields that make another run of it, as {"data.batch_size": (old, new)}.

    Raises:
      UsageError: there is no such task.
    """
    old, new = (_tuples(with_legacy_values(values)) for values in (old, new))
    task, old, new = checking.task_of(new), _with_evaluations(old), _with_evaluations(new)
    return {
        field: (old.get(field), new.get(field))
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field) and not is_resume_safe(field, task)
    }


def _with_evaluations(values: dict[str, Any]) -> dict[str, Any]:
    """The fields, and the names of further evaluations: one may have no field of its own."""
    names = values.get(checking.EVALUATIONS, {})
    return flatten(values) | {f"{checking.EVALUATIONS}.{name}": "evaluated" for name in names}


def is_resume_safe(field: str, task: str = "classification") -> bool:
    """True for a field that may differ when a run goes on: no step computes anything else."""
    option = checking.declared(task).get(checking.declared_as(field))
    return option is not None and option.resume_safe


def _tuples(value: Any) -> Any:
    match value:
        case dict():
            return {key: _tuples(item) for key, item in value.items()}
        case list():
            return tuple(_tuples(item) for item in value)
    return value
