"""Mixup: training on weighted sums of two images and their labels (arXiv 1710.09412)."""

import jax

# Folded into a step's key; the network's dropout counts up from 0.
_STREAM = 2**32 - 1


def sample_lambda(key: jax.Array, alpha: float) -> jax.Array:
    """Draws the share of the first image from Beta(alpha, alpha), once for a step's batch.

    Args:
      key: the step's.
      alpha: above 0; a small one gives shares near 0 and 1.

    Returns:
      float32 scalar in [0, 1].
    """
    return jax.random.beta(jax.random.fold_in(key, _STREAM), alpha, alpha)


def reverse_batch(values: jax.Array) -> jax.Array:
    """Pairs each example of a batch with the one in its place counted from the end.

    The order of a batch is random, and so are the pairs, whatever the number of devices.
    """
    return values[::-1]


def mix(share: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """share x first + (1 - share) x second, for images or losses."""
    return share * first + (1 - share) * second
