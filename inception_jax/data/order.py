"""Which example stands at which position, and every random draw for it: pure functions.

Nothing here has state, so no iterator is ever saved: the batch of a step follows from (seed, step)
and the size of the data. Only raw bits of NumPy's Philox generator are used, whose stream NumPy
guarantees (NEP 19), never the distributions on top of it, which may change between versions.
"""

import functools

import numpy as np

# Distinguishes the streams that are keyed by the same seed.
_SHUFFLE, _AUGMENTATION = 0, 1


@functools.lru_cache(maxsize=2)  # 10 MB an epoch for ILSVRC; threads read at the seam of two
def epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """A permutation of range(examples), int64, read-only."""
    bits = np.random.Philox(key=[seed, _SHUFFLE], counter=[0, 0, 0, epoch])
    order = np.argsort(bits.random_raw(examples), kind="stable")
    order.flags.writeable = False
    return order


def batch_order(seed: int, step: int, batch_size: int, examples: int) -> tuple[np.ndarray, ...]:
    """The examples of the batch that step `step` (from 0) trains on.

    Epochs follow one another without a gap: each has every example once, and a batch may end one
    and begin the next.

    Returns:
      epochs, indices: int64 [batch_size].
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, examples)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = epoch_order(seed, int(epoch), examples)[offsets[chosen]]
    return epochs, indices


def uniform_draws(seed: int, epoch: int, index: int, count: int) -> np.ndarray:
    """The draws in [0, 1), float64 [count], for the augmentation of one example in one epoch."""
    bits = np.random.Philox(key=[seed, _AUGMENTATION], counter=[0, 0, epoch, index])
    return (bits.random_raw(count) >> np.uint64(11)) * 2.0**-53
