"""Random crops of training images, on the host: uint8 RGB."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from inception_jax.data import order
from inception_jax.data.augmentation.applied_crop import AppliedCrop
from inception_jax.data.decode import Box, EncodedImage

INTERPOLATIONS = {
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}

_ATTEMPTS = 10

_Edges = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the image


class Attempt(NamedTuple):
    """The draws for one box, each uniform in [0, 1)."""

    area: float
    aspect_ratio: float
    top: float
    left: float


class CropDraws(NamedTuple):
    """The draws for the crop of one example in one epoch, each uniform in [0, 1)."""

    attempts: tuple[Attempt, ...]
    flip: float
    interpolation: float


def draw(seed: int, epoch: int, index: int) -> CropDraws:
    """Draws for one example: a pure function of (seed, epoch, example number).

    The order of the numbers is part of the format: with another one a run would not resume.
    """
    drawn = order.uniform_draws(seed, epoch, index, 4 * _ATTEMPTS + 2).tolist()
    attempts = tuple(Attempt(*drawn[at : at + 4]) for at in range(0, 4 * _ATTEMPTS, 4))
    return CropDraws(attempts, *drawn[4 * _ATTEMPTS :])


def sample_box(
    height: int,
    width: int,
    attempts: Iterable[Attempt],
    area: tuple[float, float],
    aspect_ratio: tuple[float, float],
) -> Box:
    """A random part of an image, as the paper's section 6 draws it.

    Args:
      height, width: of the image, pixels.
      attempts: the draws; the first attempt that fits in the image counts.
      area: range of the box's share of the image, uniform.
      aspect_ratio: range of width / height, uniform.

    Returns:
      top, left, height, width in pixels; if no attempt fits, the largest centred box whose aspect
      ratio is in the range.
    """
    for attempt in attempts:
        target = height * width * (area[0] + attempt.area * (area[1] - area[0]))
        ratio = aspect_ratio[0] + attempt.aspect_ratio * (aspect_ratio[1] - aspect_ratio[0])
        box_height, box_width = round((target / ratio) ** 0.5), round((target * ratio) ** 0.5)
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(attempt.top * (height - box_height + 1))
            left = int(attempt.left * (width - box_width + 1))
            return top, left, box_height, box_width
    ratio = min(max(width / height, aspect_ratio[0]), aspect_ratio[1])
    box_height = max(1, min(height, round(width / ratio)))
    box_width = max(1, min(width, round(height * ratio)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@dataclasses.dataclass(frozen=True)
class TrainingCrop:
    """Cuts a random part out of an image, as the network is to see it in training.

    kind "inception" (the paper's section 6): a box of random area and aspect ratio, resized with a
    random interpolation. kind "caffe" (bvlc_googlenet): all of the image resized to a square,
    bilinearly and whatever its shape, and a random window of it (256 and 224 pixels). Both may be
    mirrored.
    """

    kind: str
    size: int  # pixels, of the square that comes out
    area: tuple[float, float]  # of the box, shares of the image's area
    aspect_ratio: tuple[float, float]  # of the box, width / height
    flip: bool  # mirror every other one
    interpolations: tuple[str, ...]  # one of them, equally likely
    exact: bool  # decode as Pillow does, instead of fast

    @classmethod
    def from_config(cls, data: ConfigDict) -> "TrainingCrop":
        """The crop that the config's section `data` asks for."""
        return cls(
            kind=data.crop,
            size=data.image_size,
            area=data.crop_area,
            aspect_ratio=data.crop_aspect_ratio,
            flip=data.flip,
            interpolations=data.interpolations,
            exact=data.exact_decoding,
        )

    def __call__(self, image: EncodedImage, draws: CropDraws, out: np.ndarray) -> AppliedCrop:
        """Writes the crop to `out`.

        Args:
          image: any size.
          draws: see `draw`.
          out: uint8 [size, size, 3], contiguous.

        Returns:
          Which part of the image it is.

        Raises:
          UnreadableImageError: the image is damaged.
        """
        box = TRAINING_CROPS[self.kind](self, image, draws, out)
        flipped = self.flip and draws.flip < 0.5
        if flipped:
            cv2.flip(out, 1, out)
        return AppliedCrop(box, self.size, flipped)

    def _inception(self, image: EncodedImage, draws: CropDraws, out: np.ndarray) -> _Edges:
        box = sample_box(image.height, image.width, draws.attempts, self.area, self.aspect_ratio)
        pixels = self._decode(image, box, self.size)
        name = self.interpolations[int(draws.interpolation * len(self.interpolations))]
        cv2.resize(pixels, (self.size, self.size), out, interpolation=INTERPOLATIONS[name])
        top, left, height, width = box
        return left, top, left + width, top + height

    def _caffe(self, image: EncodedImage, draws: CropDraws, out: np.ndarray) -> _Edges:
        side, first = caffe_side(self.size), draws.attempts[0]
        pixels = self._decode(image, (0, 0, image.height, image.width), side)
        resized = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)
        top, left = (int(draw * (side - self.size + 1)) for draw in (first.top, first.left))
        out[:] = resized[top : top + self.size, left : left + self.size]
        x, y = image.width / side, image.height / side
        return left * x, top * y, (left + self.size) * x, (top + self.size) * y

    def _decode(self, image: EncodedImage, box: Box, size: int) -> np.ndarray:
        if not self.exact:
            return image.decode_box(box, size)
        top, left, height, width = box
        return image.decode()[top : top + height, left : left + width]


# By `data.crop`. Each writes the crop, not mirrored, and returns its edges in the stored image.
TRAINING_CROPS: dict[str, Callable[..., _Edges]] = {
    "inception": TrainingCrop._inception,
    "caffe": TrainingCrop._caffe,
}


def caffe_side(size: int) -> int:
    """The side of the square that Caffe's crop of `size` pixels is cut from: 256 for 224."""
    return round(size * 256 / 224)
