"""TPU slices by name, and their devices as the compiler knows them.

The compiler is libtpu, which runs on any Linux x86 machine. It needs no TPU and touches none.
"""

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from inception_jax.errors import UsageError, UserError
from inception_jax.tools.plan.compiler import OutOfMemory, compile_within_memory
from inception_jax.tools.plan.generations import GENERATIONS

# libtpu reads these when it is loaded; what the user has set stays.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # else it asks Google Cloud's metadata server what machine this is
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # it complains if there is none; any will do here
    "TPU_WORKER_HOSTNAMES": "localhost",  # the same
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else it deletes the lock file of a process that uses a TPU
    "TPU_STDERR_LOG_LEVEL": "3",  # only fatal errors
    "TPU_LOG_DIR": "disabled",  # else files in /tmp/tpu_logs
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice, as one would rent it."""

    name: str  # v5e:2x4
    kind: str  # of a device, as JAX names it: TPU v5 lite
    chips: int
    hosts: int
    devices: Sequence[jax.Device]  # to compile for, not to run on
    device_bytes: int  # of memory that programs get, on each device


def find_slice(name: str) -> Slice:
    """Finds a slice by its name: a generation, a colon and the grid of chips, as v5e:2x4.

    Raises:
      UserError: libtpu is not installed.
      UsageError: there is no such slice; the message has a similar name.
    """
    generation, grid = _parse(name)
    about = GENERATIONS[generation]
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "the TPU compiler, libtpu, is not installed: pip install 'inception_jax[plan]' "
            "(Linux, x86)"
        )
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    options = dict(about.options)
    if set(grid.split("x")) == {"1"}:  # a host with one chip; otherwise hosts have several
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        described = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(f"no slice {name!r}; the TPU compiler says: {error}") from error
    devices: Sequence[jax.Device] = described.devices
    return Slice(
        name=name,
        kind=devices[0].device_kind,
        chips=len(devices) // about.devices_per_chip,
        hosts=len({device.process_index for device in devices}),
        devices=devices,
        device_bytes=_device_bytes(devices[0]),
    )


def compiler_version() -> str:
    """The version of libtpu."""
    return importlib.metadata.version("libtpu")


def _parse(name: str) -> tuple[str, str]:
    generation, _, grid = name.partition(":")
    if generation not in GENERATIONS:
        known = [_example(one) for one in GENERATIONS]
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown topology {name!r}; {meant}there are such as {', '.join(known)}")
    sizes = GENERATIONS[generation].dimensions
    if not re.fullmatch(r"x".join([r"[1-9]\d{0,2}"] * sizes), grid):
        raise UsageError(
            f"topology {name!r}: the grid of chips of {generation} has {sizes} sizes, as in "
            f"{_example(generation)}"
        )
    return generation, grid


def _example(generation: str) -> str:
    return f"{generation}:{GENERATIONS[generation].example}"


def _device_bytes(device: jax.Device) -> int:
    """Bytes of a device's memory, from the compiler's refusal of a program that is too large."""
    petabyte = jax.ShapeDtypeStruct((2**50,), jnp.int8, sharding=SingleDeviceSharding(device))
    refused = compile_within_memory(jax.jit(jnp.negative).lower(petabyte))
    assert isinstance(refused, OutOfMemory)
    return refused.available
