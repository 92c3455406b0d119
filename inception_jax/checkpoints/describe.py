"""What a checkpoint says of itself: enough to evaluate, predict and export with it alone."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import inception_jax
from inception_jax import configuration
from inception_jax.data.sources import Source

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe_run(config: ConfigDict, source: Source) -> dict[str, Any]:
    """JSON: the resolved config, label names, data fingerprint, versions and git commit."""
    return describe(config, source.class_names, source.fingerprint)


def describe(
    config: ConfigDict, class_names: Sequence[str], data_fingerprint: str | None
) -> dict[str, Any]:
    """The same, of weights that may come from elsewhere: then the fingerprint is None."""
    return {
        "format": 1,
        "config": configuration.to_dict(config),
        "class_names": list(class_names),
        "data_fingerprint": data_fingerprint,
        "versions": {
            "inception_jax": inception_jax.__version__,
            "python": platform.python_version(),
            **{library: importlib.metadata.version(library) for library in _LIBRARIES},
        },
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
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
