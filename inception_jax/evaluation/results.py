"""The result of an evaluation, as JSON on disk."""

import json
import math
import os
from pathlib import Path
from typing import Any


def to_json(result: dict[str, Any]) -> str:
    """One object; a number that is not finite becomes null, since JSON has none."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in result.items()
    }
    return json.dumps(finite, indent=2)


def write(result: dict[str, Any], folder: Path) -> Path:
    """Writes `folder`/evaluate_STEP_SPLIT_WEIGHTS.json; the same evaluation again replaces it."""
    split = "".join(c if c.isalnum() else "-" for c in result["split"]).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evaluate_{result['step']}_{split}_{result['weights']}.json"
    partial = path.with_suffix(".json.partial")
    partial.write_text(to_json(result) + "\n")
    os.replace(partial, path)
    return path
