"""Distorts the colours of training images, on the device under jit.

The paper (section 6) takes those of Andrew Howard (arXiv 1312.5402): brightness, contrast and
colour (saturation) in random order, each by a random factor, as PIL's ImageEnhance does them; then
Krizhevsky's lighting noise along the principal components of ILSVRC's colours. Here without
rounding to whole numbers in between.

Each of the first three moves the colours towards a reference or away from it: reference + factor x
(colours - reference), clipped. The reference is black for brightness, the image's mean luminance
for contrast and the pixel's own luminance for saturation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

LUMINANCE = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601, as PIL)

# Principal components of ILSVRC's RGB in [0, 1] (Krizhevsky et al. 2012, section 4.1; the values
# in public use since fb.resnet.torch). The eigenvectors are the columns.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


class Distortion(NamedTuple):
    """The draws for each image of a batch."""

    order: jax.Array  # int32 [batch, 3]: 0 brightness, 1 contrast, 2 saturation, as applied
    factors: jax.Array  # float32 [batch, 3]: of brightness, contrast, saturation
    lighting: jax.Array  # float32 [batch, 3]: multiples of the eigenvalues


def draw(seed: int, epochs: jax.Array, indices: jax.Array, photometric: ConfigDict) -> Distortion:
    """Draws the distortion of each image of a batch: pure in (seed, epoch, example number).

    Args:
      seed: of the run.
      epochs, indices: int [batch].
      photometric: the config's section.
    """
    ranges = jnp.array([photometric[name] for name in ("brightness", "contrast", "saturation")])

    # Another stream than dropout's, which folds the step into the same seed.
    stream = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)

    def one(epoch: jax.Array, index: jax.Array) -> Distortion:
        key = jax.random.fold_in(jax.random.fold_in(stream, epoch), index)
        order_key, factor_key, lighting_key = jax.random.split(key, 3)
        return Distortion(
            order=jax.random.permutation(order_key, 3),
            factors=jax.random.uniform(factor_key, (3,), minval=ranges[:, 0], maxval=ranges[:, 1]),
            lighting=photometric.lighting * jax.random.normal(lighting_key, (3,)),
        )

    return jax.vmap(one)(epochs, indices)


def apply(images: jax.Array, distortion: Distortion) -> jax.Array:
    """Distorts images.

    Args:
      images: float32 [batch, height, width, 3], RGB in 0..255.
      distortion: of each image.

    Returns:
      float32 of the same shape; in 0..255, but for the lighting, which is added last and not
      clipped.
    """
    luminance_weights = jnp.array(LUMINANCE, jnp.float32)

    def one(image: jax.Array, distortion: Distortion) -> jax.Array:
        for position in range(3):
            kind = distortion.order[position]
            luminance = image @ luminance_weights
            reference = jnp.where(
                kind == 0, 0.0, jnp.where(kind == 1, jnp.mean(luminance), luminance)
            )[..., None]
            image = jnp.clip(reference + distortion.factors[kind] * (image - reference), 0, 255)
        noise = jnp.array(EIGENVECTORS) @ (jnp.array(EIGENVALUES) * distortion.lighting)
        return image + 255 * noise[None, None, :]

    return jax.vmap(one)(images, distortion)


def distort(
    images: jax.Array,
    epochs: jax.Array,
    indices: jax.Array,
    seed: int,
    photometric: ConfigDict,
) -> jax.Array:
    """Draws distortions and applies them, unless the config switches all of them off.

    Args:
      images: [batch, height, width, 3], RGB in 0..255, of any dtype.
      epochs, indices: int [batch].
      seed: of the run.
      photometric: the config's section.

    Returns:
      float32 images of the same shape.
    """
    images = images.astype(jnp.float32)
    off = all(
        tuple(photometric[name]) == (1.0, 1.0) for name in ("brightness", "contrast", "saturation")
    )
    if off and not photometric.lighting:
        return images
    return apply(images, draw(seed, epochs, indices, photometric))
