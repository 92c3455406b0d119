"""Averages the answers of several crops and several networks.

The paper's section 7: "The softmax probabilities are averaged over multiple crops and over all the
individual classifiers to obtain the final prediction."
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS


class Combination(NamedTuple):
    """The networks and the number of crops that one answer is averaged over."""

    networks: tuple[int, ...]
    crops: int  # 1 | 10 | 144


def combine(
    logits: Sequence[jax.Array], combinations: Sequence[Combination], *, crops: int, average: str
) -> jax.Array:
    """Returns log-probabilities of each combination, float32 [combinations, images, classes].

    Args:
      logits: of each network, [images, crops, classes]; -inf for what cannot be chosen.
      combinations: which of them to average.
      crops: a key of PROTOCOLS, the one that `logits` are of.
      average: over crops: the mean of the probabilities, or their max (divided by their sum).
    """
    log_probabilities = [jax.nn.log_softmax(one) for one in logits]

    def over_crops(one: jax.Array, count: int) -> jax.Array:
        chosen = one[:, np.array(PROTOCOLS[crops].indices_of(PROTOCOLS[count]))]
        if average == "max":
            return jnp.max(chosen, axis=1)
        return jax.nn.logsumexp(chosen, axis=1) - math.log(chosen.shape[1])

    def average_of(combination: Combination) -> jax.Array:
        each = [over_crops(log_probabilities[n], combination.crops) for n in combination.networks]
        mean = jax.nn.logsumexp(jnp.stack(each), axis=0) - math.log(len(each))
        return jax.nn.log_softmax(mean) if average == "max" else mean

    return jnp.stack([average_of(combination) for combination in combinations])
