"""Batches: what step s trains on, and the whole split in order for an evaluation.

A host batch is a dictionary: `image` uint8 [batch, size, size, 3] RGB, `label` int32 [batch],
`index` int64 [batch] (example number in the split); in training `epoch` int32 [batch] and
`replaced` bool [batch], True where another image stands in for an unreadable one. In an evaluation
`image` is a tuple of uint8 [batch, crops, size, size, 3], one for each way of showing an image, and
instead of `label` there is `labels` bool [batch, classes], since an image may have several; `mask`
bool [batch] is False where the last batch was filled up, and `bad` bool [batch] True for an
unreadable image. Each process reads its own slice of the global batch.
"""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data import order
from inception_jax.data.augmentation import random_crop
from inception_jax.data.decode import EncodedImage, UnreadableImageError, decode
from inception_jax.data.read_ahead import (
    PREFETCHED,
    BufferPool,
    DeviceBatch,
    HostBatch,
    batches_waiting,
    process_part,
    read_ahead,
)
from inception_jax.data.sources import Example, Source, open_source
from inception_jax.errors import UsageError, UserError
from inception_jax.tasks.classification import evaluation_crops
from inception_jax.tasks.classification.evaluation_crops import Crop, Geometry

log = logging.getLogger(__name__)

# How many examples after an unreadable one are tried in its place.
REPLACEMENTS = 100

Memory = tuple[BufferPool, ...]


def read_training_batch(
    source: Source,
    data: ConfigDict,
    seed: int,
    step: int,
    part: slice,
    memory: BufferPool | None = None,
) -> HostBatch:
    """The `part` of the global batch of step `step` (from 0): a pure function of its arguments.

    An unreadable image is replaced by the next readable one in the source, with its label. The
    images lie in `memory`, if it is given.

    Raises:
      UserError: there is no readable one nearby.
    """
    epochs, indices = order.batch_order(seed, step, data.batch_size, len(source))
    epochs, indices = epochs[part], indices[part]
    crop = random_crop.TrainingCrop.from_config(data)
    size = data.image_size
    images = memory.take() if memory else np.empty((len(indices), size, size, 3), np.uint8)
    batch = {
        "image": images,
        "label": np.empty(len(indices), np.int32),
        "index": indices,
        "epoch": epochs.astype(np.int32),
        "replaced": np.zeros(len(indices), bool),
    }
    examples = source.read(indices)
    for row, (example, epoch, index) in enumerate(
        zip(examples, epochs.tolist(), indices.tolist(), strict=True)
    ):
        draws = random_crop.draw(seed, epoch, index)
        for candidate in _candidates(source, example, index):
            try:
                crop(EncodedImage(candidate.encoded, candidate.name), draws, images[row])
            except UnreadableImageError as error:
                _warn_once(f"{error}: another is taken for it")
                batch["replaced"][row] = True
                continue
            batch["label"][row] = candidate.label
            break
        else:
            raise UserError(f"{example.name} and the {REPLACEMENTS} after it cannot be read")
    return batch


def read_fake_batch(config: ConfigDict, part: slice) -> HostBatch:
    """A training batch of random images, of the config's shapes: the data need not be there."""
    fake = config.data.copy_and_resolve_references().unlock()
    fake.source = "fake"
    source = open_source(fake, fake.train_split, config.model.num_classes)
    return read_training_batch(source, fake, config.seed, step=0, part=part)


def _candidates(source: Source, example: Example, index: int) -> Iterator[Example]:
    """The example, and those that stand in for it if it cannot be read."""
    yield example
    for distance in range(1, REPLACEMENTS + 1):
        yield source.read([(index + distance) % len(source)])[0]


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


@dataclasses.dataclass(frozen=True)
class EvaluationInput:
    """What of a split an evaluation reads, and how."""

    geometries: tuple[Geometry, ...]  # one for each way in which the networks want to see an image
    crops: tuple[Crop, ...]  # not mirrored: that is done on the devices
    classes: np.ndarray  # int [classes of the source]: their numbers in the networks
    num_classes: int  # of the networks
    batch_size: int  # images in a global batch
    threads: int
    bad_images: str  # error | wrong


def read_evaluation_batch(
    source: Source, wanted: EvaluationInput, number: int, part: slice, memory: Memory | None = None
) -> HostBatch:
    """The `part` of batch `number` of the split in order; the last one is filled up and masked.

    Raises:
      UnreadableImageError: an unreadable image, unless `bad_images` is "wrong".
    """
    size = wanted.batch_size
    indices = np.arange(number * size, (number + 1) * size)[part]
    memory = memory or evaluation_memory(wanted, len(indices))
    batch: HostBatch = {
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
            _warn_once(f"{error}: it counts as wrong")
            batch["bad"][row] = True
            continue
        for geometry, out in zip(wanted.geometries, batch["image"], strict=True):
            geometry.cut(image, wanted.crops, out[row])
    for out in batch["image"]:
        out[len(examples) :] = 0
        out[batch["bad"]] = 0
    return batch


def evaluation_memory(wanted: EvaluationInput, images: int) -> Memory:
    """For the crops of so many images."""
    return tuple(
        BufferPool((images, len(wanted.crops), geometry.size, geometry.size, 3))
        for geometry in wanted.geometries
    )


@contextlib.contextmanager
def training_batches(
    source: Source, data: ConfigDict, seed: int, start: int, stop: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The batches of steps start..stop-1 on the devices, read ahead by `data.threads` threads."""
    part = process_part(data.batch_size)
    memory = BufferPool((part.stop - part.start, data.image_size, data.image_size, 3))

    def read(step: int) -> HostBatch:
        return read_training_batch(source, data, seed, step, part, memory)

    with read_ahead(read, start, stop, data.threads, mesh) as batches:
        yield batches


@contextlib.contextmanager
def evaluation_batches(
    source: Source, wanted: EvaluationInput, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The whole split in order on the devices, which divide `wanted.batch_size`."""
    part = process_part(wanted.batch_size)
    memory = evaluation_memory(wanted, part.stop - part.start)

    def read(number: int) -> HostBatch:
        return read_evaluation_batch(source, wanted, number, part, memory)

    count = math.ceil(len(source) / wanted.batch_size)
    with read_ahead(read, 0, count, wanted.threads, mesh) as batches:
        yield batches


def read_ahead_bytes(data: ConfigDict, examples: int) -> int:
    """What this process holds of batches and of the order of two epochs, at most, in bytes.

    Batches: in each thread, waiting on the host, and copied to the devices.
    """
    batches = data.threads + batches_waiting(data.threads) + PREFETCHED + 1
    share = data.batch_size // jax.process_count()
    return batches * share * data.image_size**2 * 3 + 2 * 8 * examples


def check_data(config: ConfigDict) -> None:
    """Raises UsageError for a crop or a colour that cannot be."""
    data, short_side = config.data, config.evaluation.short_side
    unknown = set(data.interpolations) - set(random_crop.INTERPOLATIONS)
    if unknown or not data.interpolations:
        known = ", ".join(random_crop.INTERPOLATIONS)
        raise UsageError(f"data.interpolations is {data.interpolations}; it takes some of {known}")
    if data.crop not in random_crop.TRAINING_CROPS:
        raise UsageError(
            f"data.crop is {data.crop!r}; it may be {' or '.join(random_crop.TRAINING_CROPS)}"
        )
    for field, choices in (
        ("bad_images", ("error", "wrong")),
        ("resize", evaluation_crops.RESIZES),
        ("interpolation", evaluation_crops.INTERPOLATIONS),
    ):
        value = config.evaluation[field]
        if value not in choices:
            raise UsageError(f"evaluation.{field} is {value!r}; it may be {' or '.join(choices)}")
    for field in ("brightness", "contrast", "saturation"):
        _check_range(f"photometric.{field}", config.photometric[field], zero_allowed=True)
    _check_range("data.crop_area", data.crop_area, most=1)
    _check_range("data.crop_aspect_ratio", data.crop_aspect_ratio)
    for field in ("mean", "std"):
        colours = data[field]
        numbers = len(colours) == 3 and all(isinstance(c, int | float) for c in colours)
        if not numbers or (field == "std" and min(colours) <= 0):
            raise UsageError(f"data.{field} is {colours}; it has a number each for R, G and B")
    if short_side < data.image_size:
        raise UsageError(
            f"evaluation.short_side {short_side} is less than data.image_size {data.image_size}"
        )


def _check_range(
    field: str, bounds: tuple, *, most: float = math.inf, zero_allowed: bool = False
) -> None:
    numbers = len(bounds) == 2 and all(isinstance(bound, int | float) for bound in bounds)
    finite = numbers and all(map(math.isfinite, bounds))
    if not finite or not 0 <= bounds[0] <= bounds[1] <= most or not (zero_allowed or bounds[0]):
        least = "from 0" if zero_allowed else "above 0"
        raise UsageError(f"{field} is {bounds}; it is (least, most), {least} up to {most}")
