"""Where examples come from: ArrayRecord files prepared through TFDS, image files, random images."""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.proto import tf_example_pb2

from inception_jax import paths
from inception_jax.errors import UsageError, UserError

# What `prepare` makes of its own, other than folders: name of the data set, and of its preparation.
PREPARED_BY = {"digits": "digits", "fashion_mnist": "fashion_mnist", "imagenet2012": "ilsvrc2012"}

# Test sets with the classes of imagenet2012 that TFDS prepares (from a network).
TEST_SETS = ("imagenet_v2", "imagenet2012_real", "imagenet_a", "imagenet_r", "imagenet_sketch")


class UnlabelledError(UserError):
    """A split that has no labels, as TFDS's test split of imagenet2012."""


@dataclasses.dataclass(frozen=True)
class Example:
    """An image file as it is stored, its class numbers, and what to call it in messages.

    A training image has one class; a test image may show several (imagenet2012_real), or none that
    is known.
    """

    encoded: bytes
    labels: tuple[int, ...]
    name: str

    @property
    def label(self) -> int:
        """The only class; raises UserError if there are more or none."""
        if len(self.labels) != 1:
            raise UserError(
                f"{self.name} has {len(self.labels)} labels: such data is for evaluation alone"
            )
        return self.labels[0]


class Source(Protocol):
    """A split of a data set with random access by example number."""

    class_names: tuple[str, ...]  # of the class numbers
    fingerprint: str  # changes when the data changes

    def __len__(self) -> int: ...

    def read(self, indices: Iterable[int]) -> list[Example]: ...


def open_source(
    data: ConfigDict, split: str, num_classes: int, *, fewer_classes: bool = False
) -> Source:
    """Opens a split (slices allowed: "test[:100]") of what `config.data` names.

    Args:
      data: the config's section.
      split: in TFDS's notation.
      num_classes: of the model; 0 takes what the data has.
      fewer_classes: whether the data may have fewer than the model.

    Raises:
      UserError: the data is not there, or not readable by index.
      UsageError: an unknown source or split; data with another number of classes than the model.
    """
    source: Source
    match data.source:
        case "tfds":
            source = TfdsSource.from_config(data, split)
        case "fake":
            source = FakeSource(data, split, num_classes)
        case name:
            raise UsageError(f"data.source is {name!r}; it may be tfds or fake")
    if not len(source):
        raise UsageError(f"split {split!r} of {data.name} is empty")
    fits = len(source.class_names) == num_classes
    fits |= fewer_classes and len(source.class_names) < num_classes
    if num_classes and not fits and fewer_classes:
        raise UsageError(
            f"{data.name} has {len(source.class_names)} classes, of which the checkpoint knows "
            f"{num_classes} at most"
        )
    if num_classes and not fits:
        raise UsageError(
            f"{data.name} has {len(source.class_names)} classes and the model {num_classes}: "
            f"set model.num_classes={len(source.class_names)}"
        )
    return source


class TfdsSource:
    """ArrayRecord files as TFDS lays them out. Imports no TensorFlow."""

    def __init__(self, builder: Any, split: str):
        """Opens a split of a TFDS builder; see `from_config` and `from_folder`."""
        self._name = f"{builder.info.full_name} {split}"
        self._label_feature, labels = check_features(builder)
        # Serialised examples by index: TFDS's own decoding of them takes three times as long.
        self._records = _open(builder, split).data_source
        self.class_names = tuple(labels.names)
        self.fingerprint = self._fingerprint(builder.info, split)

    @classmethod
    def from_config(cls, data: ConfigDict, split: str) -> "TfdsSource":
        """The newest version in `data_dir`/`name`."""
        data_dir = paths.to_path(data.data_dir, "data.data_dir")
        folder = data_dir / data.name
        with _errors(folder):
            try:
                builder = tfds.core.read_only_builder.builder_from_files(
                    data.name, data_dir=str(data_dir)
                )
            except tfds.core.DatasetNotFoundError:
                if unfinished := list(folder.glob("*/converted_from.json")):
                    raise UserError(
                        f"{unfinished[0].parent} is not finished: give the same command to prepare "
                        "again, it goes on"
                    ) from None
                raise UserError(
                    f"no prepared data {data.name!r} in {str(data.data_dir)!r}; "
                    f"make it with: python -m inception_jax.prepare {_how_to_prepare(data.name)} "
                    f"--data_dir {data.data_dir}"
                ) from None
            return cls(builder, split)

    @classmethod
    def from_folder(cls, folder: Path, split: str) -> "TfdsSource":
        """A version folder, the one with dataset_info.json."""
        with _errors(folder):
            builder = tfds.core.read_only_builder.builder_from_directory(str(folder))
            return cls(builder, split)

    def _fingerprint(self, info: Any, split: str) -> str:
        """Of the layout in full and of 64 examples spread over the split."""
        digest = hashlib.sha256(
            json.dumps(
                [info.name, str(info.version), split, len(self), self.class_names]
                + [[name, part.num_bytes, part.shard_lengths] for name, part in info.splits.items()]
            ).encode()
        )
        for example in self.read(spread(len(self))):
            labels = example.label if len(example.labels) == 1 else example.labels
            digest.update(example.encoded + str(labels).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._records)

    def read(self, indices: Iterable[int]) -> list[Example]:
        # One by one: reading many at once starts threads, in the way of those that decode.
        return [self._example(index, self._records[index]) for index in map(int, indices)]

    def _example(self, index: int, record: bytes) -> Example:
        features = tf_example_pb2.Example.FromString(record).features.feature
        name = f"{self._name}: example {index}"
        if "file_name" in features:
            name += f" ({features['file_name'].bytes_list.value[0].decode(errors='replace')})"
        labels = tuple(features[self._label_feature].int64_list.value)
        if labels == (-1,):  # TFDS's mark
            raise UnlabelledError(f"{name} has no label: nothing to train on or to test with")
        for label in labels:
            if not 0 <= label < len(self.class_names):
                raise UserError(f"{name} has the label {label}: not one of the classes")
        return Example(features["image"].bytes_list.value[0], labels, name)


def check_features(builder: Any) -> tuple[str, tfds.features.ClassLabel]:
    """The name of the feature with the labels, and what they are.

    Raises:
      UsageError: the examples of a TFDS builder are not an image and its class or classes.
    """
    features = dict(builder.info.features)
    if isinstance(features.get("image"), tfds.features.Image):
        if isinstance(label := features.get("label"), tfds.features.ClassLabel):
            return "label", label
        several = features.get("real_label")  # imagenet2012_real
        if isinstance(several, tfds.features.Sequence) and isinstance(
            several.feature, tfds.features.ClassLabel
        ):
            return "real_label", several.feature
    raise UsageError(
        f"{builder.info.full_name} needs an image and a class as its label; it has {list(features)}"
    )


def spread(examples: int) -> range:
    """At most 64 example numbers over the whole split: a sample that is cheap to read."""
    return range(0, examples, max(1, examples // 64))[:64]


def _how_to_prepare(name: str) -> str:
    """The command line of `prepare` for a data set; see there for the flags that it wants."""
    builder = name.partition("/")[0]
    if builder in TEST_SETS:
        return f"tfds --name {name}"
    return PREPARED_BY.get(builder, f"folder --images DIR --name {name}")


def _open(builder: Any, split: str) -> Any:
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        return builder.as_data_source(split, decoders=decoders)
    except NotImplementedError:  # TFDS, of a file format like TFRecord
        raise UserError(
            f"{builder.data_path} is no ArrayRecord, which is read by index: prepare it again; "
            f"prepare ilsvrc2012 --manual_dir {builder.data_path} with another --data_dir converts"
        ) from None
    except ValueError:
        raise UsageError(
            f"split {split!r} of {builder.name} is unknown or empty; "
            f"it has {', '.join(builder.info.splits)}"
        ) from None


@contextlib.contextmanager
def _errors(folder: Path) -> Iterator[None]:
    """The libraries have no class of errors for damaged files."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise UserError(f"{folder} is damaged, delete and prepare it again: {message}") from None


class FakeSource:
    """Random images and labels, a function of (split, index): for smoke tests and benchmarks.

    Images are an eighth larger than the network's, so that crops have something to choose from, and
    encoded as BMP, which takes no time.
    """

    def __init__(self, data: ConfigDict, split: str, num_classes: int):
        match = re.fullmatch(r"(\w+)(?:\[(\d*):(\d*)\])?", split)
        if match is None:
            raise UsageError(f"split {split!r}: expected a name, or name[start:stop]")
        if not num_classes or not data.image_size:
            raise UsageError(
                "data.source=fake needs model.num_classes and data.image_size: it has no data to "
                "take them from"
            )
        self._split = match[1]
        self._indices = range(data.fake_examples)[
            int(match[2] or 0) : int(match[3] or data.fake_examples)
        ]
        self._key = int.from_bytes(hashlib.sha256(match[1].encode()).digest()[:8], "little")
        self._size = data.image_size + data.image_size // 8
        self.class_names = tuple(str(label) for label in range(num_classes))
        self.fingerprint = f"fake {match[1]} {self._indices} {self._size} {num_classes}"

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Iterable[int]) -> list[Example]:
        return [self._example(self._indices[index]) for index in indices]

    def _example(self, index: int) -> Example:
        count = self._size * self._size * 3
        words = np.random.Philox(key=[self._key, index]).random_raw(count // 8 + 2)
        pixels = words[1:].view(np.uint8)[:count].reshape(self._size, self._size, 3)
        encoded = cv2.imencode(".bmp", pixels[..., ::-1])[1].tobytes()  # OpenCV takes BGR
        label = int(words[0] % np.uint64(len(self.class_names)))
        return Example(encoded, (label,), f"fake {self._split}: example {index}")


class FileSource:
    """Image files without labels."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self.class_names: tuple[str, ...] = ()
        self.fingerprint = f"files {[str(path) for path in paths]}"

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indices: Iterable[int]) -> list[Example]:
        chosen = [self._paths[index] for index in indices]
        return [Example(path.read_bytes(), (), str(path)) for path in chosen]
