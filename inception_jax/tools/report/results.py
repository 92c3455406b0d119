"""Reads the results of a run; a file may have anything in it."""

import json
import math
from pathlib import Path
from typing import Any

_LARGEST = 2**53  # above, floats skip whole numbers

# The fields of a result and the types of their values; older versions wrote fewer.
_RESULT: dict[str, type] = {
    "split": str, "step": int, "crops": int, "models": int, "weights": str, "average": str,
    "top1": float, "top5": float, "loss": float, "calibration_error": float, "examples": int,
    "images_per_second": float,
}  # fmt: skip
_LISTS: dict[str, type] = {"checkpoints": str, "overrides": str}
_TABLES: dict[str, dict[str, type]] = {
    "classes": {"label": int, "name": str, "examples": int, "top1": float},
    "confusions": {"name": str, "predicted": str, "examples": int},
}


def number(value: Any) -> float | None:
    """A finite number, or None; JSON has null where one was not finite."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def one_line(text: str) -> str:
    """Text without line breaks, in characters that UTF-8 has: names of files may have others."""
    return " ".join(text.split()).encode(errors="backslashreplace").decode()


def read(path: Path) -> dict[str, Any]:
    """Reads a file that `evaluate` wrote; raises any Exception where its content is wrong."""
    if not path.is_file():
        raise ValueError("not a file")
    content = json.loads(path.read_text())
    result: dict[str, Any] = {
        name: None if content.get(name) is None else _typed(content[name], kind)
        for name, kind in _RESULT.items()
    }
    for name, kind in _LISTS.items():
        result[name] = [_typed(value, kind) for value in content.get(name, [])]
    for name, kinds in _TABLES.items():
        result[name] = [
            {column: _typed(row[column], kind) for column, kind in kinds.items()}
            for row in content.get(name, [])
        ]
    if result["split"] is None or not result["checkpoints"]:
        raise ValueError("without a split or checkpoints")
    return result


def _typed(value: Any, kind: type) -> Any:
    """The value, or raises ValueError where it is not of this type or not finite."""
    if kind is str and isinstance(value, str):
        return one_line(value)
    if kind is int and type(value) is int and abs(value) <= _LARGEST:
        return value
    if kind is float and (known := number(value)) is not None:
        return known
    raise ValueError(f"{value!r} is not {kind.__name__}")
