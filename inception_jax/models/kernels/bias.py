"""Adding a bias, with a gradient that is summed in float32 and in the platform's way."""

import jax

from inception_jax.models.kernels.channel_sums import channel_sums
from inception_jax.models.kernels.platform import choose


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a number to each channel.

    Args:
      x: [batch, height, width, channels].
      bias: [channels], in the dtype of `x`.
    """
    return choose(x, bias, plain=plain, default=_add_bias)


def plain(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias, with JAX's own gradient."""
    return x + bias.reshape(1, 1, 1, -1)


@jax.custom_vjp
def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    return plain(x, bias)


_add_bias.defvjp(
    lambda x, bias: (_add_bias(x, bias), None),
    lambda _, gradient: (gradient, channel_sums(gradient).astype(gradient.dtype)),
)
