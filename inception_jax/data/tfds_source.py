"""Reads examples from ArrayRecord files that were prepared through TFDS."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.proto import tf_example_pb2

from inception_jax import paths
from inception_jax.data.sources import PREPARED_BY, TEST_SETS, Example, UnlabelledError, spread
from inception_jax.errors import UsageError, UserError


class TfdsSource:
    """A split of ArrayRecord files as TFDS lays them out. Imports no TensorFlow."""

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
        """Opens the newest version in `data_dir`/`name`; see `open_source`."""
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
        """Opens a version folder, which has the file dataset_info.json."""
        with _errors(folder):
            builder = tfds.core.read_only_builder.builder_from_directory(str(folder))
            return cls(builder, split)

    def _fingerprint(self, info: Any, split: str) -> str:
        """Hashes the layout in full and 64 examples spread over the split."""
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
        """The examples with these numbers, in this order.

        Raises:
          UserError: a label is not one of the classes, or an example has none.
        """
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
    """The name of the feature that holds the labels, and its classes.

    Raises:
      UsageError: the examples of the builder are not an image and its class or classes.
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


def _how_to_prepare(name: str) -> str:
    """The arguments of the command `prepare` that make a data set."""
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
            f"{builder.data_path} is not in ArrayRecord files, which are read by index: prepare it "
            f"again; prepare ilsvrc2012 --manual_dir {builder.data_path} with another --data_dir "
            "converts it"
        ) from None
    except ValueError:
        raise UsageError(
            f"split {split!r} of {builder.name} is unknown or empty; "
            f"it has {', '.join(builder.info.splits)}"
        ) from None


@contextlib.contextmanager
def _errors(folder: Path) -> Iterator[None]:
    """Turns the errors of damaged files into one line: the libraries have no class for them."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise UserError(f"{folder} is damaged, delete and prepare it again: {message}") from None
