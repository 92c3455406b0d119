"""The TPU compiler's estimate of training a config on a slice: memory, work, largest batch.

Nothing is run, and every number is of one device: all of them do the same. Memory and FLOPs come
from the compiler's own analysis; cycles and transfers are read from its text (`hlo_text`), which is
experimental.
"""

import dataclasses
import logging
from typing import Any

import jax
import jaxlib
from jax.stages import Compiled
from ml_collections import ConfigDict

from inception_jax.models.cost import network_cost
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.models.tables import AUXILIARY_HEADS
from inception_jax.models.traced_cost import training_multiply_adds
from inception_jax.runtime import devices
from inception_jax.tools.plan import hlo_text, topology
from inception_jax.tools.plan.compiled_step import CompiledStep, compile_step
from inception_jax.tools.plan.compiler import OutOfMemory
from inception_jax.tools.plan.largest_batch import Trial, conclude, search_largest
from inception_jax.training.step import DISTORTIONS, UPDATE

log = logging.getLogger(__name__)

# Images a device: batches in between are not looked for. A TPU lays out 8 rows at once.
GRANULARITY = 8

Estimate = dict[str, Any]


def estimate(config: ConfigDict, tpu_slice: topology.Slice, *, search: bool) -> Estimate:
    """Compiles the training step, and with `search` some more to find the largest batch.

    Args:
      config: a resolved config; its data.batch_size is global.
      tpu_slice: the devices.
      search: finds the largest batch by compiling others, not only from this one.

    Returns:
      The fields of --json. Where the step does not fit, the fields of PROGRAM are None.

    Raises:
      UsageError: the config is wrong, or its batch cannot be split over the devices.
    """
    mesh = devices.make_mesh(tpu_slice.devices)

    def compile_for(batch_size: int) -> CompiledStep:
        log.info(f"compiling for {batch_size:,} images a step: a matter of minutes")
        return compile_step(_with_batch(config, batch_size), mesh)

    batch_size, available = config.data.batch_size, tpu_slice.device_bytes
    program, state_bytes = compile_for(batch_size)
    trial = _trial(batch_size, program)
    trials = [Trial(0, state_bytes, state_bytes <= available), trial]
    multiple = mesh.size * min(GRANULARITY, batch_size // mesh.size)
    if search:
        search_largest(
            trials, lambda size: _trial(size, compile_for(size).program), available, multiple
        )
    return {
        "config_name": config.name,
        "topology": tpu_slice.name,
        "device_kind": tpu_slice.kind,
        "chips": tpu_slice.chips,
        "devices": mesh.size,
        "hosts": tpu_slice.hosts,
        "batch_size": batch_size,
        "batch_size_per_device": batch_size // mesh.size,
        "dtype": config.model.dtype,
        "fits": trial.fits,
        "peak_bytes": trial.needed,
        "device_bytes": available,
        **conclude(trials, available, multiple),
        **_program(program, config, mesh.size),
        "versions": {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "libtpu": topology.compiler_version(),
        },
    }


# Fields that only a compiled program has.
PROGRAM = (
    "flops",
    "describe_flops",
    "flops_ratio",
    "bytes_accessed",
    "estimated_cycles",
    "without_estimate",
    "cycles_by_layer",
    "collectives",
)


def _program(program: Compiled | OutOfMemory, config: ConfigDict, count: int) -> Estimate:
    """The fields of PROGRAM for one of `count` devices; all None if the step does not fit."""
    if isinstance(program, OutOfMemory):
        return dict.fromkeys(PROGRAM)
    costs = program.cost_analysis()
    assert costs is not None
    network = build(network_config(config))
    described = 2 * training_multiply_adds(network) * (config.data.batch_size // count)
    lines = hlo_text.instructions(program.as_text() or "")
    names = [layer.name for layer in network_cost(network.config).layers]
    layers = [DISTORTIONS, *names, *AUXILIARY_HEADS.values(), "loss3", UPDATE]
    by_layer = hlo_text.cycles_by_layer(lines, layers)
    values = (
        costs["flops"],
        described,
        costs["flops"] / described,
        costs["bytes accessed"],
        hlo_text.total_cycles(lines),
        hlo_text.unestimated(lines),
        [dataclasses.asdict(layer) for layer in by_layer],
        [dataclasses.asdict(collective) for collective in hlo_text.collectives(lines)],
    )
    return dict(zip(PROGRAM, values, strict=True))


def _trial(batch_size: int, program: Compiled | OutOfMemory) -> Trial:
    if isinstance(program, OutOfMemory):
        return Trial(batch_size, program.needed, False)
    memory = program.memory_analysis()
    assert memory is not None
    return Trial(batch_size, memory.peak_memory_in_bytes, True)


def _with_batch(config: ConfigDict, batch_size: int) -> ConfigDict:
    config = config.copy_and_resolve_references().unlock()
    config.data.batch_size = batch_size
    return config.lock()
