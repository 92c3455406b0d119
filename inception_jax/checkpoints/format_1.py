"""Checkpoints of format 1: the seal, a file with the SHA-256 of every other one, proves them whole.

They are only read. Those of format 2 have no seal: see `integrity.py`.
"""

import hashlib
import json
from pathlib import Path

from inception_jax.checkpoints import integrity
from inception_jax.checkpoints.integrity import DamagedCheckpointError

SEAL = "seal.json"
# Orbax wrote two files of its own after the seal: a text that nobody reads, and the time of the
# commit in its metadata. All else in the metadata is sealed.
_WRITTEN_LAST = "commit_success.txt"
_METADATA, _COMMIT_TIME = "_CHECKPOINT_METADATA", "commit_timestamp_nsecs"


def has_seal(directory: Path) -> bool:
    """Tells a checkpoint of format 1."""
    return (directory / SEAL).exists()


def verify(directory: Path) -> str:
    """Compares every file with the seal.

    Returns:
      The digest of the checkpoint: SHA-256 of the seal.

    Raises:
      DamagedCheckpointError: a file is missing, changed or foreign.
      UserError: a file cannot be read.
    """
    try:
        content = (directory / SEAL).read_bytes()
        digests = _parse(content)
        found = {str(path.relative_to(directory)) for path in integrity.files(directory)}
        if missing := digests.keys() - found:
            raise DamagedCheckpointError(f"file {min(missing)} is missing")
        if unknown := found - digests.keys() - {SEAL, _WRITTEN_LAST}:
            raise DamagedCheckpointError(f"file {min(unknown)} does not belong to it")
        for name, digest in digests.items():
            if _digest(directory / name) != digest:
                raise DamagedCheckpointError(f"file {name} has changed since it was written")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        gone = Path(error.filename).relative_to(directory)
        raise DamagedCheckpointError(f"file {gone} is missing") from None
    except OSError as error:
        raise integrity.unreadable(directory, error) from error
    return hashlib.sha256(content).hexdigest()


def _parse(content: bytes) -> dict[str, str]:
    try:
        digests = json.loads(content)
    except (ValueError, RecursionError):
        digests = None
    if not isinstance(digests, dict):
        raise DamagedCheckpointError(f"{SEAL} is not readable")
    return digests


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        if path.name == _METADATA:
            return hashlib.sha256(_without_commit_time(file.read())).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_commit_time(metadata: bytes) -> bytes:
    """The metadata as they were sealed; as they are where the time is not a number."""
    try:
        content = json.loads(metadata)
    except (ValueError, RecursionError):
        return metadata
    if not isinstance(content, dict) or not isinstance(content.pop(_COMMIT_TIME, 0), int):
        return metadata
    return json.dumps(content, sort_keys=True).encode()
