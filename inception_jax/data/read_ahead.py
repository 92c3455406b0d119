"""Reads batches ahead in threads, and copies them to the devices before they are asked for."""

import collections
import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from inception_jax.runtime.devices import to_devices

# Batches whose copy to the devices has begun before they are asked for.
PREFETCHED = 2

# Of images in memory, in bytes: JAX takes them over without a copy where the device is the CPU.
ALIGNMENT = 64

HostBatch = Mapping[str, Any]  # of NumPy's arrays
DeviceBatch = Mapping[str, Any]  # of JAX's arrays


class BufferPool:
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


def batches_waiting(threads: int) -> int:
    """Batches that are read or being read before they are asked for."""
    return threads + 1


def process_part(batch_size: int) -> slice:
    """Which rows of a global batch this process reads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


@contextlib.contextmanager
def read_ahead(
    read: Callable[[int], HostBatch], start: int, stop: int, threads: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """Maps `read` over numbers in threads, in order; a whole batch is one unit of work.

    Closed at the end of the block, so that no thread outlives it.
    """
    numbers = grain.MapDataset.range(start, stop).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=batches_waiting(threads))
    iterator = iter(numbers.to_iter_dataset(options))
    try:
        yield _on_devices(to_devices(batch, mesh) for batch in iterator)
    finally:
        iterator.close()


def _on_devices(batches: Iterator[DeviceBatch]) -> Iterator[DeviceBatch]:
    waiting: collections.deque[DeviceBatch] = collections.deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > PREFETCHED:
            yield waiting.popleft()
    yield from waiting
