"""Writes and finds results of evaluations: JSON, and Markdown and a picture for tables."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from inception_jax.runtime import pictures
from inception_jax.storage import json_files, workdir
from inception_jax.tasks.classification import table_3

# Long, and for a closer look: in the file, but not printed.
DETAILS = ("classes", "confusions")


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result without its DETAILS."""
    return {name: value for name, value in result.items() if name not in DETAILS}


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `folder`/evaluate_CHECKPOINT_SPLIT_WEIGHTS.json; the same evaluation replaces it.

    What else was asked for is in the name, too, or in a hash at its end. A table is written as .md
    and .png besides.

    Returns:
      What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_name(result)}.json"
    json_files.replace(path, json_files.to_text(result, indent=2) + "\n")
    if "table" not in result:
        return [path]
    text, picture = path.with_suffix(".md"), path.with_suffix(".png")
    caption = f"{result['config_name']} on {result['split']}, {result['examples']} images"
    json_files.replace(text, table_3.markdown(result["table"], result["checkpoints"], caption))
    pictures.errors_by_cost(result["table"], caption, picture)
    return [path, text, picture]


def find(folder: Path, identity: str) -> dict[str, Any] | None:
    """Returns the result of an evaluation that was done before, or None."""
    for path in sorted(folder.glob("evaluate_*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError:
            continue  # not one of ours
        if isinstance(result, dict) and result.get("identity") == identity:
            return result
    return None


def _name(result: dict[str, Any]) -> str:
    split, is_slice, _ = result["split"].partition("[")
    first, *others = (Path(checkpoint).resolve() for checkpoint in result["checkpoints"])
    parts = [
        "evaluate",
        first.name.removesuffix(workdir.REPLACED),
        re.sub(r"[^a-zA-Z0-9_]", "-", split),
        result["weights"].replace("/", "-"),
    ]
    if others:
        parts.append(f"{result['models']}models")
    if result["crops"] > 1:
        parts.append(f"{result['crops']}crops")
    if result["average"] != "probabilities":
        parts.append(result["average"])
    if "table" in result:
        parts.append("table")
    if result["overrides"] or is_slice or others:
        asked = repr((result["split"], result["overrides"], [str(path) for path in others]))
        parts.append(hashlib.sha256(asked.encode()).hexdigest()[:8])
    return "_".join(parts)
