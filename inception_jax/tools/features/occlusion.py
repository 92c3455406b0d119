"""Finds the parts of an image that an answer depends on, by covering them one after the other.

Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv 1311.2901), 4.2.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.normalization import normalize
from inception_jax.runtime import devices

PLACES = 13  # positions of the cover along each side
COVER = 5  # the cover is a fifth of the image wide


class Occlusion(NamedTuple):
    """The answer to an image, and how much less likely a cover makes it.

    `drop` is float32 [PLACES, PLACES]: the log-probability of `label` less that with a cover
    there, so that it is large where the image speaks for the label.
    """

    label: int
    probability: float
    drop: np.ndarray


def occlude(model: LoadedModel, image: np.ndarray) -> Occlusion:
    """Covers parts of an image with the mean colour and asks for the class it was taken for.

    Args:
      model: the network.
      image: uint8 [size, size, 3], as the network is shown it.
    """
    data, size = model.config.data, len(image)
    cover = max(1, round(size / COVER))
    starts = jnp.round(jnp.linspace(0, size - cover, PLACES)).astype(jnp.int32)
    pixels = jnp.arange(size)[None, :]
    covered = (pixels >= starts[:, None]) & (pixels < starts[:, None] + cover)  # [PLACES, size]

    @functools.partial(jax.jit, compiler_options=devices.compiler_options())
    def log_probabilities(params, batch_stats, image):
        normalized = normalize(image, data.mean, data.std)

        def of_row(rows_covered):  # [size] -> [PLACES, classes]
            mask = rows_covered[None, :, None, None] & covered[:, None, :, None]
            images = jnp.where(mask, 0.0, normalized[None])  # the mean colour is 0
            outputs, _ = model.network.apply(params, batch_stats, images, train=False)
            return jax.nn.log_softmax(outputs.logits)

        nothing = jnp.zeros_like(covered[:1])  # the whole image, by the same compiled network
        return jax.lax.map(of_row, jnp.concatenate([covered, nothing]))

    found = np.asarray(
        log_probabilities(model.params, model.batch_stats, jnp.asarray(image))
    )  # [PLACES + 1, PLACES, classes]
    parts, whole = found[:-1], found[-1, 0]
    label = int(np.argmax(whole))
    return Occlusion(label, float(np.exp(whole[label])), whole[label] - parts[:, :, label])
