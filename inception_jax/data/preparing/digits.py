"""scikit-learn's handwritten digits: 1,797 grayscale images of 8x8 pixels, ten classes.

Of the 1,797, every fifth (numbers 0, 5, 10, ...) is a test example: 1,437 train, 360 test.
Source: UCI ML hand-written digits (the test part of optdigits), as scikit-learn ships it.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

SAMPLES_FOLDER = "digits_samples"


class Digits(tfds.core.GeneratorBasedBuilder):
    """PNG records with labels 0..9; needs no TensorFlow and no network."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, download_manager: Any) -> dict[str, Iterator]:
        return {"train": _examples(test=False), "test": _examples(test=True)}

    def _generate_examples(self) -> Iterator:
        """Not used: the splits are generators themselves."""
        yield from ()


def _examples(*, test: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, (png, label) in enumerate(_digits()):
        if (number % 5 == 0) == test:
            yield number, {"image": io.BytesIO(png), "label": label}


def _digits() -> Iterator[tuple[bytes, int]]:
    """PNG and label of every digit, in scikit-learn's order."""
    from sklearn.datasets import load_digits  # imported here: only preparing needs it

    digits = load_digits()
    for image, label in zip(digits.images, digits.target, strict=True):
        pixels = np.round(image * (255 / 16)).astype(np.uint8)  # 0..16 to 0..255
        yield cv2.imencode(".png", pixels)[1].tobytes(), int(label)


def prepare(data_dir: Path) -> Path:
    """Writes the records, and the first test example of each class as a file to predict on.

    Returns:
      The folder of the records. What is already there is kept.
    """
    builder = Digits(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    samples = data_dir / SAMPLES_FOLDER
    samples.mkdir(exist_ok=True)
    first: dict[int, bytes] = {}
    for _, example in _examples(test=True):
        first.setdefault(example["label"], example["image"].getvalue())
    for label, png in first.items():
        (samples / f"digit_{label}.png").write_bytes(png)
    return Path(builder.data_path)
