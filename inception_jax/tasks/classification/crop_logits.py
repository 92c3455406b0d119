"""Computes the logits of crops, as many crops at a time as a batch holds."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.normalization import normalize
from inception_jax.models.network import Network
from inception_jax.runtime.devices import compiler_options, split_batch

# Least share of a batch that crops must fill; the fewer images they are of, the less memory.
_FILLED = 0.9


@dataclasses.dataclass(frozen=True)
class CropBatching:
    """Images per batch and crops per call; both count over all devices and processes."""

    images: int  # in a batch that is read
    crops: int  # of each of these images that one call of the network sees

    @classmethod
    def fit(cls, batch_size: int, crops: int, devices: int) -> "CropBatching":
        """Takes as many crops of an image at a time as still fill nine tenths of a batch."""
        batch_size = math.ceil(batch_size / devices) * devices
        for count in (n for n in range(crops, 0, -1) if crops % n == 0):
            images = batch_size // count // devices * devices
            if images * count >= _FILLED * batch_size:
                break
        return cls(images, count)


def make_logits(network: Network, data: ConfigDict, mesh: Mesh) -> Callable[..., jax.Array]:
    """Returns the jitted `logits(params, batch_stats, images, first, count)`.

    It takes uint8 images [images, crops, size, size, 3] and gives the float32 logits [images,
    count, classes] of `count` crops from number `first` on; numbers from `crops` on are their
    mirror images.
    """

    @functools.partial(
        jax.jit,
        static_argnames="count",
        out_shardings=split_batch(mesh),
        compiler_options=compiler_options(mesh),
    )
    def logits(params, batch_stats, images, first, *, count):
        numbers = first + jnp.arange(count)
        chosen = jnp.take(images, numbers % images.shape[1], axis=1)
        mirrored = (numbers >= images.shape[1]).reshape(1, count, 1, 1, 1)
        chosen = jnp.where(mirrored, chosen[..., ::-1, :], chosen)
        flat = normalize(chosen.reshape(-1, *chosen.shape[2:]), data.mean, data.std)
        outputs, _ = network.apply(params, batch_stats, flat, train=False)
        return outputs.logits.reshape(*chosen.shape[:2], -1)

    return logits
