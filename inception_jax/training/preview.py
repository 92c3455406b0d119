"""Writes a picture of augmented training images."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.config.resolve import resolve
from inception_jax.runtime import pictures
from inception_jax.tasks import make_task


def preview(config: ConfigDict, count: int, path: Path) -> None:
    """Writes a PNG of the images that the first step is given, and their titles.

    Args:
      config: of a run; its batch size does not matter.
      count: number of images.
      path: of the PNG; its folder is made.

    Raises:
      UserError, UsageError: as for training.
    """
    config = resolve(config)
    with config.unlocked():
        config.data.batch_size = count
    task = make_task(config)
    source = task.open(config.data.train_split)
    batch = task.read(source, 0, slice(0, count))
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    normalized = np.asarray(jax.jit(task.prepare)(batch, key)["image"])
    images = normalized * np.float32(config.data.std) + np.float32(config.data.mean)
    shown = np.clip(np.round(images), 0, 255).astype(np.uint8)
    pictures.grid(list(shown), task.titles(source, batch), path)
