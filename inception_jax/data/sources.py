"""Sources of examples: ArrayRecord files prepared through TFDS, image files, random images."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from ml_collections import ConfigDict

from inception_jax.errors import UsageError, UserError

# Data sets with a preparation of their own: the name of the data set, and of the preparation.
PREPARED_BY = {"digits": "digits", "fashion_mnist": "fashion_mnist", "imagenet2012": "ilsvrc2012"}

# Test sets with the classes of imagenet2012 that TFDS prepares (from a network).
TEST_SETS = ("imagenet_v2", "imagenet2012_real", "imagenet_a", "imagenet_r", "imagenet_sketch")


class UnlabelledError(UserError):
    """A split without labels, as TFDS's test split of imagenet2012."""


@dataclasses.dataclass(frozen=True)
class Example:
    """An image file as it is stored, its class numbers, and its name in messages.

    A training image has one class; a test image may have several (imagenet2012_real), or no known
    one.
    """

    encoded: bytes
    labels: tuple[int, ...]
    name: str

    @property
    def label(self) -> int:
        """The only class.

        Raises:
          UserError: there are several, or none.
        """
        if len(self.labels) != 1:
            raise UserError(
                f"{self.name} has {len(self.labels)} labels: such data is for evaluation alone"
            )
        return self.labels[0]


class Source(Protocol):
    """A split of a data set with random access by example number."""

    class_names: tuple[str, ...]  # by class number
    fingerprint: str  # changes when the data changes

    def __len__(self) -> int: ...

    def read(self, indices: Iterable[int]) -> list[Example]:
        """The examples with these numbers, in this order. Several threads may call it at a time."""
        ...


def open_source(
    data: ConfigDict, split: str, num_classes: int, *, fewer_classes: bool = False
) -> Source:
    """Opens a split, or a slice of one ("test[:100]"), of the data that the config names.

    Args:
      data: the config's section `data`.
      split: in TFDS's notation.
      num_classes: of the model; 0 takes those of the data.
      fewer_classes: the data may have fewer than the model.

    Raises:
      UserError: the data is not there, or not readable by index.
      UsageError: an unknown or empty split, an unknown source, or another number of classes than
        the model's.
    """
    source: Source
    match data.source:
        case "tfds":
            # Only here: TFDS takes a fifth of a second to import.
            from inception_jax.data.tfds_source import TfdsSource

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


def spread(examples: int) -> range:
    """At most 64 example numbers, spread over the split: a sample that is cheap to read."""
    return range(0, examples, max(1, examples // 64))[:64]


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
        """The examples with these numbers, made anew at each call."""
        return [self._example(self._indices[index]) for index in indices]

    def _example(self, index: int) -> Example:
        count = self._size * self._size * 3
        words = np.random.Philox(key=[self._key, index]).random_raw(count // 8 + 2)
        pixels = words[1:].view(np.uint8)[:count].reshape(self._size, self._size, 3)
        encoded = cv2.imencode(".bmp", pixels[..., ::-1])[1].tobytes()  # OpenCV takes BGR
        label = int(words[0] % np.uint64(len(self.class_names)))
        return Example(encoded, (label,), f"fake {self._split}: example {index}")


class FileSource:
    """Image files without labels, in the order of their paths."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self.class_names: tuple[str, ...] = ()
        self.fingerprint = f"files {[str(path) for path in paths]}"

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indices: Iterable[int]) -> list[Example]:
        """The files with these numbers, without classes."""
        chosen = [self._paths[index] for index in indices]
        return [Example(path.read_bytes(), (), str(path)) for path in chosen]
