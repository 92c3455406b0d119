"""Prefetches the batches of a run's steps, and copies them to the devices."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.read_ahead import (
    PREFETCHED,
    DeviceBatch,
    HostBatch,
    batches_waiting,
    process_part,
    read_ahead,
)
from inception_jax.tasks.base import Task


@contextlib.contextmanager
def training_batches(
    task: Task, source: Any, start: int, stop: int, mesh: Mesh
) -> Iterator[Iterator[DeviceBatch]]:
    """Opens the batches of steps start..stop-1, read ahead by `data.threads` threads.

    Args:
      task: says what a batch is.
      source: what `task.open` returned for the training split.
      start: the first step, from 0.
      stop: the step after the last one.
      mesh: the devices.
    """
    data = task.config.data
    part = process_part(data.batch_size)
    buffers = task.buffers(part.stop - part.start)

    def read(step: int) -> HostBatch:
        return task.read(source, step, part, buffers)

    with read_ahead(read, start, stop, data.threads, mesh) as batches:
        yield batches


def memory_needed(data: ConfigDict, examples: int) -> int:
    """Returns the bytes that this process holds at most for batches and the order of two epochs.

    Batches: in each thread, waiting on the host, and copied to the devices.
    """
    batches = data.threads + batches_waiting(data.threads) + PREFETCHED + 1
    share = data.batch_size // jax.process_count()
    return batches * share * data.image_size**2 * 3 + 2 * 8 * examples
