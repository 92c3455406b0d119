"""Which part of an image the network sees in training. Host side, uint8 RGB."""

import dataclasses

import cv2
import numpy as np
from ml_collections import ConfigDict

from inception_jax.data.decode import Box, EncodedImage

TRAINING_CROPS = ("inception", "caffe")

INTERPOLATIONS = {
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}

_ATTEMPTS = 10
TRAINING_CROP_DRAWS = 4 * _ATTEMPTS + 2


def sample_box(
    height: int,
    width: int,
    draws: np.ndarray,
    area: tuple[float, float],
    aspect_ratio: tuple[float, float],
) -> Box:
    """A random part of an image, as the paper's section 6 draws it.

    Args:
      height, width: of the image, pixels.
      draws: uniform in [0, 1), [attempts, 4]; the first attempt that fits in the image counts.
      area: range of the box's share of the image, uniform.
      aspect_ratio: range of width / height, uniform.

    Returns:
      top, left, height, width in pixels; if no attempt fits, the largest centred box whose aspect
      ratio is in the range.
    """
    for area_draw, ratio_draw, top_draw, left_draw in draws.tolist():
        target = height * width * (area[0] + area_draw * (area[1] - area[0]))
        ratio = aspect_ratio[0] + ratio_draw * (aspect_ratio[1] - aspect_ratio[0])
        box_height, box_width = round((target / ratio) ** 0.5), round((target * ratio) ** 0.5)
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(top_draw * (height - box_height + 1))
            left = int(left_draw * (width - box_width + 1))
            return top, left, box_height, box_width
    ratio = min(max(width / height, aspect_ratio[0]), aspect_ratio[1])
    box_height = max(1, min(height, round(width / ratio)))
    box_width = max(1, min(width, round(height * ratio)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


@dataclasses.dataclass(frozen=True)
class TrainingCrop:
    """A random part of an image, as the network is to see it in training.

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
        """Of the section `data`."""
        return cls(
            kind=data.crop,
            size=data.image_size,
            area=data.crop_area,
            aspect_ratio=data.crop_aspect_ratio,
            flip=data.flip,
            interpolations=data.interpolations,
            exact=data.exact_decoding,
        )

    def __call__(self, image: EncodedImage, draws: np.ndarray, out: np.ndarray) -> None:
        """Writes the crop to `out`.

        Args:
          image: any size.
          draws: uniform in [0, 1), [TRAINING_CROP_DRAWS].
          out: uint8 [size, size, 3], contiguous.

        Raises:
          UnreadableImageError: the image is damaged.
        """
        boxes, (flip_draw, choice_draw) = draws[:-2].reshape(_ATTEMPTS, 4), draws[-2:]
        if self.kind == "inception":
            box = sample_box(image.height, image.width, boxes, self.area, self.aspect_ratio)
            pixels = self._decode(image, box, self.size)
            name = self.interpolations[int(choice_draw * len(self.interpolations))]
            cv2.resize(pixels, (self.size, self.size), out, interpolation=INTERPOLATIONS[name])
        else:
            side = caffe_side(self.size)
            pixels = self._decode(image, (0, 0, image.height, image.width), side)
            resized = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)
            top, left = (int(draw * (side - self.size + 1)) for draw in boxes[0, 2:])
            out[:] = resized[top : top + self.size, left : left + self.size]
        if self.flip and flip_draw < 0.5:
            cv2.flip(out, 1, out)

    def _decode(self, image: EncodedImage, box: Box, size: int) -> np.ndarray:
        if not self.exact:
            return image.decode_box(box, size)
        top, left, height, width = box
        return image.decode()[top : top + height, left : left + width]


def caffe_side(size: int) -> int:
    """The square that Caffe's crop is cut from, in pixels: 256 for 224, in proportion else."""
    return round(size * 256 / 224)
