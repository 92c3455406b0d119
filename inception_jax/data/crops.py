"""Which part of an image the network sees, in training and in a test. Host side, uint8 RGB."""

import cv2
import numpy as np

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
) -> tuple[int, int, int, int]:
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
    for area_draw, ratio_draw, top_draw, left_draw in draws:
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


def training_crop(
    image: np.ndarray,
    draws: np.ndarray,
    *,
    size: int,
    area: tuple[float, float],
    aspect_ratio: tuple[float, float],
    flip: bool,
    interpolations: tuple[str, ...],
) -> np.ndarray:
    """Random box, resized to [size, size, 3] with a random interpolation, perhaps mirrored.

    Args:
      image: uint8 [height, width, 3].
      draws: uniform in [0, 1), [TRAINING_CROP_DRAWS].
    """
    height, width = image.shape[:2]
    boxes, (flip_draw, interpolation_draw) = draws[:-2].reshape(_ATTEMPTS, 4), draws[-2:]
    top, left, box_height, box_width = sample_box(height, width, boxes, area, aspect_ratio)
    name = interpolations[int(interpolation_draw * len(interpolations))]
    box = image[top : top + box_height, left : left + box_width]
    crop = cv2.resize(box, (size, size), interpolation=INTERPOLATIONS[name])
    if flip and flip_draw < 0.5:
        crop = crop[:, ::-1]
    return crop


def center_crop(image: np.ndarray, *, short_side: int, size: int) -> np.ndarray:
    """Resizes the shorter side to `short_side`, aspect kept, and cuts the centre [size, size, 3].

    Shrinks by area averaging, enlarges bilinearly. Of an image more than four times as long as wide
    only the middle is resized, which bounds the memory.
    """
    limit = 4 * min(image.shape[:2])
    top, left = (max(0, (side - limit) // 2) for side in image.shape[:2])
    image = image[top : top + limit, left : left + limit]
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    resized = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    if resized != (width, height):
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, resized, interpolation=method)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]
