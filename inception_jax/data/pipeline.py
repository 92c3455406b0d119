"""Batches: what step s trains on, and the whole split in order for an evaluation.

A host batch is a dictionary: `image` uint8 [batch, size, size, 3] RGB, `label` int32 [batch],
`index` int64 [batch] (example number in the split), and for evaluation `mask` bool [batch], False
where the last batch was filled up. Each process reads its own slice of the global batch.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data import crops, order
from inception_jax.data.sources import Example, Source
from inception_jax.distributed.devices import to_devices
from inception_jax.errors import UsageError

HostBatch = dict[str, np.ndarray]
DeviceBatch = dict[str, jax.Array]


def read_training_batch(
    source: Source, data: ConfigDict, seed: int, step: int, part: slice
) -> HostBatch:
    """The `part` of the global batch of step `step` (from 0): a pure function of its arguments."""
    epochs, indices = order.batch_order(seed, step, data.batch_size, len(source))
    epochs, indices = epochs[part], indices[part]
    examples = source.read(indices)
    images = [
        crops.training_crop(
            example.image,
            order.uniform_draws(seed, epoch, index, crops.TRAINING_CROP_DRAWS),
            size=data.image_size,
            area=data.crop_area,
            aspect_ratio=data.crop_aspect_ratio,
            flip=data.flip,
            interpolations=data.interpolations,
        )
        for example, epoch, index in zip(examples, epochs, indices, strict=True)
    ]
    return _batch(images, examples, indices)


def read_evaluation_batch(
    source: Source, size: int, short_side: int, batch_size: int, number: int, part: slice
) -> HostBatch:
    """The `part` of batch `number` of the split in order; the last one is filled up and masked."""
    wanted = np.arange(number * batch_size, (number + 1) * batch_size)[part]
    indices = wanted[wanted < len(source)]
    examples = source.read(indices)
    images = [crops.center_crop(e.image, short_side=short_side, size=size) for e in examples]
    missing = len(wanted) - len(indices)
    images += [np.zeros((size, size, 3), np.uint8)] * missing
    examples += [Example(np.zeros((0, 0, 3), np.uint8), 0)] * missing
    return _batch(images, examples, wanted) | {"mask": wanted < len(source)}


def _batch(images: list[np.ndarray], examples: Sequence[Example], indices: np.ndarray) -> HostBatch:
    return {
        "image": np.stack(images),
        "label": np.array([example.label for example in examples], np.int32),
        "index": indices,
    }


@contextlib.contextmanager
def training_batches(
    source: Source, data: ConfigDict, seed: int, start: int, stop: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The batches of steps start..stop-1 on the devices, read ahead by `data.threads` threads."""
    part = _process_part(data.batch_size)

    def read(step: int) -> HostBatch:
        return read_training_batch(source, data, seed, step, part)

    with _read_ahead(read, start, stop, data.threads, mesh) as batches:
        yield batches


@contextlib.contextmanager
def evaluation_batches(
    source: Source, data: ConfigDict, short_side: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The whole split in order on the devices.

    The batch size is rounded up to what the devices divide; the result depends on neither.
    """
    batch_size = math.ceil(data.batch_size / mesh.size) * mesh.size
    part = _process_part(batch_size)

    def read(number: int) -> HostBatch:
        return read_evaluation_batch(source, data.image_size, short_side, batch_size, number, part)

    count = math.ceil(len(source) / batch_size)
    with _read_ahead(read, 0, count, data.threads, mesh) as batches:
        yield batches


def check_data(config: ConfigDict) -> None:
    """Raises UsageError for a crop or a colour that cannot be."""
    data, short_side = config.data, config.evaluation.short_side
    unknown = set(data.interpolations) - set(crops.INTERPOLATIONS)
    if unknown or not data.interpolations:
        known = ", ".join(crops.INTERPOLATIONS)
        raise UsageError(f"data.interpolations is {data.interpolations}; it takes some of {known}")
    for field in ("crop_area", "crop_aspect_ratio"):
        bounds = data[field]
        numbers = len(bounds) == 2 and all(isinstance(bound, int | float) for bound in bounds)
        most = 1 if field == "crop_area" else math.inf
        if not numbers or not 0 < bounds[0] <= bounds[1] <= most:
            raise UsageError(f"data.{field} is {bounds}; it is (least, most), above 0 up to {most}")
    for field in ("mean", "std"):
        colours = data[field]
        numbers = len(colours) == 3 and all(isinstance(c, int | float) for c in colours)
        if not numbers or (field == "std" and min(colours) <= 0):
            raise UsageError(f"data.{field} is {colours}; it has a number each for R, G and B")
    if short_side < data.image_size:
        raise UsageError(
            f"evaluation.short_side {short_side} is less than data.image_size {data.image_size}"
        )


def _process_part(batch_size: int) -> slice:
    """Which rows of a global batch this process reads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


@contextlib.contextmanager
def _read_ahead(
    read: Callable[[int], HostBatch], start: int, stop: int, threads: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """Maps `read` over numbers in threads, in order; a whole batch is one unit of work.

    Closed at the end of the block, so that no thread outlives it.
    """
    numbers = grain.MapDataset.range(start, stop).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    iterator = iter(numbers.to_iter_dataset(options))
    try:
        yield (to_devices(batch, mesh) for batch in iterator)
    finally:
        iterator.close()
