"""Finding damage. Orbax restores flipped bits without a word, so a checkpoint carries two proofs.

The seal, a file with the SHA-256 of every other file, is written before Orbax gives the directory
its final name: a directory with a number for a name and no seal is not a checkpoint. And each array
has a checksum of its values, taken before writing and compared after reading.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

SEAL = "seal.json"
# Orbax touches two files of its own after the seal: it adds a text file that nobody reads, and
# enters the time of the commit in its metadata. All else in the metadata is sealed.
_WRITTEN_LAST = "commit_success.txt"
_METADATA, _COMMIT_TIME = "_CHECKPOINT_METADATA", "commit_timestamp_nsecs"


class DamagedCheckpointError(Exception):
    """What is wrong with a checkpoint directory, naming the file or array."""


def seal(directory: Path) -> None:
    """Records the content of every file below `directory`."""
    digests = {str(path.relative_to(directory)): _digest(path) for path in _files(directory)}
    (directory / SEAL).write_text(json.dumps(digests, indent=0))


def verify_seal(directory: Path) -> None:
    """Raises DamagedCheckpointError unless every sealed file is there, unchanged, and no other."""
    with _reading(directory):
        if not (directory / SEAL).is_file():  # a pipe of that name would be waited for
            raise DamagedCheckpointError(f"{SEAL} is missing")
        try:
            digests = json.loads((directory / SEAL).read_text())
        except (ValueError, RecursionError):
            raise DamagedCheckpointError(f"{SEAL} is not readable") from None
        if not isinstance(digests, dict):
            raise DamagedCheckpointError(f"{SEAL} is not readable")
        found = {str(path.relative_to(directory)) for path in _files(directory)}
        if missing := digests.keys() - found:
            raise DamagedCheckpointError(f"file {min(missing)} is missing")
        if unknown := found - digests.keys() - {SEAL, _WRITTEN_LAST}:
            raise DamagedCheckpointError(f"file {min(unknown)} does not belong to it")
        for name, digest in digests.items():
            if _digest(directory / name) != digest:
                raise DamagedCheckpointError(f"file {name} has changed since it was written")


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """Raises DamagedCheckpointError where a file cannot be read."""
    try:
        yield
    except OSError as error:
        name = os.path.relpath(error.filename, directory) if error.filename else "in it"
        gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        what = "is missing" if gone else f"cannot be read: {error.strerror}"
        raise DamagedCheckpointError(f"file {name} {what}") from None


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def digest(directory: Path) -> str:
    """SHA-256 of the seal: two checkpoints that have the same are the same."""
    with _reading(directory):
        return _digest(directory / SEAL)


def check_description(description: Any) -> None:
    """Raises DamagedCheckpointError unless it has a step and describes arrays, as `save` writes."""
    step = description.get("step") if isinstance(description, dict) else None
    if type(step) is not int or step < 0:
        raise DamagedCheckpointError("its description has no step")
    arrays = description.get("arrays")
    if not isinstance(arrays, dict) or not all(map(_is_described, arrays.values())):
        raise DamagedCheckpointError("its description has no shapes and checksums of arrays")


def _is_described(array: Any) -> bool:
    described = isinstance(array, dict) and array.keys() == {"shape", "dtype", "crc32"}
    return described and isinstance(array["shape"], list)


def describe_arrays(tree: Any) -> dict[str, dict[str, Any]]:
    """{"params/inception_3a/1x1/kernel": {"shape", "dtype", "crc32"}}; the checksum as hex."""
    return {
        "/".join(str(key.key) for key in path): _describe(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def verify_arrays(tree: Any, described: dict[str, dict[str, Any]]) -> None:
    """Raises DamagedCheckpointError naming the first array that is not as described."""
    for name, found in describe_arrays(tree).items():
        if described.get(name) != found:
            raise DamagedCheckpointError(f"array {name} does not match its checksum")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        if path.name == _METADATA:
            return hashlib.sha256(_without_commit_time(file.read())).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_commit_time(metadata: bytes) -> bytes:
    try:
        content = json.loads(metadata)
        content.pop(_COMMIT_TIME, None)
    except (ValueError, AttributeError):
        return metadata
    return json.dumps(content, sort_keys=True).encode()


def _describe(array: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "crc32": f"{zlib.crc32(content.data):08x}",
    }
