"""JSON on disk: valid whatever the numbers are, and never half-written."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inception_jax.storage import disk


def to_text(values: Mapping[str, Any], indent: int | None = None) -> str:
    """One object; null stands for a number that is not finite, since JSON has none."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, indent=indent)


def replace(path: Path, text: str) -> None:
    """Writes a file so that whoever reads it finds the old content or the new one, whole.

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
