"""The part of a stored image that a training crop shows, and where boxes of the image lie in it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AppliedCrop:
    """The part of an image that was resized to a square, and perhaps mirrored."""

    box: tuple[float, float, float, float]  # left, top, right, bottom: pixel edges of the image
    size: int  # pixels, of the square
    flipped: bool  # left and right are exchanged

    def map_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Maps boxes of the stored image into the crop.

        They are not clipped: what lies outside the crop has coordinates below 0 or above `size`.
        A fast decoder that reduces a large image may move its pixels by less than one of the crop.

        Args:
          boxes: float32 [n, 4], left, top, right, bottom: pixel edges of the stored image.

        Returns:
          float32 [n, 4], the same in pixel edges of the crop.
        """
        left, top, right, bottom = self.box
        scale = self.size / np.array([right - left, bottom - top])
        corners = (boxes.reshape(-1, 2, 2) - [left, top]) * scale  # [n, first or last, x or y]
        if self.flipped:
            corners[:, :, 0] = self.size - corners[:, ::-1, 0]
        return corners.reshape(-1, 4).astype(np.float32)
