"""From prepared files to batches on the devices: source, order, decode, crop, batch."""

import os

# Larger images are refused before memory is taken: 178 million, as in Pillow (a 512 MB picture).
MAX_PIXELS = 178_956_970

# OpenCV reads it once, when it is loaded, and without it takes gigabytes for a forged header.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

# Images that cannot be read are named by who reads them, in one line.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
