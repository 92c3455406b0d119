"""From prepared files to batches on the devices: source, order, decode, crop, batch."""

import os

# OpenCV reads it once, when it is loaded, and without it takes gigabytes for a forged header.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(178_956_970))
