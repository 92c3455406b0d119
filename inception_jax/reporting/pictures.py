"""Pictures for a person to look at, drawn with Matplotlib."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

COLUMNS = 8
_INCHES = 1.6  # of an image


def grid(images: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """Writes a PNG of the images in rows, each with its title.

    Args:
      images: uint8 [height, width, 3], RGB.
      titles: one each.
      path: of the file; its folder is made.
    """
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(_INCHES * columns, (_INCHES + 0.3) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.axis("off")
    for axis, image, title in zip(axes, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=7, wrap=True, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the font has not every script
        figure.savefig(path, dpi=150)
