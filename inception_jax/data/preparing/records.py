"""Writes examples to ArrayRecord files in TFDS's layout. Needs no TensorFlow."""

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from inception_jax.errors import UserError
from inception_jax.runtime import progress
from inception_jax.storage import locks

log = logging.getLogger(__name__)

FILE_FORMAT = "array_record"


@dataclasses.dataclass(frozen=True)
class Record:
    """An image to store; its encoded bytes are read when they are written."""

    file_name: str
    label: int
    read: Callable[[], bytes]
    changed: tuple[int, int] = (0, 0)  # of a file: size in bytes, time of its last change in ns

    @classmethod
    def of_pixels(cls, pixels: np.ndarray, file_name: str, label: int) -> "Record":
        """A grayscale image, uint8 [height, width], as PNG."""
        return cls(file_name, label, lambda: cv2.imencode(".png", pixels)[1].tobytes())

    @classmethod
    def of_file(cls, path: Path, file_name: str, label: int) -> "Record":
        """A file, under the name `file_name`."""
        found = path.stat()
        return cls(file_name, label, path.read_bytes, (found.st_size, found.st_mtime_ns))


@dataclasses.dataclass(frozen=True)
class DatasetDescription:
    """The description that is stored with a prepared data set."""

    name: str
    version: str
    text: str
    homepage: str
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int] = (None, None, 3)


def write(
    description: DatasetDescription, splits: Mapping[str, list[Record]], data_dir: Path
) -> Path:
    """Writes the splits to data_dir/name/version, unless they are there already.

    The folder gets its name when all is written. After a kill, the same call removes what was left
    and starts again.

    Returns:
      The folder of the records.

    Raises:
      UserError: a split is empty, or has a file name twice; the folder was made from other files;
        another process is writing there.
    """
    for split, records in splits.items():
        counts = collections.Counter(record.file_name for record in records)
        if not records:
            raise UserError(f"no images for the split {split} of {description.name}")
        if (twice := counts.most_common(1)[0])[1] > 1:
            raise UserError(f"two images of {description.name} {split} are called {twice[0]}")
    content = {"content": _digest(description, splits)}
    folder = data_dir / description.name / description.version
    with locks.hold(folder.parent, "preparing data"):
        if folder.exists():
            _check_same(folder, content)
            log.info(f"{folder} is there already")
            return folder
        remove_unfinished(folder)
        builder = _builder(description, splits, content, data_dir)
        with quiet():
            builder.download_and_prepare()
    return folder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS's progress bars and misleading download messages."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed preparation of `folder` left beside it."""
    for leftover in folder.parent.glob(f"incomplete.*_{folder.name}"):
        log.info(f"removing {leftover}, which was never finished")
        shutil.rmtree(leftover)


def _digest(description: DatasetDescription, splits: Mapping[str, list[Record]]) -> str:
    names = {
        name: [(r.file_name, r.label, *r.changed) for r in records]
        for name, records in splits.items()
    }
    text = json.dumps([description.class_names, names], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_same(folder: Path, content: dict[str, str]) -> None:
    try:
        found = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError):
        found = None
    if found != content:
        raise UserError(
            f"{folder} was prepared from other files or another split: delete it, or use "
            "another --name or --data_dir"
        )


def _builder(
    description: DatasetDescription,
    splits: Mapping[str, list[Record]],
    content: dict[str, str],
    data_dir: Path,
) -> tfds.core.GeneratorBasedBuilder:
    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = description.name
        VERSION = tfds.core.Version(description.version)

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                # As bytes, whatever the format: nothing is decoded and encoded again.
                "image": tfds.features.Image(shape=description.image_shape),
                "label": tfds.features.ClassLabel(names=description.class_names),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=description.text,
                features=tfds.features.FeaturesDict(features),
                homepage=description.homepage,
                metadata=tfds.core.MetadataDict(content),
            )

        def _split_generators(self, download_manager: Any) -> dict[str, Iterator]:
            return {name: _examples(name, records) for name, records in splits.items()}

        def _generate_examples(self) -> Iterator:
            """Not used: the splits are generators themselves."""
            yield from ()

    return Builder(data_dir=str(data_dir), file_format=FILE_FORMAT)


def _examples(split: str, records: list[Record]) -> Iterator[tuple[str, dict[str, Any]]]:
    # TFDS writes in the order of a hash of the key, so that records lie shuffled.
    for record in progress.track(records, f"writing {split}", len(records)):
        yield (
            record.file_name,
            {
                "image": io.BytesIO(record.read()),
                "label": record.label,
                "file_name": record.file_name,
            },
        )
