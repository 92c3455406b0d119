"""JSON that is valid whatever the numbers are, and files that are never half-written."""

import json
import math
import os
from pathlib import Path
from typing import Any

from inception_jax.storage import disk


def to_text(values: Any, indent: int | None = None) -> str:
    """JSON text of dictionaries, lists, texts and numbers, in which numbers may be not finite."""
    return json.dumps(finite(values), indent=indent, allow_nan=False)


def finite(values: Any) -> Any:
    """The values with None, at any depth, for NaN and infinities, which JSON does not have."""
    if isinstance(values, dict):
        return {name: finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def replace(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old content or the new content, whole.

    Raises:
      UserError: there is no room; the old content stays.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with disk.writing(path.parent):
            partial.write_text(text)
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
