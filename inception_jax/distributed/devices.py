"""The one place that decides about devices: the mesh, and how arrays lie on it.

One axis, `data`: a batch is split over all devices of all processes, everything else is replicated.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from inception_jax.errors import UsageError


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices in one row. Auto axes: the compiler places what is between input and output.

    Args:
      devices: those to take; all of this run where it is None.
    """
    count = jax.device_count() if devices is None else len(devices)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Each device holds its part of the first dimension."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises UsageError unless the devices divide a global batch evenly."""
    if batch_size <= 0 or batch_size % mesh.size:
        raise UsageError(
            f"data.batch_size {batch_size} cannot be split evenly over {mesh.size} devices: "
            f"use a multiple of {mesh.size}"
        )


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """Makes global arrays of this process's part of a batch; returns before the copy is done.

    Args:
      batch: a tree of host arrays with the examples in their first dimension.
      mesh: the devices.
    """
    make = functools.partial(jax.make_array_from_process_local_data, split_batch(mesh))
    return jax.tree.map(make, batch)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a tree of host arrays, the same in every process, on all devices."""
    return jax.device_put(tree, replicated(mesh))
