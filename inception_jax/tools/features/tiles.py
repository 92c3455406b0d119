"""Arranges small images in one PNG, without smoothing."""

import io
import math
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image

COLUMNS = 8
WIDTH = 96  # approximate width of a tile in pixels
_GAP = 2  # white pixels between tiles


def png(image: np.ndarray) -> bytes:
    """Encodes an image, uint8 [height, width, 3], as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", optimize=True)
    return file.getvalue()


def tile(images: Sequence[np.ndarray], columns: int = COLUMNS, width: int = WIDTH) -> np.ndarray:
    """Arranges images of one size in rows, enlarged by a whole factor to about `width` pixels.

    Args:
      images: uint8 [height, width, 3].
      columns: in a row.
      width: pixels; larger images stay as they are.
    """
    factor = max(1, round(width / images[0].shape[1]))
    enlarged = [one.repeat(factor, axis=0).repeat(factor, axis=1) for one in images]
    height, wide = enlarged[0].shape[:2]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    shape = rows * (height + _GAP) - _GAP, columns * (wide + _GAP) - _GAP, 3
    sheet = np.full(shape, 255, np.uint8)
    for place, one in enumerate(enlarged):
        top, left = (place // columns) * (height + _GAP), (place % columns) * (wide + _GAP)
        sheet[top : top + height, left : left + wide] = one
    return sheet


def heat(values: np.ndarray, least: float, most: float) -> np.ndarray:
    """Colours numbers [height, width] from blue to yellow (cividis); returns uint8 [..., 3]."""
    span = (values - least) / max(most - least, 1e-12)
    colors = matplotlib.colormaps["cividis"](np.clip(span, 0, 1))
    return np.round(255 * colors[..., :3]).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarges an image or a map, with smoothing."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
