"""Decodes images to RGB arrays: JPEG by libjpeg-turbo (simplejpeg), all else by OpenCV.

The EXIF data is ignored: ILSVRC has broken ones, and its labels were made without them.
"""

from typing import Any

import cv2
import numpy as np
import simplejpeg

from inception_jax.data import MAX_PIXELS, jpeg
from inception_jax.errors import UserError

Box = tuple[int, int, int, int]  # top, left, height, width, in pixels


class UnreadableImageError(UserError):
    """The bytes of an image cannot be read; the message starts with the image's name."""


class EncodedImage:
    """An image file whose size is known and whose pixels are decoded on demand."""

    def __init__(self, encoded: bytes, name: str):
        """Reads the headers; formats other than JPEG are decoded at once.

        Args:
          encoded: the file.
          name: what to call it in messages.

        Raises:
          UnreadableImageError: the image is damaged, truncated, or has more than MAX_PIXELS.
        """
        self._encoded, self._name = encoded, name
        self._layout: jpeg.Layout | None = None
        self._pixels: np.ndarray | None = None
        if encoded.startswith(b"\xff\xd8"):
            self._layout = _read_layout(encoded, name)
            self.height, self.width = self._layout.height, self._layout.width
        if self._layout is None or self._layout.components not in (1, 3):
            self._pixels = _decode_other(encoded, name)
            self.height, self.width = self._pixels.shape[:2]

    def decode(self) -> np.ndarray:
        """Decodes the whole image exactly: accurate DCT, smooth upsampling of colours, as Pillow.

        Returns:
          uint8 [height, width, 3], RGB; grayscale as three equal channels, transparency dropped, 16
          bits reduced to the upper 8, CMYK multiplied out.

        Raises:
          UnreadableImageError: the image is damaged.
        """
        if self._pixels is not None:
            return self._pixels
        return _decode_jpeg(self._encoded, self._name)

    def decode_box(self, box: Box, size: int) -> np.ndarray:
        """Decodes a part fast: simpler DCT and upsampling, and as few blocks as possible.

        A box of at least twice `size` on both sides is decoded at a half, a quarter or an eighth of
        its size, averaging pixels.

        Args:
          box: top, left, height, width in pixels, within the image.
          size: side in pixels of the square that the box will be resized to.

        Returns:
          uint8 [height, width, 3], RGB: the pixels of the box, or a reduction of them.

        Raises:
          UnreadableImageError: the image is damaged.
        """
        top, left, height, width = box
        if self._pixels is not None:
            return self._pixels[top : top + height, left : left + width]
        assert self._layout is not None
        cut = jpeg.cut(self._encoded, self._layout, box)
        top, left = top - cut.top, left - cut.left
        shrink = max((f for f in (2, 4, 8) if min(height, width) >= f * size), default=1)
        if shrink > 1:
            top, left, height, width = (side // shrink for side in (top, left, height, width))
        image = _decode_cut(cut, self._name, shrink)
        return image[top : top + height, left : left + width]


def decode(encoded: bytes, name: str) -> np.ndarray:
    """Decodes an image file exactly: see `EncodedImage.decode`."""
    return EncodedImage(encoded, name).decode()


def _read_layout(encoded: bytes, name: str) -> jpeg.Layout:
    try:
        layout = jpeg.read_layout(encoded)
    except jpeg.NotAJpegError as error:
        raise _bad(encoded, name, str(error)) from None
    _check_size(layout.height, layout.width, name)
    if not jpeg.ends(encoded, layout):
        raise _bad(encoded, name, "truncated")
    return layout


def _check_size(height: int, width: int, name: str) -> None:
    if not height * width:
        raise UnreadableImageError(f"{name} says it has {width}x{height} pixels")
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(
            f"{name} says it has {width}x{height} pixels; {MAX_PIXELS} are allowed"
        )


def _bad(encoded: bytes | bytearray, name: str, why: str) -> UnreadableImageError:
    return UnreadableImageError(f"{name} is not a readable image ({why}, {len(encoded)} bytes)")


def _decode_cut(cut: jpeg.Cut, name: str, shrink: int) -> np.ndarray:
    """Decodes fast, at 1 / `shrink` of the size, a power of two up to 8, rounded up."""
    options: dict[str, Any] = {"fastdct": True, "fastupsample": True}
    if shrink > 1:
        options["min_factor"] = shrink
        options["min_height"], options["min_width"] = (
            -(-cut.height // shrink),
            -(-cut.width // shrink),
        )
    return _decode_jpeg(cut.file, name, **options)


def _decode_jpeg(encoded: bytes | bytearray, name: str, **options: Any) -> np.ndarray:
    try:
        # Not strict: libjpeg mends small damage, as it does for everybody who reads ILSVRC.
        return simplejpeg.decode_jpeg(encoded, "RGB", strict=False, **options)
    except ValueError as error:
        raise _bad(encoded, name, str(error)) from None


def _decode_other(encoded: bytes, name: str) -> np.ndarray:
    if encoded.startswith(b"\x89PNG"):
        width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20))
        _check_size(height, width, name)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:  # empty input, or dimensions beyond OpenCV's limit
        image = None
    if image is None:
        raise _bad(encoded, name, "damaged" if encoded else "empty")
    return image
