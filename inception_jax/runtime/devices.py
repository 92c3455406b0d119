"""Devices: the mesh, and how arrays lie on it.

One axis, `data`: a batch is split over all devices of all processes, everything else is replicated.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from inception_jax.errors import UsageError


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes a mesh of all devices in a row, by process: process p has part p of a batch.

    (`jax.make_mesh` would follow the wires of a TPU slice, and mix processes.) Auto axes: the
    compiler places what is between input and output.

    Args:
      devices: which to take; None takes all devices of the job.
    """
    row = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(row), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def compiler_options(mesh: Mesh | None = None) -> dict[str, str]:
    """Options of XLA that differ from its defaults, for `jax.jit` of a network.

    On a CPU they switch off YNNPACK, a default: with XLA's own convolutions and products a training
    step takes a fifth less time, a forward pass a quarter (`tests/benchmarks/NOTES.md`; on x86).

    Args:
      mesh: of the devices to run on; None stands for the default ones.
    """
    platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if platform == "cpu" else {}


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

    def put(leaf: Any) -> jax.Array:  # `device_put` would compare it over all processes
        array = np.asarray(leaf)
        return jax.make_array_from_callback(
            array.shape, replicated(mesh), lambda _: array, dtype=array.dtype
        )

    return jax.tree.map(put, tree)


def broadcast_arrays(tree: Any) -> Any:
    """Process 0's values of a tree of host arrays, in every process, to the bit.

    Args:
      tree: of the same structure, shapes and dtypes in all processes.
    """
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    # As bytes: what JAX does to send them, a sum with zeros, would turn -0.0 to 0.0.
    sent = np.concatenate([np.frombuffer(array.tobytes(), np.uint8) for array in arrays])
    received = np.split(
        multihost_utils.broadcast_one_to_all(sent), np.cumsum([array.nbytes for array in arrays])
    )
    return jax.tree.unflatten(
        structure,
        [
            part.view(array.dtype).reshape(array.shape)
            for part, array in zip(received, arrays, strict=False)  # the last part is empty
        ],
    )


def first_collective() -> None:
    """A sum over all devices of all processes: from then on they are connected.

    Gloo, the transport between CPUs, gives the processes 30 s to connect, less than one may compile
    longer than another; once connected they wait for one another.
    """
    mesh = make_mesh()
    ones = replicate(np.ones(mesh.size, np.float32), mesh)
    total = jax.jit(lambda values: values.sum(), out_shardings=replicated(mesh))
    total(jax.device_put(ones, split_batch(mesh))).block_until_ready()
