"""All that the TPU compiler says about training a config on a slice, and the largest batch.

Nothing is run, and every number is the compiler's estimate, of one device: all of them do the same.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
from inception_jax.tools.plan import compiled, topology
from inception_jax.tools.plan.compiled import OutOfMemory
from inception_jax.tools.plan.lowered_step import Step, compile_step
from inception_jax.training import step

log = logging.getLogger(__name__)

# Programs that a search for the largest batch compiles at most, besides the one that was asked for.
COMPILATIONS = 4

# Images a device: batches in between are not looked for. A TPU lays out 8 rows at once.
GRANULARITY = 8

# A search is over when a batch fits and one that is larger by this share does not.
TOLERANCE = 0.02

Estimate = dict[str, Any]


class Trial(NamedTuple):
    """A batch that was compiled, and the bytes that it takes on a device."""

    batch_size: int  # global; 0 stands for the state alone
    needed: int
    fits: bool


def estimate(config: ConfigDict, slice: topology.Slice, *, search: bool) -> Estimate:
    """Compiles the training step, and with `search` some more to find the largest batch.

    Args:
      config: resolved; its data.batch_size is global.
      slice: the devices.
      search: whether to find the largest batch by compiling, or only from this one.

    Returns:
      What --json prints. Where the step does not fit, PROGRAM is None.

    Raises:
      UsageError: the config is wrong, or its batch cannot be split over the devices.
    """
    mesh = devices.make_mesh(slice.devices)

    def compile_for(batch_size: int) -> Step:
        log.info(f"compiling for {batch_size:,} images a step: a matter of minutes")
        return compile_step(_with_batch(config, batch_size), mesh)

    batch_size = config.data.batch_size
    program, state_bytes = compile_for(batch_size)
    trial = _trial(batch_size, program)
    trials = [Trial(0, state_bytes, state_bytes <= slice.device_bytes), trial]
    step = mesh.size * min(GRANULARITY, batch_size // mesh.size)
    if search:
        search_largest(
            trials, lambda size: _trial(size, compile_for(size).program), slice.device_bytes, step
        )
    return {
        "config_name": config.name,
        "topology": slice.name,
        "device_kind": slice.kind,
        "chips": slice.chips,
        "devices": mesh.size,
        "hosts": slice.hosts,
        "batch_size": batch_size,
        "batch_size_per_device": batch_size // mesh.size,
        "dtype": config.model.dtype,
        "fits": trial.fits,
        "peak_bytes": trial.needed,
        "device_bytes": slice.device_bytes,
        **_largest(trials, slice.device_bytes, step),
        **_program(program, config, mesh.size),
        "versions": {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "libtpu": topology.compiler_version(),
        },
    }


# What only a compiled program can tell.
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
    """PROGRAM, of one of `count` devices; None for all where it was refused."""
    if isinstance(program, OutOfMemory):
        return dict.fromkeys(PROGRAM)
    costs = program.cost_analysis()
    assert costs is not None
    network = build(network_config(config))
    described = 2 * training_multiply_adds(network) * (config.data.batch_size // count)
    lines = compiled.instructions(program.as_text() or "")
    names = [layer.name for layer in network_cost(network.config).layers]
    layers = [step.DISTORTIONS, *names, *AUXILIARY_HEADS.values(), "loss3", step.UPDATE]
    by_layer = compiled.cycles_by_layer(lines, layers)
    values = (
        costs["flops"],
        described,
        costs["flops"] / described,
        costs["bytes accessed"],
        compiled.total_cycles(lines),
        compiled.unestimated(lines),
        [dataclasses.asdict(layer) for layer in by_layer],
        [dataclasses.asdict(collective) for collective in compiled.collectives(lines)],
    )
    return dict(zip(PROGRAM, values, strict=True))


def _largest(trials: list[Trial], available: int, step: int) -> Estimate:
    """Of the trials: the largest batch, and how that is known."""
    fits, fails = _bracket(trials)
    nothing, *compilations = trials
    if len(compilations) == 1:
        found, known = guess_largest(trials, available, step), "extrapolated"
    else:
        found, known = (fits or nothing).batch_size, "compiled"
    return {
        "largest_batch_size": found,
        "largest_batch_size_known": known,
        "smallest_batch_size_refused": fails.batch_size if fails else None,
        "compilations": [trial._asdict() for trial in compilations],
    }


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


def search_largest(
    trials: list[Trial], try_batch: Callable[[int], Trial], available: int, step: int
) -> None:
    """Adds trials, each where a line through the nearest two before it meets the memory.

    Args:
      trials: no images at all, and a batch that was compiled.
      try_batch: compiles for a global batch.
      available: bytes on a device.
      step: all batches are multiples of it.
    """
    for _ in range(COMPILATIONS):
        fits, fails = _bracket(trials)
        least = fits.batch_size + step if fits else step
        most = fails.batch_size - step if fails else math.inf
        near = fits and fails and fails.batch_size <= (1 + TOLERANCE) * fits.batch_size
        if near or least > most:
            break
        trials.append(try_batch(int(min(max(guess_largest(trials, available, step), least), most))))


def guess_largest(trials: list[Trial], available: int, step: int) -> int:
    """Where memory would be full: on the line through the two trials nearest to that."""
    first, *others = sorted(trials, key=lambda trial: abs(trial.needed - available))
    slope = next(filter(lambda slope: slope > 0, (_slope(first, other) for other in others)))
    batch_size = first.batch_size + (available - first.needed) / slope
    return int(batch_size // step) * step


def _slope(one: Trial, other: Trial) -> float:
    """Bytes an image."""
    return (one.needed - other.needed) / (one.batch_size - other.batch_size)


def _bracket(trials: list[Trial]) -> tuple[Trial | None, Trial | None]:
    """The largest that fits, and the smallest that does not."""
    return (
        max((trial for trial in trials if trial.fits), default=None),
        min((trial for trial in trials if not trial.fits), default=None),
    )
