"""scikit-learn's handwritten digits: 1,797 grayscale images of 8x8 pixels, ten classes.

Of the 1,797, every fifth (numbers 0, 5, 10, ...) is a test example: 1,437 train, 360 test.
Source: UCI ML hand-written digits (the test part of optdigits), as scikit-learn ships it.
"""

import argparse
from pathlib import Path

import numpy as np

from inception_jax.data.preparing import records
from inception_jax.data.preparing.records import Record

SAMPLES_FOLDER = "digits_samples"

DESCRIPTION = records.DatasetDescription(
    name="digits",
    version="1.1.0",
    text=__doc__,
    homepage="https://archive.ics.uci.edu/dataset/80",
    class_names=tuple(str(digit) for digit in range(10)),
    image_shape=(8, 8, 1),
)

COMPLETE = {"train": 1437, "test": 360}  # images


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds no flags: scikit-learn has the images."""


def prepare(flags: argparse.Namespace) -> Path:
    """Writes the records, and the first test example of each class as a file to predict on."""
    digits = _digits()
    test = digits[::5]
    train = [record for number, record in enumerate(digits) if number % 5]
    folder = records.write(DESCRIPTION, {"train": train, "test": test}, flags.data_dir)
    samples = flags.data_dir / SAMPLES_FOLDER
    samples.mkdir(exist_ok=True)
    for record in reversed(test):  # the first of each class is written last
        (samples / f"digit_{record.label}.png").write_bytes(record.read())
    return folder


def _digits() -> list[Record]:
    from sklearn.datasets import load_digits  # imported here: only preparing needs it

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 0..16 to 0..255
    return [
        Record.of_pixels(image, f"digit_{number:04}.png", int(label))
        for number, (image, label) in enumerate(zip(images, digits.target, strict=True))
    ]
