"""A test of networks written out: crops cut here, shown one by one, averaged in float64."""

import functools
from pathlib import Path

import cv2
import jax
import numpy as np

from inception_jax.checkpoints import loaded_model
from inception_jax.runtime import devices

# Which of the 144 crops those of fewer are: of the first scale and the second square.
OF_144 = {1: [10], 10: [6, 7, 8, 9, 10, 78, 79, 80, 81, 82], 144: list(range(144))}


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Areas averaged where both sides shrink, else bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def cut(image: np.ndarray, size: int, short_side: int, resize: str = "short_side") -> np.ndarray:
    """The 144 crops of an image, [144, size, size, 3]."""
    crops = []
    height, width = image.shape[:2]
    rest = max(height, width) - 4 * min(height, width)  # of a very long one: seen in three pieces
    starts = [0, round(rest / 2), rest] if rest > 0 else [0, 0, 0]
    limit = 4 * min(height, width)
    pieces = [
        image[start:][:limit] if height > width else image[:, start:][:, :limit] for start in starts
    ]
    for side in (round(short_side * scale) for scale in (1, 1.125, 1.25, 1.375)):
        for number, piece in enumerate(pieces):
            if resize == "squeeze":
                square = resized(image, side, side)
            else:
                tall, wide = (length * side // min(piece.shape[:2]) for length in piece.shape[:2])
                top, left = (round(number / 2 * (length - side)) for length in (tall, wide))
                square = resized(piece, tall, wide)[top : top + side, left : left + side]
            low, middle = side - size, round((side - size) / 2)
            for top, left in [(0, 0), (0, low), (low, 0), (low, low), (middle, middle)]:
                crops.append(square[top : top + size, left : left + size])
            crops.append(resized(square, size, size))
    return np.stack([*crops, *(np.fliplr(crop) for crop in crops)])


@functools.cache
def load(checkpoint: Path) -> loaded_model.LoadedModel:
    """A checkpoint, with its averaged weights where it has some."""
    return loaded_model.load(checkpoint, devices.make_mesh())


@functools.cache
def _apply(checkpoint: Path):
    model = load(checkpoint)

    @jax.jit
    def apply(image):
        outputs, _ = model.network.apply(model.params, model.batch_stats, image, train=False)
        return outputs.logits[0]

    return apply


def logits(
    checkpoint: Path, images: list[np.ndarray], *, short_side: int, crops: int
) -> np.ndarray:
    """float32 [images, crops, classes]: each crop goes through the network alone."""
    data, apply = load(checkpoint).config.data, _apply(checkpoint)
    mean, std = np.float32(data.mean), np.float32(data.std)
    return np.array(
        [
            [
                apply((crop[None].astype(np.float32) - mean) / std)
                for crop in cut(image, data.image_size, short_side)[OF_144[crops]]
            ]
            for image in images
        ]
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """In float64, over the last axis."""
    exponentials = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def averaged(logits: list[np.ndarray], average: str = "probabilities") -> np.ndarray:
    """Probabilities [images, classes] of logits [images, crops, classes] of each network."""
    over_crops = [
        softmax(one).max(axis=1) if average == "max" else softmax(one).mean(axis=1)
        for one in logits
    ]
    mean = np.mean(over_crops, axis=0)
    return mean / mean.sum(axis=-1, keepdims=True)
