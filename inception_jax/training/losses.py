"""The training loss (paper, section 5)."""

import jax
import jax.numpy as jnp
import optax

from inception_jax.models.googlenet import Outputs


def total_loss(outputs: Outputs, labels: jax.Array, auxiliary_weight: float) -> jax.Array:
    """Cross entropy + auxiliary_weight x that of each auxiliary head; float32 scalar.

    Args:
      outputs: logits float32 [batch, classes].
      labels: int32 [batch].
      auxiliary_weight: 0.3 in the paper.
    """
    losses = [cross_entropy(logits, labels) for logits in (outputs.logits, *outputs.auxiliary)]
    return losses[0] + auxiliary_weight * sum(losses[1:], jnp.float32(0))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch of -log softmax(logits)[label], in nats."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
