"""Reads a whole split in order for an evaluation: every example once, with a padding mask."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
from jax.sharding import Mesh

from inception_jax.data.decode import UnreadableImageError, decode
from inception_jax.data.read_ahead import (
    BufferPool,
    DeviceBatch,
    process_part,
    read_ahead,
)
from inception_jax.data.sources import Source
from inception_jax.data.unreadable_images import warn_once
from inception_jax.tasks.classification.evaluation_crops import Crop, Geometry

Buffers = tuple[BufferPool, ...]


class EvaluationBatch(TypedDict):
    """Rows of a global batch of a split in order, on the host; the last batch is filled up."""

    # uint8 [rows, crops, size, size, 3], RGB, one for each geometry
    image: tuple[np.ndarray, ...]
    labels: np.ndarray  # bool [rows, classes of the networks]; an image may have several
    index: np.ndarray  # int64 [rows], example number in the split
    mask: np.ndarray  # bool [rows], the padding mask: False where the last batch is filled up
    bad: np.ndarray  # bool [rows], unreadable image


@dataclasses.dataclass(frozen=True)
class EvaluationInput:
    """The settings with which an evaluation reads a split."""

    geometries: tuple[Geometry, ...]  # one for each way in which the networks want to see an image
    crops: tuple[Crop, ...]  # not mirrored: that is done on the devices
    classes: np.ndarray  # int [classes of the source]: their numbers in the networks
    num_classes: int  # of the networks
    batch_size: int  # images in a global batch
    threads: int
    bad_images: str  # error | wrong


def read_evaluation_batch(
    source: Source, wanted: EvaluationInput, number: int, part: slice, memory: Buffers | None = None
) -> EvaluationBatch:
    """Reads rows `part` of batch `number` of the split in order; the last one is filled up.

    Raises:
      UnreadableImageError: an unreadable image, unless `bad_images` is "wrong".
    """
    size = wanted.batch_size
    indices = np.arange(number * size, (number + 1) * size)[part]
    memory = memory or evaluation_memory(wanted, len(indices))
    batch: EvaluationBatch = {
        "image": tuple(one.take() for one in memory),
        "labels": np.zeros((len(indices), wanted.num_classes), bool),
        "index": indices,
        "mask": indices < len(source),
        "bad": np.zeros(len(indices), bool),
    }
    examples = source.read(indices[batch["mask"]])
    for row, example in enumerate(examples):
        batch["labels"][row, wanted.classes[list(example.labels)]] = True
        try:
            image = decode(example.encoded, example.name)
        except UnreadableImageError as error:
            if wanted.bad_images == "error":
                raise
            warn_once(f"{error}: it counts as wrong")
            batch["bad"][row] = True
            continue
        for geometry, out in zip(wanted.geometries, batch["image"], strict=True):
            geometry.cut(image, wanted.crops, out[row])
    for out in batch["image"]:
        out[len(examples) :] = 0
        out[batch["bad"]] = 0
    return batch


def evaluation_memory(wanted: EvaluationInput, images: int) -> Buffers:
    """Buffers for the crops of so many images."""
    return tuple(
        BufferPool((images, len(wanted.crops), geometry.size, geometry.size, 3))
        for geometry in wanted.geometries
    )


@contextlib.contextmanager
def evaluation_batches(
    source: Source, wanted: EvaluationInput, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """Opens the whole split in order on the devices, which divide `wanted.batch_size`."""
    part = process_part(wanted.batch_size)
    memory = evaluation_memory(wanted, part.stop - part.start)

    def read(number: int) -> EvaluationBatch:
        return read_evaluation_batch(source, wanted, number, part, memory)

    count = math.ceil(len(source) / wanted.batch_size)
    with read_ahead(read, 0, count, wanted.threads, mesh) as batches:
        yield batches
