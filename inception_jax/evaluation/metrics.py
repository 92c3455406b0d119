"""Metrics as sums and counts, so that batches of any size add up to the same result."""

import jax
import jax.numpy as jnp
import optax

Sums = dict[str, jax.Array]


def hits(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k largest logits, bool [batch].

    Among equal logits the lower class number comes first; a row with a non-finite logit never hits.
    """
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
    classes = jnp.arange(logits.shape[1])[None, :]
    ahead = (logits > chosen) | ((logits == chosen) & (classes < labels[:, None]))
    return (jnp.sum(ahead, axis=1) < k) & jnp.all(jnp.isfinite(logits), axis=1)


def batch_sums(logits: jax.Array, labels: jax.Array, mask: jax.Array, bad: jax.Array) -> Sums:
    """Sums over the examples where `mask` is True.

    Where `bad` is True there was no image: a wrong answer, with the loss of knowing nothing.

    Returns:
      `loss` float32 (nats), `top1`, `top5`, `examples` and `bad_images` int32.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    losses = jnp.where(bad, jnp.log(logits.shape[1]), losses)
    counted = mask & ~bad
    return {
        "loss": jnp.sum(jnp.where(mask, losses, 0)),
        "top1": jnp.sum(hits(logits, labels, 1) & counted),
        "top5": jnp.sum(hits(logits, labels, 5) & counted),
        "examples": jnp.sum(mask),
        "bad_images": jnp.sum(mask & bad),
    }
