"""A look at what the network is shown in training."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.config.resolve import resolve
from inception_jax.data.augmentation import photometric
from inception_jax.data.sources import open_source
from inception_jax.runtime import pictures
from inception_jax.tasks.classification.batches import read_training_batch


def preview(config: ConfigDict, count: int, path: Path) -> None:
    """Writes a PNG of the first `count` training images, cropped and distorted, with their labels.

    Raises:
      UserError, UsageError: as for training.
    """
    config = resolve(config)
    source = open_source(config.data, config.data.train_split, config.model.num_classes)
    config.unlock()
    config.data.batch_size = count  # the images do not depend on how they are put in batches
    batch = read_training_batch(source, config.data, config.seed, 0, slice(0, count))
    distort = jax.jit(
        lambda images, epochs, indices: photometric.distort(
            images, epochs, indices, config.seed, config.photometric
        )
    )
    images = distort(batch["image"], batch["epoch"], batch["index"])
    shown = np.clip(np.round(np.asarray(images)), 0, 255).astype(np.uint8)
    titles = [
        f"{source.class_names[label]}\n({index})"
        for label, index in zip(batch["label"], batch["index"], strict=True)
    ]
    pictures.grid(list(shown), titles, path)
