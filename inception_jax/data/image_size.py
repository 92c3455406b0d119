"""Chooses a size of the network's input that fits a data set."""

import statistics

from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.sources import Source, spread
from inception_jax.errors import UserError

SMALLEST, LARGEST, STEP = 32, 224, 32  # pixels


def fitting_size(source: Source) -> int:
    """The median shorter side of a sample of images in pixels, to a multiple of STEP in range.

    Raises:
      UserError: no image of the sample is readable.
    """
    sides = []
    for example in source.read(spread(len(source))):
        try:
            image = EncodedImage(example.encoded, example.name)
        except UnreadableImageError:
            continue
        sides.append(min(image.height, image.width))
    if not sides:
        raise UserError(f"{example.name} and the others that were tried are unreadable")
    nearest = round(statistics.median(sides) / STEP) * STEP
    return min(max(nearest, SMALLEST), LARGEST)
