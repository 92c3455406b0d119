"""Recognises files of weights by their content: names of files are often wrong."""

import glob
import hashlib
import zipfile
import zlib
from pathlib import Path

from inception_jax.errors import UserError

PYTORCH = "a PyTorch file"
SAFETENSORS = "a safetensors file"
ONNX = "an ONNX file"
TENSORFLOW = "a TensorFlow checkpoint"
NPZ = "an .npz file"

TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's table files

# Kinds that no format reads, by their first bytes, and what to do about them.
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS and not the file: git lfs pull fetches it",
    b"\x1f\x8b": "a gzip archive: unpack it and name the file inside",
    b"\x89HDF\r\n": "an HDF5 file, which no format here is kept in",
    b"\x93NUMPY": "a single array (.npy); weights are many arrays with names: .npz",
    b"<": "a web page or XML",
}
_SHARDS = ".data-?????-of-?????"


def kind(path: Path) -> str:
    """Returns which of the kinds above a file is.

    Args:
      path: a file; or for a TensorFlow checkpoint the common beginning of its files' names.

    Raises:
      UserError: the file does not exist, or is of another kind, which is named if it is known.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file of weights")
    if not path.exists() and parts(path):
        return TENSORFLOW
    if not path.exists():
        raise UserError(f"there is no file {str(path)!r}")
    with path.open("rb") as file:
        start = file.read(64)
        size = file.seek(0, 2)
        file.seek(max(0, size - len(TABLE_END)))
        end = file.read()
    if not size:
        raise UserError(f"{path} is empty")
    if end == TABLE_END or path in parts(checkpoint_prefix(path)):
        return TENSORFLOW
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return PYTORCH  # its older form: a pickle
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return SAFETENSORS
    if start[:1] == b"\x08":  # the first field of an ONNX model, its version
        return ONNX
    for beginning, what in _OTHERS.items():
        if start.startswith(beginning):
            raise UserError(f"{path} is {what}")
    raise UserError(f"{path} is not a file of weights of a known kind, or its beginning is damaged")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()  # PyTorch does not look at the checksums
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        raise UserError(f"{path} is a truncated or damaged zip archive") from None
    if damaged is not None:
        raise UserError(f"{path} is damaged (the checksum of {damaged} in it is wrong)")
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(f"{path} is a TorchScript program: save its state_dict() alone")
    if any(name.endswith("/data.pkl") for name in names):
        return PYTORCH
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    raise UserError(f"{path} is a zip archive, but neither PyTorch's nor an .npz: unpack it")


def checkpoint_prefix(path: Path) -> Path:
    """The common beginning of the names of a TensorFlow checkpoint's files, from any of them."""
    name = path.name.removesuffix(".index")
    if path.match("*" + _SHARDS):
        name = name.rpartition(".data-")[0]
    return path.with_name(name)


def parts(prefix: Path) -> list[Path]:
    """The files of a TensorFlow checkpoint in its newer form: an index and shards."""
    index = prefix.with_name(prefix.name + ".index")
    shards = sorted(prefix.parent.glob(glob.escape(prefix.name) + _SHARDS))
    return [index, *shards] if index.is_file() else []


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of each file of a TensorFlow checkpoint, by name."""
    found = {}
    for part in parts(checkpoint_prefix(path)) or [path]:
        with part.open("rb") as file:
            found[part.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
