"""The result of an evaluation, as JSON on disk."""

from pathlib import Path
from typing import Any

from inception_jax import json_files


def write(result: dict[str, Any], folder: Path) -> Path:
    """Writes `folder`/evaluate_STEP_SPLIT_WEIGHTS.json; the same evaluation again replaces it."""
    split = "".join(c if c.isalnum() else "-" for c in result["split"]).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evaluate_{result['step']}_{split}_{result['weights']}.json"
    json_files.replace(path, json_files.to_text(result, indent=2) + "\n")
    return path
