"""Shows the images of a source to networks, and gives their averaged answers."""

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.read_ahead import DeviceBatch
from inception_jax.data.sources import Source
from inception_jax.models.network import Network
from inception_jax.runtime.devices import replicated, split_batch
from inception_jax.tasks.classification.averaging import Combination, combine
from inception_jax.tasks.classification.crop_logits import CropBatching, make_logits
from inception_jax.tasks.classification.evaluation_batches import (
    EvaluationInput,
    evaluation_batches,
)
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS, Geometry
from inception_jax.tasks.classification.metrics import Tally
from inception_jax.tasks.classification.predictions import Predictions, read_one_behind

Weights = tuple[Any, Any]  # parameters, batch statistics


class Predictor:
    """Predicts the classes of images by one network or several; compiles once for any weights."""

    def __init__(
        self,
        networks: Sequence[tuple[Network, ConfigDict]],
        mesh: Mesh,
        *,
        crops: int = 1,
        average: str = "probabilities",
        combinations: Sequence[Combination] = (),
        allowed: np.ndarray | None = None,
    ):
        """Fixes all but the weights and the images.

        Args:
          networks: each with its config, which says how it is shown an image; of the same classes.
            Batch size (crops a call), threads and what to do about bad images are the first's.
          mesh: the devices.
          crops: a key of PROTOCOLS.
          average: over crops, "probabilities" or "max".
          combinations: what to average; all networks over all crops by default.
          allowed: bool [classes], among which to choose; all by default.
        """
        self.combinations = tuple(combinations) or (
            Combination(tuple(range(len(networks))), crops),
        )
        self.num_classes = networks[0][0].config.num_classes
        self.allowed = np.ones(self.num_classes, bool) if allowed is None else allowed
        self._config, self._mesh = networks[0][1], mesh
        self._crops = PROTOCOLS[crops]
        geometries = [Geometry.from_config(config) for _, config in networks]
        self._geometries = tuple(dict.fromkeys(geometries))
        self._shown = [self._geometries.index(geometry) for geometry in geometries]
        self._logits = [make_logits(network, config.data, mesh) for network, config in networks]
        self._batching = CropBatching.fit(
            self._config.data.batch_size, self._crops.count, mesh.size
        )

        allowed = self.allowed.reshape(1, 1, 1, -1)

        # Each process needs the predictions for all of a batch. A single process has them: its
        # devices exchange nothing, since those of one CPU, waiting for one another, would take all
        # of its threads.
        sharding = replicated(mesh) if jax.process_count() > 1 else split_batch(mesh)

        @functools.partial(jax.jit, static_argnames="keep_logits", out_shardings=sharding)
        def answer(logits, batch, *, keep_logits):
            logits = jnp.stack([jnp.concatenate(calls, axis=1) for calls in logits], axis=1)
            chosen = jnp.where(allowed, logits, -jnp.inf)
            each = [chosen[:, network] for network in range(len(networks))]
            combined = combine(each, self.combinations, crops=crops, average=average)
            return batch | {
                "log_probabilities": combined.swapaxes(0, 1),
                "logits": logits if keep_logits else None,
            }

        self._answer = answer

    @property
    def images(self) -> int:
        """Images in a batch, over all processes."""
        return self._batching.images

    def batches(self, examples: int) -> int:
        """Returns the number of batches for so many examples."""
        return math.ceil(examples / self.images)

    @contextlib.contextmanager
    def predict(
        self,
        weights: Sequence[Weights],
        source: Source,
        classes: np.ndarray,
        *,
        keep_logits: bool = False,
    ) -> Iterator[Iterator[Predictions]]:
        """Opens the predictions for all examples of a source, in order.

        Args:
          weights: of each network.
          source: the examples.
          classes: int [classes of the source], their numbers in the networks.
          keep_logits: whether to give every crop's logits, too.

        Raises:
          UnreadableImageError: an unreadable image, unless evaluation.bad_images is "wrong".
          PreemptedError: it is time to stop.
        """
        wanted = EvaluationInput(
            geometries=self._geometries,
            crops=self._crops.crops,
            classes=classes,
            num_classes=self.num_classes,
            batch_size=self.images,
            threads=self._config.data.threads,
            bad_images=self._config.evaluation.bad_images,
        )
        with evaluation_batches(source, wanted, self._mesh) as batches:
            yield read_one_behind(self._compute(weights, batch, keep_logits) for batch in batches)

    def _compute(
        self, weights: Sequence[Weights], batch: DeviceBatch, keep_logits: bool
    ) -> dict[str, Any]:
        """Starts the computation of a batch."""
        logits = [
            [
                compute(*values, batch["image"][shown], first, count=self._batching.crops)
                for first in range(0, self._crops.count, self._batching.crops)
            ]
            for compute, values, shown in zip(self._logits, weights, self._shown, strict=True)
        ]
        passed = {name: batch[name] for name in ("index", "labels", "mask", "bad")}
        return self._answer(logits, passed, keep_logits=keep_logits)


def tally(predictions: Iterable[Predictions], predictor: Predictor) -> list[Tally]:
    """Counts the predictions of each combination."""
    tallies = [Tally(int(predictor.allowed.sum())) for _ in predictor.combinations]
    for batch in predictions:
        for one, log_probabilities in zip(tallies, batch.log_probabilities, strict=True):
            one.add(log_probabilities, batch.labels, batch.bad)
    return tallies
