"""The result of an evaluation, as JSON on disk."""

import hashlib
import re
from pathlib import Path
from typing import Any

from inception_jax import json_files


def write(result: dict[str, Any], folder: Path) -> Path:
    """Writes `folder`/evaluate_STEP_SPLIT_WEIGHTS.json; the same evaluation again replaces it.

    A slice of a split, or overrides of the config, add a hash of both to the name.
    """
    split, is_slice, _ = result["split"].partition("[")
    name = f"evaluate_{result['step']}_{re.sub(r'[^a-zA-Z0-9_]', '-', split)}_{result['weights']}"
    if result["overrides"] or is_slice:
        asked = repr((result["split"], result["overrides"]))
        name += f"_{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    json_files.replace(path, json_files.to_text(result, indent=2) + "\n")
    return path
