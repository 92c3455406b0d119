"""Writes the predictions for a split to a .npz file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inception_jax.storage import disk
from inception_jax.tasks.classification.predictions import Predictions


def write(predictions: Sequence[Predictions], class_names: tuple[str, ...], path: Path) -> None:
    """Writes the predictions, batch by batch in order.

    `index` int64 [examples], number in the split; `labels` bool [examples, classes];
    `log_probabilities` float32 [examples, classes], averaged over crops and networks; `bad`
    bool [examples], unreadable images; `class_names`.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with (
            disk.writing(path.parent),
            partial.open("wb") as file,
        ):  # savez would add .npz to another name
            np.savez_compressed(
                file,
                index=np.concatenate([batch.index for batch in predictions]).astype(np.int64),
                labels=np.concatenate([batch.labels for batch in predictions]),
                log_probabilities=np.concatenate(
                    [batch.log_probabilities[-1] for batch in predictions]
                ),
                bad=np.concatenate([batch.bad for batch in predictions]),
                class_names=np.array(class_names),
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
