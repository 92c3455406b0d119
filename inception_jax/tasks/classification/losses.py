"""The training loss (paper, section 5)."""

import jax
import jax.numpy as jnp
import optax

from inception_jax.models.googlenet import Outputs


def total_loss(
    outputs: Outputs, labels: jax.Array, auxiliary_weight: float, label_smoothing: float = 0.0
) -> jax.Array:
    """Adds to the cross entropy those of the auxiliary heads, weighted; float32 scalar.

    Args:
      outputs: logits float32 [batch, classes].
      labels: int32 [batch].
      auxiliary_weight: 0.3 in the paper.
      label_smoothing: share of the target that goes to all classes alike; the paper has none.
    """
    main, *auxiliary = (
        cross_entropy(logits, labels, label_smoothing)
        for logits in (outputs.logits, *outputs.auxiliary)
    )
    return main + auxiliary_weight * sum(auxiliary, jnp.float32(0))


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Returns the mean of -log softmax(logits)[label] over the batch, in nats, or smoothed.

    Against (1 - s) x one-hot + s / classes (Szegedy et al. 2015, arXiv 1512.00567, section 7).
    """
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    if not label_smoothing:
        return loss
    of_all_classes = -jnp.mean(jax.nn.log_softmax(logits))
    return (1 - label_smoothing) * loss + label_smoothing * of_all_classes
