"""Converts a prepared data set into another one: TFRecord to ArrayRecord, or smaller images.

A conversion goes on where it was killed: a shard gets its name when it is complete, and the data
set gets its dataset_info.json when all shards are.
"""

import argparse
import concurrent.futures
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from array_record.python import array_record_module
from tensorflow_datasets.core import dataset_info, file_adapters
from tensorflow_datasets.proto import tf_example_pb2

from inception_jax import cli
from inception_jax.data import jpeg
from inception_jax.data.decode import decode
from inception_jax.errors import UserError
from inception_jax.runtime import progress
from inception_jax.storage import json_files, locks

log = logging.getLogger(__name__)

Transform = Callable[[bytes], bytes]  # of a serialised tf.train.Example

INFO = "dataset_info.json"
_SOURCE = "converted_from.json"  # a folder with this and without INFO is not finished
_CHUNK = 64  # records read at once

JPEG_QUALITY = 90
_JPEG_LONGEST = 65_500  # pixels of a side that libjpeg writes


class _Shard(NamedTuple):
    source: Path
    target: Path
    examples: int


def convert(
    source: Path, target: Path, transform: Transform | None = None, config_name: str = ""
) -> None:
    """Writes the data set in `source` (any version folder of TFDS) to `target` as ArrayRecord.

    Args:
      source: folder with dataset_info.json, of TFRecord (needs TensorFlow) or ArrayRecord files.
      target: folder of the new one; finished shards in it are kept.
      transform: applied to each example; None copies.
      config_name: the second part of the new name in TFDS's naming, `name/config_name`.

    Raises:
      UserError: `target` was begun from other data, or a file of `source` is damaged or missing.
    """
    info = dataset_info.read_proto_from_builder_dir(source)
    origin = _identity(source)
    with locks.hold(target, "preparing data"):
        if (target / _SOURCE).exists() and json.loads((target / _SOURCE).read_text()) != origin:
            raise UserError(f"{target} was made from other data than {source}: delete it")
        if (target / INFO).exists():
            log.info(f"{target} is there already")
            return
        json_files.replace(target / _SOURCE, json_files.to_text(origin))
        for unfinished in target.glob("*.partial"):
            unfinished.unlink()
        shards = _shards(info, source, target)
        waiting = [shard for shard in shards if not shard.target.exists()]
        if len(waiting) < len(shards):
            log.info(f"{len(shards) - len(waiting)} of {len(shards)} shards are there already")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(lambda shard: _convert_shard(shard, transform), waiting)
            for _ in progress.track(done, f"shards of {target}", len(waiting)):
                pass
        _write_info(info, source, target, config_name)


def _identity(source: Path) -> dict[str, str]:
    """Hashes descriptions and file sizes, which other images would change."""
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        if path.name != _SOURCE and not path.name.startswith("."):
            described = path.suffix in (".json", ".txt")
            content = path.read_bytes() if described else str(path.stat().st_size).encode()
            digest.update(path.name.encode() + content)
    return {"source": digest.hexdigest()}


def _shards(info: Any, source: Path, target: Path) -> list[_Shard]:
    splits = dataset_info.get_split_dict_from_proto(info, source, info.file_format)
    shards = []
    for split in splits.values():
        template = split.filename_template.replace(
            data_dir=target, filetype_suffix=file_adapters.FileFormat.ARRAY_RECORD.file_suffix
        )
        for number, (path, examples) in enumerate(
            zip(split.filepaths, split.shard_lengths, strict=True)
        ):
            name = template.sharded_filepath(shard_index=number, num_shards=split.num_shards)
            shards.append(_Shard(Path(path), Path(name), examples))
    return shards


def _convert_shard(shard: _Shard, transform: Transform | None) -> None:
    if not shard.source.exists():
        raise UserError(f"{shard.source} is missing")
    partial = shard.target.with_name(f"{shard.target.name}.partial")
    writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
    written = 0
    for example in _read(shard.source):
        writer.write(transform(example) if transform else example)
        written += 1
    writer.close()
    if written != shard.examples:
        raise UserError(f"{shard.source} has {written} examples, its {INFO} says {shard.examples}")
    partial.rename(shard.target)


def _read(shard: Path) -> Iterator[bytes]:
    """Yields the examples of a shard, still serialised.

    Raises:
      UserError: the shard is damaged.
    """
    if ".tfrecord" in shard.name:
        import tensorflow as tf  # the extra `prepare`; ArrayRecord needs none

        try:
            yield from tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
        except tf.errors.DataLossError as error:
            raise UserError(f"{shard} is damaged: {error.message}") from None
        return
    reader = array_record_module.ArrayRecordReader(str(shard))
    try:
        count = reader.num_records()
        for start in range(0, count, _CHUNK):
            yield from reader.read(list(range(start, min(start + _CHUNK, count))))
    finally:
        reader.close()


def _write_info(info: Any, source: Path, target: Path, config_name: str) -> None:
    for path in source.iterdir():  # features.json, names of the classes, ...
        if path.suffix in (".json", ".txt") and path.name not in (INFO, _SOURCE):
            shutil.copyfile(path, target / path.name)
    info.file_format = file_adapters.FileFormat.ARRAY_RECORD.value
    info.config_name = config_name
    for split in info.splits:
        files = target.glob(f"{info.name}-{split.name}.array_record-*")
        split.num_bytes = sum(path.stat().st_size for path in files)
    json_files.replace(target / INFO, dataset_info.get_dataset_info_json(info))


def add_short_side_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --short_side, for data sets with large images."""
    parser.add_argument(
        "--short_side",
        type=cli.positive,
        metavar="PIXELS",
        help="also write a compact set, NAME/shortPIXELS: shorter side at most this, JPEG quality "
        f"{JPEG_QUALITY}; 320 reads more than half as fast again",
    )


def version(folder: Path) -> str:
    """The version of the data set in a folder, as "5.1.0", whatever the folder's name."""
    return dataset_info.read_proto_from_builder_dir(folder).version


def compact(source: Path, data_dir: Path, short_side: int) -> Path:
    """Writes the images of a version folder, made smaller, to data_dir/NAME/shortN/VERSION.

    Returns:
      The new folder; its data set is called NAME/shortN in the config.
    """
    info = dataset_info.read_proto_from_builder_dir(source)
    config = f"short{short_side}"
    target = data_dir / info.name / config / info.version
    convert(source, target, shrink(short_side), config)
    return target


def shrink(short_side: int) -> Transform:
    """Makes a transform that reduces the shorter side of an image to `short_side` pixels.

    Pixels are averaged by area, and the aspect is kept. The image is encoded as JPEG of quality 90,
    4:2:0, with a restart marker after each block, so that a crop can be decoded without the rest
    (see `jpeg.py`). Small and unreadable images stay as they are.
    """

    def transform(example: bytes) -> bytes:
        parsed = tf_example_pb2.Example.FromString(example)
        encoded = parsed.features.feature["image"].bytes_list.value
        try:
            image = decode(encoded[0], "")
        except UserError:
            return example
        scale = short_side / min(image.shape[:2])
        height, width = (round(length * scale) for length in image.shape[:2])
        if min(image.shape[:2]) <= short_side or max(height, width) > _JPEG_LONGEST:
            return example
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        jpeg_file = cv2.imencode(
            ".jpg",
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            [
                cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
                cv2.IMWRITE_JPEG_OPTIMIZE, 1,
                cv2.IMWRITE_JPEG_RST_INTERVAL, 1,
            ],
        )[1].tobytes()  # fmt: skip
        encoded[0] = jpeg.add_table(jpeg_file)
        return parsed.SerializeToString()

    return transform
