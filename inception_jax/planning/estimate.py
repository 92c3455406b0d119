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

from inception_jax.distributed import devices
from inception_jax.models.describe import describe, training_multiply_adds
from inception_jax.models.googlenet import AUXILIARY_HEADS
from inception_jax.models.network import network_config
from inception_jax.planning import compiled, topology
from inception_jax.planning.compiled import Refusal
from inception_jax.planning.step import compile_step
from inception_jax.training import steps

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

    batch_size: int  # global
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

    def try_batch(batch_size: int) -> tuple[Trial, Compiled | None]:
        log.info(f"compiling for {batch_size:,} images a step: a matter of minutes")
        found = compile_step(_with_batch(config, batch_size), mesh)
        if isinstance(found, Refusal):
            return Trial(batch_size, found.needed, False), None
        return Trial(batch_size, _peak_bytes(found), True), found

    batch_size = config.data.batch_size
    trial, program = try_batch(batch_size)
    step = mesh.size * min(GRANULARITY, batch_size // mesh.size)
    trials = [trial]
    if search:
        trials = search_largest(trial, lambda size: try_batch(size)[0], slice.device_bytes, step)
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
        **(_program(program, config, mesh.size) if program else dict.fromkeys(PROGRAM)),
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


def _program(program: Compiled, config: ConfigDict, count: int) -> Estimate:
    """PROGRAM, of one of `count` devices."""
    costs = program.cost_analysis()
    assert costs is not None
    network = network_config(config)
    described = 2 * training_multiply_adds(network) * (config.data.batch_size // count)
    lines = compiled.instructions(program.as_text() or "")
    names = [layer.name for layer in describe(network).layers]
    layers = [steps.DISTORTIONS, *names, *AUXILIARY_HEADS.values(), "loss3", steps.UPDATE]
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
    if len(trials) == 1:
        found, known = guess_largest(trials, available, step), "extrapolated"
    else:
        found, known = (fits.batch_size if fits else 0), "compiled"
    return {
        "largest_batch_size": found,
        "largest_batch_size_known": known,
        "smallest_batch_size_refused": fails.batch_size if fails else None,
        "compilations": [trial._asdict() for trial in trials],
    }


def _peak_bytes(program: Compiled) -> int:
    memory = program.memory_analysis()
    assert memory is not None
    return memory.peak_memory_in_bytes


def _with_batch(config: ConfigDict, batch_size: int) -> ConfigDict:
    config = config.copy_and_resolve_references().unlock()
    config.data.batch_size = batch_size
    return config.lock()


def search_largest(
    trial: Trial, try_batch: Callable[[int], Trial], available: int, step: int
) -> list[Trial]:
    """Tries batches, each where a line through the nearest two trials meets the memory.

    Args:
      trial: the first.
      try_batch: compiles for a global batch.
      available: bytes on a device.
      step: all batches are multiples of it.
    """
    trials = [trial]
    while len(trials) <= COMPILATIONS:
        fits, fails = _bracket(trials)
        least = fits.batch_size + step if fits else step
        most = fails.batch_size - step if fails else math.inf
        if fits and fails and fails.batch_size <= (1 + TOLERANCE) * fits.batch_size:
            break
        if least > most:
            break
        trials.append(try_batch(int(min(max(guess_largest(trials, available, step), least), most))))
    return trials


def guess_largest(trials: list[Trial], available: int, step: int) -> int:
    """Where memory would be full: on the line through the two trials nearest to that.

    With one trial, or two that are no rising line, through it and no bytes for no images.
    """
    first, *others = sorted(trials, key=lambda trial: abs(trial.needed - available))
    origin = Trial(0, 0, True)
    second = next((trial for trial in others if _slope(first, trial) > 0), origin)
    batch_size = first.batch_size + (available - first.needed) / _slope(first, second)
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
