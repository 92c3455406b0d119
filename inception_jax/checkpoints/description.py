"""The description in a checkpoint: all that evaluate, predict and export need beside the arrays."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import inception_jax
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.config import compatibility

FORMAT = 2  # another number is for changes that old versions misread
_READABLE = (1, 2)  # 1 had a seal: see `format_1.py`
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_description(
    config: ConfigDict, class_names: Sequence[str], data_fingerprint: str | None
) -> dict[str, Any]:
    """The resolved config, label names, data fingerprint, versions and git commit, as JSON.

    Args:
      config: resolved.
      class_names: of all labels, in their order.
      data_fingerprint: of the training data; None where it is not known.
    """
    return {
        "format": FORMAT,
        "config": compatibility.to_dict(config),
        "class_names": list(class_names),
        "data_fingerprint": data_fingerprint,
        "versions": {
            "inception_jax": inception_jax.__version__,
            "python": platform.python_version(),
            **{library: importlib.metadata.version(library) for library in _LIBRARIES},
        },
        "git_commit": git_commit(),
    }


def check_format(description: dict[str, Any]) -> None:
    """Raises DamagedCheckpointError unless it has what `make_description` writes."""
    found = description.get("format")
    if type(found) is not int or found not in _READABLE:
        readable = " and ".join(map(str, _READABLE))
        raise DamagedCheckpointError(f"it is of format {found!r}; this version reads {readable}")
    fingerprint = description.get("data_fingerprint", 0)
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise DamagedCheckpointError("its description has no fingerprint of the data")
    if not isinstance(description.get("config"), dict):
        raise DamagedCheckpointError("its description has no config")
    names = description.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DamagedCheckpointError("its description has no names of the classes")


def git_commit() -> str | None:
    """The checkout's commit, with + if there are uncommitted changes; None outside a checkout."""
    folder = Path(inception_jax.__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None  # installed somewhere inside another project's checkout
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None
