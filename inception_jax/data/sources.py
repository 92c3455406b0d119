"""Where examples come from: ArrayRecord files prepared through TFDS, or random images."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from inception_jax.data.decode import decode
from inception_jax.data.preparing import PREPARERS
from inception_jax.errors import UsageError, UserError


@dataclasses.dataclass(frozen=True)
class Example:
    """An RGB image, uint8 [height, width, 3], and its class number."""

    image: np.ndarray
    label: int


class Source(Protocol):
    """A split of a data set with random access by example number."""

    class_names: tuple[str, ...]
    fingerprint: str  # changes when the data changes

    def __len__(self) -> int: ...

    def read(self, indices: Iterable[int]) -> list[Example]: ...


def open_source(data: ConfigDict, split: str, num_classes: int) -> Source:
    """Opens a split (slices allowed: "test[:100]") of what `config.data` names.

    Raises:
      UserError: the data is not there, or not readable by index.
      UsageError: an unknown source or split; data with another number of classes than the model.
    """
    sources: dict[str, Callable[..., Source]] = {"tfds": TfdsSource, "fake": FakeSource}
    if data.source not in sources:
        raise UsageError(f"data.source is {data.source!r}; it may be {' or '.join(sources)}")
    source = sources[data.source](data, split, num_classes)
    if not len(source):
        raise UsageError(f"split {split!r} of {data.name} is empty")
    if len(source.class_names) != num_classes:
        raise UsageError(
            f"{data.name} has {len(source.class_names)} classes and the model {num_classes}: "
            f"set model.num_classes={len(source.class_names)}"
        )
    return source


class TfdsSource:
    """ArrayRecord files in `data_dir`/`name`, as TFDS lays them out. Imports no TensorFlow."""

    def __init__(self, data: ConfigDict, split: str, num_classes: int):
        del num_classes  # the files know
        self._name = f"{data.name} {split}"
        data_dir = Path(data.data_dir).expanduser()
        folder = data_dir / data.name
        try:
            builder = tfds.core.read_only_builder.builder_from_files(
                data.name, data_dir=str(data_dir)
            )
            self._records = self._open(builder, split)
            features = builder.info.features
            names = list(features)
            classes = features["label"] if {"image", "label"} <= set(names) else None
            if not isinstance(classes, tfds.features.ClassLabel):
                raise UserError(f"{folder} needs an image and a class as its label; it has {names}")
            self.class_names = tuple(classes.names)
            self.fingerprint = self._fingerprint(builder.info, split)
        except tfds.core.DatasetNotFoundError:
            remedy = f"make it with: python -m inception_jax.prepare {data.name} --data_dir"
            if data.name not in PREPARERS:
                remedy = "prepare it with TFDS, file_format='array_record', data_dir"
            raise UserError(
                f"no prepared data {data.name!r} in {str(data.data_dir)!r}; "
                f"{remedy} {data.data_dir}"
            ) from None
        except UserError:
            raise
        except Exception as error:  # the libraries have no class of errors for damaged files
            message = " ".join(str(error).split())
            raise UserError(
                f"{folder} is damaged, delete and prepare it again: {message}"
            ) from None

    def _open(self, builder: Any, split: str) -> Any:
        decoders = {"image": tfds.decode.SkipDecoding()}
        try:
            return builder.as_data_source(split, decoders=decoders)
        except NotImplementedError:  # TFDS, of a file format like TFRecord
            raise UserError(
                f"{builder.data_path} has no random access: prepare it again with "
                "file_format='array_record'"
            ) from None
        except ValueError:
            raise UsageError(
                f"split {split!r} of {builder.name} is unknown or empty; "
                f"it has {', '.join(builder.info.splits)}"
            ) from None

    def _fingerprint(self, info: Any, split: str) -> str:
        """Of the layout in full and of 64 examples spread over the split."""
        digest = hashlib.sha256(
            json.dumps(
                [info.name, str(info.version), split, len(self), self.class_names]
                + [[name, part.num_bytes, part.shard_lengths] for name, part in info.splits.items()]
            ).encode()
        )
        spread = list(range(0, len(self), max(1, len(self) // 64)))[:64]
        for record in self._records.__getitems__(spread):
            digest.update(record["image"] + str(record["label"]).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def read(self, indices: Iterable[int]) -> list[Example]:
        indices = [int(index) for index in indices]
        records = self._records.__getitems__(indices)
        return [
            self._example(index, record) for index, record in zip(indices, records, strict=True)
        ]

    def _example(self, index: int, record: dict[str, Any]) -> Example:
        name, label = f"{self._name}: example {index}", int(record["label"])
        if not 0 <= label < len(self.class_names):  # TFDS marks an unlabelled split with -1
            raise UserError(f"{name} has the label {label}: not one of the classes")
        return Example(decode(record["image"], name), label)


class FakeSource:
    """Random images and labels, a function of (split, index): for smoke tests and benchmarks.

    Images are an eighth larger than the network's, so that crops have something to choose from.
    """

    def __init__(self, data: ConfigDict, split: str, num_classes: int):
        match = re.fullmatch(r"(\w+)(?:\[(\d*):(\d*)\])?", split)
        if match is None:
            raise UsageError(f"split {split!r}: expected a name, or name[start:stop]")
        self._indices = range(data.fake_examples)[
            int(match[2] or 0) : int(match[3] or data.fake_examples)
        ]
        self._key = int.from_bytes(hashlib.sha256(match[1].encode()).digest()[:8], "little")
        self._size = data.image_size + data.image_size // 8
        self._num_classes = num_classes
        self.class_names = tuple(str(label) for label in range(num_classes))
        self.fingerprint = f"fake {match[1]} {self._indices} {self._size} {num_classes}"

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Iterable[int]) -> list[Example]:
        return [self._example(self._indices[index]) for index in indices]

    def _example(self, index: int) -> Example:
        count = self._size * self._size * 3
        words = np.random.Philox(key=[self._key, index]).random_raw(count // 8 + 2)
        image = words[1:].view(np.uint8)[:count].reshape(self._size, self._size, 3)
        return Example(image, int(words[0] % np.uint64(self._num_classes)))
