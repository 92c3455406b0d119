"""Encoded images (JPEG, PNG, ...) to RGB arrays."""

import cv2
import numpy as np

from inception_jax.errors import UserError


def decode(encoded: bytes, name: str) -> np.ndarray:
    """Decodes to uint8 [height, width, 3], RGB; grayscale becomes three equal channels.

    The EXIF orientation is ignored: ILSVRC has corrupt ones, and its labels were made without.

    Raises:
      UserError: `encoded` is no readable image; the message starts with `name`.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:  # empty input, or dimensions beyond OpenCV's limit
        image = None
    if image is None:
        raise UserError(f"{name} is not a readable image ({len(encoded)} bytes)")
    return image
