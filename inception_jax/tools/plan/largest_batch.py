"""The largest batch that fits: extrapolated from one compiled program, or found by a few more."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

# Programs that a search for the largest batch compiles at most, besides the first one.
COMPILATIONS = 4

# A search is over when a batch fits and one that is larger by this share does not.
TOLERANCE = 0.02


class Trial(NamedTuple):
    """A batch that was compiled, and the bytes that it takes on a device."""

    batch_size: int  # global; 0 stands for the state alone
    needed: int
    fits: bool


def search_largest(
    trials: list[Trial], try_batch: Callable[[int], Trial], available: int, multiple: int
) -> None:
    """Adds trials, each where a line through the nearest two before it meets the memory.

    Args:
      trials: the state alone, and a batch that was compiled.
      try_batch: compiles for a global batch.
      available: bytes on a device.
      multiple: all batches are multiples of it.
    """
    for _ in range(COMPILATIONS):
        fits, fails = _bracket(trials)
        least = fits.batch_size + multiple if fits else multiple
        most = fails.batch_size - multiple if fails else math.inf
        near = fits and fails and fails.batch_size <= (1 + TOLERANCE) * fits.batch_size
        if near or least > most:
            break
        guess = guess_largest(trials, available, multiple)
        if guess is None:
            guess = 2 * max(trial.batch_size for trial in trials)
        trials.append(try_batch(int(min(max(guess, least), most))))


def guess_largest(trials: list[Trial], available: int, multiple: int) -> int | None:
    """The batch that fills the memory, on a line through the two trials nearest to that.

    Returns:
      A multiple of `multiple`, 0 if not even the smallest fits; None if memory does not grow with
      the batch in any two trials.
    """
    first, *others = sorted(trials, key=lambda trial: abs(trial.needed - available))
    slopes = (_bytes_per_image(first, other) for other in others)
    slope = next((slope for slope in slopes if slope > 0), None)
    if slope is None:
        return None
    batch_size = first.batch_size + (available - first.needed) / slope
    return max(0, int(batch_size // multiple) * multiple)


def conclude(trials: list[Trial], available: int, multiple: int) -> dict[str, Any]:
    """The fields of --json about the largest batch, and how it is known."""
    fits, fails = _bracket(trials)
    state_alone, *compilations = trials
    if len(compilations) == 1:
        found = guess_largest(trials, available, multiple)
        known = "unknown" if found is None else "extrapolated"
    else:
        found, known = (fits or state_alone).batch_size, "compiled"
    return {
        "largest_batch_size": found,
        "largest_batch_size_known": known,
        "smallest_batch_size_refused": fails.batch_size if fails else None,
        "compilations": [trial._asdict() for trial in compilations],
    }


def _bytes_per_image(one: Trial, other: Trial) -> float:
    return (one.needed - other.needed) / (one.batch_size - other.batch_size)


def _bracket(trials: list[Trial]) -> tuple[Trial | None, Trial | None]:
    """The largest that fits, and the smallest that does not."""
    return (
        max((trial for trial in trials if trial.fits), default=None),
        min((trial for trial in trials if not trial.fits), default=None),
    )
