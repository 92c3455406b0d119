"""Draws pictures of images and results, with Matplotlib."""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception_jax.storage import disk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8
_ANSWERED_COLUMNS = 3
_INCHES = 1.6  # of an image
_TITLE = 36  # characters that fit above an image with answers


def errors_by_cost(rows: Sequence[dict[str, Any]], caption: str, path: Path) -> None:
    """Writes a PNG of top-5 error against cost, a line for each number of models.

    Args:
      rows: as `evaluation.table.rows` makes them.
      caption: above the picture.
      path: of the file; its folder is made.
    """
    figure = _figure(6, 4)
    axis = figure.subplots()
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        single = row["models"] == 1
        name = f"model {row['networks'][0]}" if single else f"{row['models']} models averaged"
        lines.setdefault(name, []).append(row)
    for (name, line), marker in zip(lines.items(), itertools.cycle("osD^vP*X<>"), strict=False):
        costs = [row["cost"] for row in line]
        errors = [100 * row["top5_error"] for row in line]
        axis.plot(
            costs, errors, marker=marker, label=name, linewidth=1.5 if "models" in name else 1
        )
        for row, cost, error in zip(line, costs, errors, strict=True):
            axis.annotate(
                row["crops"], (cost, error), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    axis.set_xscale("log")
    axis.set_xlabel("cost: passes through a network for an image (beside the points: crops)")
    axis.set_ylabel("top-5 error, %")
    axis.set_title(caption, fontsize=9, wrap=True, parse_math=False)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    axis.margins(x=0.2, y=0.15)
    _save(figure, path)


def grid(images: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """Writes a PNG of the images in rows, each with its title.

    Args:
      images: uint8 [height, width, 3], RGB.
      titles: one each.
      path: of the file; its folder is made.
    """
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    figure = _figure(_INCHES * columns, (_INCHES + 0.3) * rows)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.axis("off")
    for axis, image, title in zip(axes, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=7, wrap=True, parse_math=False)
    _save(figure, path)


def predictions(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    answers: Sequence[Sequence[dict[str, Any]]],
    path: Path,
) -> None:
    """Writes a PNG: each image with its title, and bars for its most likely classes beside it.

    Args:
      images: uint8 [height, width, 3], RGB.
      titles: one each.
      answers: of each, dictionaries with `name` and `probability`, the most likely first.
      path: of the file; its folder is made.
    """
    columns = min(_ANSWERED_COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    figure = _figure(2 * 2.2 * columns, 1.8 * rows)
    axes = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for axis in axes.reshape(-1):
        axis.axis("off")
    for (left, right), image, title, answer in zip(axes, images, titles, answers, strict=False):
        left.imshow(image)
        left.set_title(_shortened(title), fontsize=7, parse_math=False)
        right.axis("on")
        right.barh(range(len(answer)), [one["probability"] for one in answer], color="#9ecae1")
        for place, one in enumerate(answer):
            text = f"{one['probability']:.0%} {one['name']}"  # a long name is cut off
            right.text(0.02, place, text, va="center", fontsize=7, parse_math=False, clip_on=True)
        right.set(xlim=(0, 1), xticks=[], yticks=[])
        right.invert_yaxis()
    _save(figure, path)


def _shortened(title: str) -> str:
    """Shortens a title in its middle: file names often differ at their ends."""
    return title if len(title) <= _TITLE else f"{title[: _TITLE // 2]}…{title[-_TITLE // 2 + 1 :]}"


def _figure(width: float, height: float) -> "Figure":
    """Makes an empty figure; sizes in inches."""
    # Imported here: a fifth of the start of `train`, which seldom draws.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk.writing(path.parent), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the font has not every script
        figure.savefig(path, dpi=150)
