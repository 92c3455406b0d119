"""Prefetches batches: reads them in threads, and copies them to the devices before their turn.

It works for any pure function from a number to a batch of this process, as a dictionary of arrays.
"""

import collections
import contextlib
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from inception_jax.runtime.devices import to_devices

# Batches whose copy to the devices has begun before they are asked for.
PREFETCHED = 2

# In bytes, of images in memory: JAX takes them over without a copy where the device is the CPU.
ALIGNMENT = 64

HostBatch = dict[str, Any]  # NumPy arrays, or tuples of them: the rows of this process
DeviceBatch = dict[str, Any]  # the same as JAX arrays: the rows of all processes


class BufferPool:
    """Arrays of one shape whose memory is used again once nobody holds them.

    The system zeroes fresh memory, which for a batch takes a tenth of the time of making it. A pool
    grows to the largest number of arrays that were held at one time. Threads may share it.
    """

    def __init__(self, shape: tuple[int, ...]):
        """Makes an empty pool for uint8 arrays of this shape."""
        self._shape, self._free = shape, collections.deque[bytearray]()

    def take(self) -> np.ndarray:
        """An array that nobody else holds: uint8 of the pool's shape, with anything in it.

        It is not given back: its memory is free when it and all views of it are gone, those that
        JAX holds, too.
        """
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
    """The number of batches on the host that are read, or being read, before they are asked for."""
    return threads + 1


def process_part(batch_size: int) -> slice:
    """The rows of a global batch that this process reads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


@contextlib.contextmanager
def read_ahead(
    read: Callable[[int], HostBatch], start: int, stop: int, threads: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """Prefetches the batches read(start), ..., read(stop - 1), in this order.

    The threads end with the block.

    Args:
      read: from a number to this process' rows of that batch; it is called in threads, and its
        result may depend on nothing but the number.
      start: the first number.
      stop: the number after the last one.
      threads: a batch is read by one of them.
      mesh: the devices that share each batch.

    Yields:
      An iterator over the batches on the devices.
    """
    numbers = grain.MapDataset.range(start, stop).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=batches_waiting(threads))
    iterator = iter(numbers.to_iter_dataset(options))
    try:
        yield _prefetch(to_devices(batch, mesh) for batch in iterator)
    finally:
        iterator.close()


def _prefetch(batches: Iterator[DeviceBatch]) -> Iterator[DeviceBatch]:
    """Takes PREFETCHED batches more than were asked for: taking one begins its copy."""
    taken: collections.deque[DeviceBatch] = collections.deque()
    for batch in batches:
        taken.append(batch)
        if len(taken) > PREFETCHED:
            yield taken.popleft()
    yield from taken
