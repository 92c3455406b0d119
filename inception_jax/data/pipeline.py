"""Batches: what step s trains on, and the whole split in order for an evaluation.

A host batch is a dictionary: `image` uint8 [batch, size, size, 3] RGB, `label` int32 [batch],
`index` int64 [batch] (example number in the split); in training `epoch` int32 [batch] and
`replaced` bool [batch], True where another image stands in for an unreadable one; in an evaluation
`mask` bool [batch], False where the last batch was filled up, and `bad` bool [batch], True for an
unreadable image. Each process reads its own slice of the global batch.
"""

import collections
import contextlib
import functools
import logging
import math
import weakref
from collections.abc import Callable, Iterator

import grain
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data import crops, order
from inception_jax.data.decode import BadImageError, EncodedImage, decode
from inception_jax.data.sources import Example, Source
from inception_jax.distributed.devices import to_devices
from inception_jax.errors import UsageError, UserError

log = logging.getLogger(__name__)

# How many examples after an unreadable one are tried in its place.
REPLACEMENTS = 100

# Batches whose copy to the devices has begun before they are asked for.
PREFETCHED = 2

# Of images in memory, in bytes: JAX takes them over without a copy where the device is the CPU.
ALIGNMENT = 64

HostBatch = dict[str, np.ndarray]
DeviceBatch = dict[str, jax.Array]


class RecycledMemory:
    """Arrays of one shape whose memory is used again once nobody holds them.

    The system zeroes fresh memory, which for a batch takes a tenth of the time of making it.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape, self._free = shape, collections.deque[bytearray]()

    def take(self) -> np.ndarray:
        """uint8 of the shape, with anything in it."""
        size = math.prod(self._shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray(size + ALIGNMENT)
        start = -np.frombuffer(memory, np.uint8).ctypes.data % ALIGNMENT
        # Every view of this array, in JAX too, keeps it alive; when it goes, the memory comes back.
        owner = np.frombuffer(memoryview(memory)[start : start + size], np.uint8)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(self._shape)


def read_training_batch(
    source: Source,
    data: ConfigDict,
    seed: int,
    step: int,
    part: slice,
    memory: RecycledMemory | None = None,
) -> HostBatch:
    """The `part` of the global batch of step `step` (from 0): a pure function of its arguments.

    An unreadable image is replaced by the next readable one in the source, with its label. The
    images lie in `memory`, if it is given.

    Raises:
      UserError: there is no readable one nearby.
    """
    epochs, indices = order.batch_order(seed, step, data.batch_size, len(source))
    epochs, indices = epochs[part], indices[part]
    crop = crops.TrainingCrop.from_config(data)
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
        draws = order.uniform_draws(seed, epoch, index, crops.TRAINING_CROP_DRAWS)
        for candidate in _candidates(source, example, index):
            try:
                crop(EncodedImage(candidate.encoded, candidate.name), draws, images[row])
            except BadImageError as error:
                _warn_once(f"{error}: another is taken for it")
                batch["replaced"][row] = True
                continue
            batch["label"][row] = candidate.label
            break
        else:
            raise UserError(f"{example.name} and the {REPLACEMENTS} after it cannot be read")
    return batch


def _candidates(source: Source, example: Example, index: int) -> Iterator[Example]:
    """The example, and those that stand in for it if it cannot be read."""
    yield example
    for distance in range(1, REPLACEMENTS + 1):
        yield source.read([(index + distance) % len(source)])[0]


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)


def read_evaluation_batch(
    source: Source, data: ConfigDict, evaluation: ConfigDict, number: int, part: slice
) -> HostBatch:
    """The `part` of batch `number` of the split in order; the last one is filled up and masked.

    Raises:
      BadImageError: an unreadable image, unless `evaluation.bad_images` is "wrong".
    """
    wanted = np.arange(number * data.batch_size, (number + 1) * data.batch_size)[part]
    size = data.image_size
    batch = {
        "image": np.zeros((len(wanted), size, size, 3), np.uint8),
        "label": np.zeros(len(wanted), np.int32),
        "index": wanted,
        "mask": wanted < len(source),
        "bad": np.zeros(len(wanted), bool),
    }
    for row, example in enumerate(source.read(wanted[batch["mask"]])):
        batch["label"][row] = example.label
        try:
            image = decode(example.encoded, example.name)
        except BadImageError as error:
            if evaluation.bad_images == "error":
                raise
            _warn_once(f"{error}: it counts as wrong")
            batch["bad"][row] = True
            continue
        batch["image"][row] = crops.center_crop(image, short_side=evaluation.short_side, size=size)
    return batch


@contextlib.contextmanager
def training_batches(
    source: Source, data: ConfigDict, seed: int, start: int, stop: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The batches of steps start..stop-1 on the devices, read ahead by `data.threads` threads."""
    part = _process_part(data.batch_size)
    memory = RecycledMemory((part.stop - part.start, data.image_size, data.image_size, 3))

    def read(step: int) -> HostBatch:
        return read_training_batch(source, data, seed, step, part, memory)

    with _read_ahead(read, start, stop, data.threads, mesh) as batches:
        yield batches


@contextlib.contextmanager
def evaluation_batches(
    source: Source, data: ConfigDict, evaluation: ConfigDict, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """The whole split in order on the devices.

    The batch size is rounded up to what the devices divide; the result depends on neither.
    """
    data = data.copy_and_resolve_references()
    data.batch_size = math.ceil(data.batch_size / mesh.size) * mesh.size
    part = _process_part(data.batch_size)

    def read(number: int) -> HostBatch:
        return read_evaluation_batch(source, data, evaluation, number, part)

    count = math.ceil(len(source) / data.batch_size)
    with _read_ahead(read, 0, count, data.threads, mesh) as batches:
        yield batches


def read_ahead_bytes(data: ConfigDict, examples: int) -> int:
    """What this process holds of batches and of the order of two epochs, at most, in bytes.

    Batches: in each thread, waiting on the host, and copied to the devices.
    """
    batches = data.threads + _waiting(data.threads) + PREFETCHED + 1
    share = data.batch_size // jax.process_count()
    return batches * share * data.image_size**2 * 3 + 2 * 8 * examples


def check_data(config: ConfigDict) -> None:
    """Raises UsageError for a crop or a colour that cannot be."""
    data, short_side = config.data, config.evaluation.short_side
    unknown = set(data.interpolations) - set(crops.INTERPOLATIONS)
    if unknown or not data.interpolations:
        known = ", ".join(crops.INTERPOLATIONS)
        raise UsageError(f"data.interpolations is {data.interpolations}; it takes some of {known}")
    if data.crop not in crops.TRAINING_CROPS:
        raise UsageError(
            f"data.crop is {data.crop!r}; it may be {' or '.join(crops.TRAINING_CROPS)}"
        )
    if config.evaluation.bad_images not in ("error", "wrong"):
        raise UsageError(
            f"evaluation.bad_images is {config.evaluation.bad_images!r}; it may be error or wrong"
        )
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


def _waiting(threads: int) -> int:
    """Batches that are read or being read before they are asked for."""
    return threads + 1


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
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_waiting(threads))
    iterator = iter(numbers.to_iter_dataset(options))
    try:
        yield _prefetched(to_devices(batch, mesh) for batch in iterator)
    finally:
        iterator.close()


def _prefetched(batches: Iterator[DeviceBatch]) -> Iterator[DeviceBatch]:
    waiting: collections.deque[DeviceBatch] = collections.deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > PREFETCHED:
            yield waiting.popleft()
    yield from waiting
