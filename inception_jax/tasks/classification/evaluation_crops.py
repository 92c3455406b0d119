"""Cuts the 1, 10 or 144 crops of a test image (section 7), on the host, uint8 RGB.

The crops of a smaller protocol are among those of a larger one. A long image is cut to pieces four
times as long as wide before it is resized, which bounds the memory.

Crops are cut here and mirrored on the devices: of 7.6 ms for the 144 crops of a 500x375 image,
resizing takes all but 0.2 (one CPU core), so that devices could save little.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

RESIZES = ("short_side", "squeeze")
INTERPOLATIONS = ("area", "bilinear")

_LONGEST = 4  # sides of an image that are resized at once: length / width


class View(NamedTuple):
    """The position of a crop in a square: 0 is the top or left end, 1 the bottom or right end."""

    down: float
    across: float


CORNERS = (View(0, 0), View(0, 1), View(1, 0), View(1, 1))
CENTER = View(0.5, 0.5)
WHOLE = None  # not a part of the square, but all of it, resized to the crop's size


class Crop(NamedTuple):
    """A crop, not mirrored."""

    scale: float  # shorter side of the resized image, 1 is evaluation.short_side
    square: float  # where the square lies along the longer side: 0 left or top, 1 right or bottom
    view: View | None


@dataclasses.dataclass(frozen=True)
class CropProtocol:
    """The crops of an image, each once more as its mirror image if `mirrored`."""

    crops: tuple[Crop, ...]
    mirrored: bool

    @property
    def count(self) -> int:
        """The number of crops, mirror images included."""
        return len(self.crops) * (1 + self.mirrored)

    def indices_of(self, other: "CropProtocol") -> list[int]:
        """Finds the crops of a smaller protocol among these.

        All crops come first, in order, then all mirror images.
        """
        return [
            self.crops.index(crop) + mirror * len(self.crops)
            for mirror in range(1 + other.mirrored)
            for crop in other.crops
        ]


PROTOCOLS = {
    1: CropProtocol((Crop(1, 0.5, CENTER),), mirrored=False),
    # Krizhevsky et al. (2012): of the central square of 256 pixels.
    10: CropProtocol(tuple(Crop(1, 0.5, view) for view in (*CORNERS, CENTER)), mirrored=True),
    # Section 7: 4 x 3 x 6 x 2.
    144: CropProtocol(
        tuple(
            Crop(short_side / 256, square, view)
            for short_side in (256, 288, 320, 352)
            for square in (0, 0.5, 1)
            for view in (*CORNERS, CENTER, WHOLE)
        ),
        mirrored=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The resizing of test images, in pixels."""

    size: int  # of a crop
    short_side: int  # at scale 1
    resize: str  # short_side (aspect kept) | squeeze (to a square)
    interpolation: str  # area | bilinear (Pillow's, as torchvision)

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Geometry":
        """Takes the fields from the sections `data` and `evaluation`."""
        evaluation = config.evaluation
        return cls(
            config.data.image_size,
            evaluation.short_side,
            evaluation.resize,
            evaluation.interpolation,
        )

    def cut(self, image: np.ndarray, crops: Sequence[Crop], out: np.ndarray) -> None:
        """Writes the crops of an image.

        Args:
          image: uint8 [height, width, 3], any size.
          crops: those of one scale next to one another; `short_side * scale` is at least `size`.
          out: uint8 [crops, size, size, 3].
        """
        numbered = enumerate(crops)
        for scale, group in itertools.groupby(numbered, key=lambda entry: entry[1].scale):
            side = round(self.short_side * scale)
            resized: dict[tuple[int, int], np.ndarray] = {}
            for row, crop in group:
                square = self._square(image, side, crop.square, resized)
                if crop.view is None:
                    out[row] = self._resize(square, self.size, self.size)
                else:
                    top = round(crop.view.down * (side - self.size))
                    left = round(crop.view.across * (side - self.size))
                    out[row] = square[top : top + self.size, left : left + self.size]

    def _square(self, image: np.ndarray, side: int, position: float, resized: dict) -> np.ndarray:
        """Cuts a square, [side, side, 3], of the resized image; `resized` caches resized images."""
        if self.resize == "squeeze":
            if not resized:
                resized[0, 0] = self._resize(image, side, side)
            return resized[0, 0]
        limit = _LONGEST * min(image.shape[:2])
        top, left = (round(position * max(0, length - limit)) for length in image.shape[:2])
        if (top, left) not in resized:
            piece = image[top : top + limit, left : left + limit]
            shorter = min(piece.shape[:2])
            # Rounded down, as torchvision does.
            height, width = (length * side // shorter for length in piece.shape[:2])
            resized[top, left] = self._resize(piece, height, width)
        piece = resized[top, left]
        top, left = (round(position * (length - side)) for length in piece.shape[:2])
        return piece[top : top + side, left : left + side]

    def _resize(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        if image.shape[:2] == (height, width):
            return image
        if self.interpolation == "bilinear":
            smoothed = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(smoothed)
        shrinks = height <= image.shape[0] and width <= image.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(image, (width, height), interpolation=method)
