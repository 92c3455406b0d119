"""Verifies a prepared data set: every record is read once."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from rich.table import Table

from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.sources import UnlabelledError
from inception_jax.data.tfds_source import TfdsSource
from inception_jax.errors import UserError
from inception_jax.runtime import console, progress

log = logging.getLogger(__name__)

# Of larger splits only the headers are read: decoding takes minutes for each 100,000 images.
DECODED_AT_MOST = 200_000
NAMED_AT_MOST = 10  # unreadable images, in the log


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """The contents of one split, as they were read."""

    name: str
    images: int
    per_class: np.ndarray  # int [classes], number of images
    short_sides: np.ndarray  # int [readable images], shorter sides in pixels
    unreadable: tuple[str, ...]  # a message for each of them


def verify(folder: Path) -> list[SplitSummary]:
    """Reads every record of a TFDS version folder, and decodes it or only its headers.

    Raises:
      UserError: a file is missing or damaged, or a label is not one of the classes.
    """
    builder = tfds.core.read_only_builder.builder_from_directory(str(folder))
    summaries = []
    for split in sorted(builder.info.splits):
        try:
            summaries.append(_verify_split(folder, split))
        except UnlabelledError:
            log.warning(f"{split} of {folder} has no labels: it was not checked")
    return summaries


def _verify_split(folder: Path, split: str) -> SplitSummary:
    source = TfdsSource.from_folder(folder, split)
    labels: list[int] = []
    short_sides, unreadable = [], []
    examples = (source.read([index])[0] for index in range(len(source)))
    for example in progress.track(examples, f"checking {split}", len(source)):
        labels.extend(example.labels)
        try:
            image = EncodedImage(example.encoded, example.name)
            if len(source) <= DECODED_AT_MOST:
                image.decode()
        except UnreadableImageError as error:
            unreadable.append(str(error))
        else:
            short_sides.append(min(image.height, image.width))
    per_class = np.bincount(labels, minlength=len(source.class_names))
    return SplitSummary(
        split, len(source), per_class, np.array(short_sides, int), tuple(unreadable)
    )


def report(folder: Path, splits: list[SplitSummary], complete: Mapping[str, int]) -> None:
    """Prints a table of the splits, and names unreadable images.

    Args:
      folder: of the data set, for messages.
      splits: what `verify` found.
      complete: number of images that each split should have, as far as that is known.

    Raises:
      UserError: a split without a readable image.
    """
    table = Table("split", "images", "classes", "images a class", "shorter side, pixels", "bad")
    for split in splits:
        if not len(split.short_sides):
            raise UserError(f"{folder} has no readable image in its split {split.name}")
        present = split.per_class[split.per_class > 0]
        table.add_row(
            split.name,
            f"{split.images:,}",
            f"{len(present):,} of {len(split.per_class):,}",
            _range(present),
            _range(split.short_sides),
            f"{len(split.unreadable):,}",
        )
        for problem in split.unreadable[:NAMED_AT_MOST]:
            log.warning(problem)
        if len(split.unreadable) > NAMED_AT_MOST:
            log.warning(f"and {len(split.unreadable) - NAMED_AT_MOST} more")
    console.stderr.print(table)
    found = {split.name: split.images for split in splits}
    for name, images in complete.items():
        if found.get(name, 0) != images:
            log.warning(
                f"{folder} is not complete: {name} has {found.get(name, 0):,} of {images:,} images"
            )
    if any(split.unreadable for split in splits):
        log.warning(
            "Training replaces unreadable images by others (up to data.max_bad_fraction of them); "
            "an evaluation stops at one, or counts it as wrong (evaluation.bad_images=wrong). To "
            f"be rid of them, delete {folder}, mend or remove the files and prepare again"
        )


def _range(values: np.ndarray) -> str:
    least, most = int(values.min()), int(values.max())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
