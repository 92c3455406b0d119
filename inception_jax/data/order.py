"""The order of examples, and the random draws for each of them, as pure functions.

No iterator is ever saved: the batch of a step follows from (seed, step) and the size of the data.
Only raw bits of NumPy's Philox generator are used, whose stream NumPy
guarantees (NEP 19), never the distributions on top of it, which may change between versions.
"""

import functools
import threading

import numpy as np

# Streams of draws that the same seed keys.
_SHUFFLE, _AUGMENTATION = 0, 1


_sorting = threading.Lock()


def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """A permutation of range(examples), int64, read-only.

    The last two are kept: at the seam of two epochs threads read in both. Threads that ask for a
    new one at the same time wait for one of them to sort it.
    """
    with _sorting:
        return _sorted(seed, epoch, examples)


@functools.lru_cache(maxsize=2)  # 10 MB an epoch for ILSVRC
def _sorted(seed: int, epoch: int, examples: int) -> np.ndarray:
    bits = np.random.Philox(key=[seed, _SHUFFLE], counter=[0, 0, 0, epoch])
    order = np.argsort(bits.random_raw(examples), kind="stable")
    order.flags.writeable = False
    return order


def batch_order(seed: int, step: int, batch_size: int, examples: int) -> tuple[np.ndarray, ...]:
    """The examples of a step's batch.

    Epochs follow one another without a gap: each has every example once, and a batch may end one
    and begin the next.

    Args:
      seed: of the run.
      step: from 0.
      batch_size: of the global batch.
      examples: in the split.

    Returns:
      epochs, indices: int64 [batch_size]; the epoch counts from 0.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, examples)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = epoch_order(seed, int(epoch), examples)[offsets[chosen]]
    return epochs, indices


def uniform_draws(seed: int, epoch: int, index: int, count: int) -> np.ndarray:
    """Draws for the augmentation of one example in one epoch: float64 [count] in [0, 1)."""
    bits = np.random.Philox(key=[seed, _AUGMENTATION], counter=[0, 0, epoch, index])
    return (bits.random_raw(count) >> np.uint64(11)) * 2.0**-53
