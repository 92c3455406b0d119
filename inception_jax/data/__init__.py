"""From prepared files to batches on the devices: source, order, decode, crop, batch."""

import os

# Larger images are refused before memory is taken: 178 million, as in Pillow (a 512 MB picture).
MAX_PIXELS = 178_956_970

# OpenCV reads this once, when it is loaded. Without it a forged header costs gigabytes.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

# Whoever reads an unreadable image names it in one line: OpenCV need not.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
