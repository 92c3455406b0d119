"""Reads the images and labels of a training step."""

import itertools
from typing import TypedDict

import numpy as np
from ml_collections import ConfigDict

from inception_jax.data import order
from inception_jax.data.augmentation import random_crop
from inception_jax.data.decode import EncodedImage, UnreadableImageError
from inception_jax.data.read_ahead import BufferPool
from inception_jax.data.sources import Source
from inception_jax.data.unreadable_images import MAX_DISTANCE, stand_ins, warn_once
from inception_jax.errors import UserError


class TrainingBatch(TypedDict):
    """Rows of the global batch of a step, on the host."""

    image: np.ndarray  # uint8 [rows, size, size, 3], RGB
    label: np.ndarray  # int32 [rows], class number
    index: np.ndarray  # int64 [rows], example number in the split
    epoch: np.ndarray  # int32 [rows]
    replaced: np.ndarray  # bool [rows], another image stands in for an unreadable one


def read_training_batch(
    source: Source,
    data: ConfigDict,
    seed: int,
    step: int,
    part: slice,
    memory: BufferPool | None = None,
) -> TrainingBatch:
    """Reads rows `part` of the global batch of step `step` (from 0), purely.

    An unreadable image is replaced by the next readable one in the source, with its label. The
    images lie in `memory`, if it is given.

    Raises:
      UserError: there is no readable one nearby.
    """
    epochs, indices = order.batch_order(seed, step, data.batch_size, len(source))
    epochs, indices = epochs[part], indices[part]
    crop = random_crop.TrainingCrop.from_config(data)
    size = data.image_size
    images = memory.take() if memory else np.empty((len(indices), size, size, 3), np.uint8)
    batch: TrainingBatch = {
        "image": images,
        "label": np.empty(len(indices), np.int32),
        "index": indices,
        "epoch": epochs.astype(np.int32),
        "replaced": np.zeros(len(indices), bool),
    }
    examples = source.read(indices)
    for row, (example, epoch, index) in enumerate(
        zip(examples, epochs.tolist(), indices.tolist(), strict=True)
    ):
        draws = random_crop.draw(seed, epoch, index)
        for candidate in itertools.chain([example], stand_ins(source, index)):
            try:
                crop(EncodedImage(candidate.encoded, candidate.name), draws, images[row])
            except UnreadableImageError as error:
                warn_once(f"{error}: another is taken for it")
                batch["replaced"][row] = True
                continue
            batch["label"][row] = candidate.label
            break
        else:
            raise UserError(f"{example.name} and the {MAX_DISTANCE} after it cannot be read")
    return batch
