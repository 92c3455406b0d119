"""Finding damage, since Orbax restores flipped bits without a word.

The description of a checkpoint has the SHA-256 of each array, taken before Orbax writes it and
compared with what Orbax reads, and the SHA-256 of itself. So that one checksum stands for all that
is restored: it is the digest of the checkpoint. Files are not checked for their own sake: a bit
that changes neither an array nor the description does not matter.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from inception_jax.errors import UserError

DIGEST = "sha256"  # the field of a description with the checksum of all its other fields

_ARRAY_CHECKSUMS: dict[str, Callable[[Any], str]] = {
    "sha256": lambda content: hashlib.sha256(content).hexdigest(),
    "crc32": lambda content: f"{zlib.crc32(content):08x}",  # of checkpoints with a seal
}


class DamagedCheckpointError(Exception):
    """A checkpoint is not what was saved; the message names the file, array or field."""


def describe_arrays(tree: Any, checksum: str = "sha256") -> dict[str, dict[str, Any]]:
    """Names, shapes, dtypes and checksums of the arrays in a tree.

    Args:
      tree: nested dictionaries of arrays.
      checksum: a key of `_ARRAY_CHECKSUMS`; crc32 is only read.

    Returns:
      {"params/inception_3a/1x1/kernel": {"shape", "dtype", "sha256"}}; the checksum in hexadecimal.
    """
    return {
        "/".join(str(key.key) for key in path): _describe(np.asarray(leaf), checksum)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _describe(array: np.ndarray, checksum: str) -> dict[str, Any]:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        checksum: _ARRAY_CHECKSUMS[checksum](content.data),
    }


def check_arrays(tree: Any, described: dict[str, dict[str, Any]]) -> None:
    """Raises DamagedCheckpointError naming the first array that is not as described."""
    for checksum in _ARRAY_CHECKSUMS:
        named = {name for name, array in described.items() if checksum in array}
        for name, found in describe_arrays(tree, checksum).items() if named else ():
            if name in named and described[name] != found:
                raise DamagedCheckpointError(f"array {name} does not match its checksum")


def with_digest(description: dict[str, Any]) -> dict[str, Any]:
    """Adds the checksum of a description to it."""
    return description | {DIGEST: _digest(description)}


def check_digest(description: Any) -> str:
    """Returns the checksum of a description.

    Raises:
      DamagedCheckpointError: the description is not what it was, or has no checksum.
    """
    if not isinstance(description, dict) or DIGEST not in description:
        raise DamagedCheckpointError("its description has no checksum")
    if description[DIGEST] != (digest := _digest(description)):
        raise DamagedCheckpointError("its description does not match its checksum")
    return digest


def _digest(description: dict[str, Any]) -> str:
    """SHA-256 of the values, however they are laid out as JSON."""
    content = {name: value for name, value in description.items() if name != DIGEST}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_description(description: Any) -> None:
    """Raises DamagedCheckpointError unless it has a step and describes arrays, as `save` writes."""
    step = description.get("step") if isinstance(description, dict) else None
    if type(step) is not int or step < 0:
        raise DamagedCheckpointError("its description has no step")
    arrays = description.get("arrays")
    if not isinstance(arrays, dict) or not all(map(_is_described, arrays.values())):
        raise DamagedCheckpointError("its description has no shapes and checksums of arrays")


def _is_described(array: Any) -> bool:
    return (
        isinstance(array, dict)
        and isinstance(array.get("shape"), list)
        and any(array.keys() == {"shape", "dtype", one} for one in _ARRAY_CHECKSUMS)
    )


def check_files(directory: Path) -> None:
    """Looks whether all below a folder can be opened: a reader would wait for a pipe for ever.

    Raises:
      DamagedCheckpointError: there is something that is neither a file nor a folder.
      UserError: a folder cannot be listed.
    """
    for path in files(directory):
        if not path.is_file():
            raise DamagedCheckpointError(f"{path.relative_to(directory)} is not an ordinary file")


def check_readable(directory: Path) -> None:
    """Reads all files below a folder; raises UserError naming the first that cannot be read."""
    for path in files(directory):
        try:
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
        except (FileNotFoundError, NotADirectoryError):
            continue  # deleted meanwhile
        except OSError as error:
            raise unreadable(directory, error) from error


def files(directory: Path) -> list[Path]:
    """Everything below a folder that is not a folder, in the order of its names.

    Raises:
      UserError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise unreadable(directory, error) from error

    found = os.walk(directory, onerror=fail)
    return sorted(Path(folder) / name for folder, _, names in found for name in names)


def unreadable(directory: Path, error: OSError) -> UserError:
    """The error for a checkpoint with a file that the system does not give to this process."""
    where = error.filename or directory
    return UserError(
        f"{where} cannot be read: {error.strerror}; mend that, or move {directory} away to go on "
        "without it"
    )
