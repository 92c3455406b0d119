"""The predictions for a batch of images, and how they are read from the devices."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from inception_jax.tasks.base import between_batches


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The answers to a batch of examples, on the host; padding is left out."""

    index: np.ndarray  # int64 [examples], number in the split
    labels: np.ndarray  # bool [examples, classes]
    bad: np.ndarray  # bool [examples]: there was no image
    log_probabilities: np.ndarray  # float32 [combinations, examples, classes]
    logits: np.ndarray | None  # float32 [examples, networks, crops, classes], where asked for


def read_one_behind(batches: Iterator[dict[str, Any]]) -> Iterator[Predictions]:
    """Computes one batch while the predictions of the one before are read."""
    ahead = None
    for batch in batches:
        between_batches()
        if ahead is not None:
            yield _to_host(ahead)
        ahead = batch
    if ahead is not None:
        yield _to_host(ahead)


def _to_host(batch: dict[str, Any]) -> Predictions:
    batch = jax.device_get(batch)
    here = batch["mask"]
    return Predictions(
        index=batch["index"][here],
        labels=batch["labels"][here],
        bad=batch["bad"][here],
        log_probabilities=batch["log_probabilities"][here].swapaxes(0, 1),
        logits=None if batch["logits"] is None else batch["logits"][here],
    )
