"""Reading a checkpoint: whole, verified, and with damage told from other reasons to fail."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from inception_jax.checkpoints import format_1, integrity
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError

Tree = dict[str, Any]

_ORBAX = "orbax-checkpoint"
_ORBAX_VERSION = importlib.metadata.version(_ORBAX)
_DELETED = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read whole and verified.

    Attributes:
      path: its directory.
      description: the JSON that was saved with the arrays.
      arrays: on the host, by their names, as "params/inception_3a/1x1/kernel".
      digest: SHA-256; two checkpoints that have the same are the same.
    """

    path: Path
    description: dict[str, Any]
    arrays: dict[str, np.ndarray]
    digest: str

    def take(self, target: Tree) -> Tree:
        """Returns the arrays that `target` names.

        Args:
          target: nested dictionaries of shapes and dtypes; a part of what was saved will do.

        Raises:
          UserError: there are other arrays than `target`.
        """

        def find(keys: tuple[Any, ...], leaf: Any) -> np.ndarray:
            name = "/".join(str(key.key) for key in keys)
            found = self.arrays.get(name)
            if found is None:
                raise UserError(f"{self.path} has no array {name}: another model made it")
            if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
                raise UserError(
                    f"{self.path} has {name} of shape {list(found.shape)} and {found.dtype}, the "
                    f"model needs {list(leaf.shape)} and {leaf.dtype}: another model made it"
                )
            return found

        return jax.tree.map_with_path(find, target)


def read_description(checkpoint: Path) -> dict[str, Any]:
    """Reads and verifies the description of a checkpoint; of format 1 all of its files.

    Raises:
      UserError: there is no such directory, or a file cannot be read.
      DamagedCheckpointError: the description is not what was saved.
    """
    return _read_description(checkpoint)[0]


def read(checkpoint: Path) -> Checkpoint:
    """Reads a checkpoint whole and verifies it.

    Raises:
      UserError: there is no such directory, or it cannot be read for a reason that is not damage.
      DamagedCheckpointError: it is not what was saved; the message names the array or file.
    """
    description, digest = _read_description(checkpoint)
    names = list(description["arrays"])
    with _reading(checkpoint, description):
        restored = _reader(ocp.PyTreeCheckpointHandler).restore(
            checkpoint.absolute() / "state",
            args=ocp.args.PyTreeRestore(
                item=_nested(names, 0),
                restore_args=_nested(names, ocp.RestoreArgs(restore_type=np.ndarray)),
                partial_restore=True,
            ),
        )
        arrays = {name: np.asarray(_find(restored, name)) for name in names}
    integrity.check_arrays(arrays, description["arrays"])
    return Checkpoint(checkpoint, description, arrays, digest)


def without_other_processes() -> ocp.options.MultiprocessingOptions:
    """Tells Orbax that this process waits for no other."""
    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process_{this}"
    )


def _read_description(checkpoint: Path) -> tuple[dict[str, Any], str]:
    """Returns the verified description, and the digest of the checkpoint."""
    if not checkpoint.exists():
        raise UserError(f"no checkpoint directory {str(checkpoint)!r}")
    if not checkpoint.is_dir():
        raise DamagedCheckpointError("it is not a folder")
    integrity.check_files(checkpoint)
    digest = format_1.verify(checkpoint) if format_1.has_seal(checkpoint) else None
    if not (checkpoint / "description").is_dir():
        raise DamagedCheckpointError("it has no description")
    with _reading(checkpoint):
        description = _read_json(checkpoint / "description")
    digest = digest or integrity.check_digest(description)
    integrity.check_description(description)
    return description, digest


def _read_json(item: Path, filename: str | None = None) -> Any:
    return _reader(ocp.JsonCheckpointHandler, filename).restore(item.absolute())


def _reader(handler: Callable[..., Any], *arguments: Any) -> ocp.Checkpointer:
    options = without_other_processes()
    return ocp.Checkpointer(
        handler(*arguments, multiprocessing_options=options), multiprocessing_options=options
    )


def _nested(names: Iterable[str], leaf: Any) -> Tree:
    """The nested dictionaries of arrays of these names, with `leaf` in the place of each array."""
    tree: Tree = {}
    for name in names:
        *folders, last = name.split("/")
        part = tree
        for folder in folders:
            part = part.setdefault(folder, {})
        part[last] = leaf
    return tree


def _find(tree: Tree, name: str) -> Any:
    return functools.reduce(lambda part, key: part[key], name.split("/"), tree)


@contextlib.contextmanager
def _reading(checkpoint: Path, description: dict[str, Any] | None = None) -> Iterator[None]:
    """Tells damage from other reasons why Orbax fails to read.

    Args:
      checkpoint: the directory.
      description: of the checkpoint, if it was read before.

    Raises:
      DamagedCheckpointError: a file is missing, or all can be read and do not make sense.
      UserError: the system does not give a file or memory, or another version of Orbax wrote it.
    """
    try:
        yield
    except Exception as error:
        why = textwrap.shorten(str(error), 200, placeholder="...") or type(error).__name__
        of_format_1 = format_1.has_seal(checkpoint)
        if of_format_1:
            format_1.verify(checkpoint)
        integrity.check_readable(checkpoint)
        if isinstance(error, _DELETED) or not checkpoint.is_dir():
            raise DamagedCheckpointError(f"a file is missing: {why}") from None
        of_the_system = isinstance(error, OSError)
        if of_the_system or isinstance(error, MemoryError) or of_format_1:
            raise UserError(f"{checkpoint} cannot be read, but is not damaged: {why}") from error
        if (written_with := _orbax_version(description)) not in (None, _ORBAX_VERSION):
            raise UserError(
                f"{checkpoint} was written with orbax-checkpoint {written_with} and cannot be read "
                f"with {_ORBAX_VERSION} ({why}): install that version, or move the checkpoint away"
            ) from error
        raise DamagedCheckpointError(f"Orbax cannot read it: {why}") from None


def _orbax_version(description: dict[str, Any] | None) -> str | None:
    versions = (description or {}).get("versions")
    return versions.get(_ORBAX) if isinstance(versions, dict) else None


def check_metrics(checkpoint: Path, description: dict[str, Any]) -> None:
    """Compares the score that Orbax ranks checkpoints by with the one in the description.

    Raises:
      DamagedCheckpointError: they differ.
    """
    if "metrics" not in description:  # of format 1, where the seal has proved it, or not of a run
        return
    found, metrics = None, checkpoint / "metrics"
    if metrics.exists():
        with _reading(checkpoint):
            found = _read_json(metrics, "metrics")
    if repr(found) != repr(description["metrics"]):  # NaN does not equal itself
        raise DamagedCheckpointError("its score is not the one in its description")


def check_metadata(checkpoint: Path, description: dict[str, Any]) -> None:
    """Reads the metadata of a checkpoint as Orbax does of each one when a run opens their folder.

    No checksum covers them: Orbax's error would end every start of the run.

    Args:
      checkpoint: the directory; under another name than that of its step Orbax passes it over.
      description: of the checkpoint, verified.

    Raises:
      DamagedCheckpointError: they make no sense.
      UserError: see `_reading`.
    """
    step = description["step"]
    if checkpoint.name == str(step):
        with _reading(checkpoint, description):
            name_format = ocp.path.step.standard_name_format()
            _ = name_format.find_step(checkpoint.parent, step).commit_timestamp
