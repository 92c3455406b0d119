"""How networks are tested: over crops of an image, and over networks, probabilities are averaged.

The paper's section 7: "The softmax probabilities are averaged over multiple crops and over all the
individual classifiers to obtain the final prediction."
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from inception_jax.data.normalization import normalize
from inception_jax.data.read_ahead import DeviceBatch
from inception_jax.data.sources import Source
from inception_jax.models.network import Network
from inception_jax.runtime import preemption, watchdog
from inception_jax.runtime.devices import compiler_options, replicated, split_batch
from inception_jax.tasks.classification.evaluation_batches import (
    EvaluationInput,
    evaluation_batches,
)
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS, Geometry
from inception_jax.tasks.classification.metrics import Tally

# Least share of a batch that crops must fill; the fewer images they are of, the less memory.
_FILLED = 0.9

Weights = tuple[Any, Any]  # parameters, batch statistics


class Combination(NamedTuple):
    """A way to answer: which of the networks, and over how many crops."""

    networks: tuple[int, ...]
    crops: int  # 1 | 10 | 144


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of a batch of examples, on the host; those that only fill it up are left out."""

    index: np.ndarray  # int64 [examples], number in the split
    labels: np.ndarray  # bool [examples, classes]
    bad: np.ndarray  # bool [examples]: there was no image
    log_probabilities: np.ndarray  # float32 [combinations, examples, classes]
    logits: np.ndarray | None  # float32 [examples, networks, crops, classes], where asked for


@dataclasses.dataclass(frozen=True)
class CropBatching:
    """How the crops of images are dealt out to batches: all of these numbers are global."""

    images: int  # in a batch that is read
    crops: int  # of each of these images that one call of the network sees

    @classmethod
    def fit(cls, batch_size: int, crops: int, devices: int) -> "CropBatching":
        """The most crops of an image at a time, so that they fill nine tenths of a batch."""
        batch_size = math.ceil(batch_size / devices) * devices
        for count in (n for n in range(crops, 0, -1) if crops % n == 0):
            images = batch_size // count // devices * devices
            if images * count >= _FILLED * batch_size:
                break
        return cls(images, count)


def make_logits(network: Network, data: ConfigDict, mesh: Mesh) -> Callable[..., jax.Array]:
    """Returns the jitted `logits(params, batch_stats, images, first, count)`.

    It takes uint8 images [images, crops, size, size, 3] and gives the float32 logits [images,
    count, classes] of `count` crops from number `first` on; numbers from `crops` on are their
    mirror images.
    """

    @functools.partial(
        jax.jit,
        static_argnames="count",
        out_shardings=split_batch(mesh),
        compiler_options=compiler_options(mesh),
    )
    def logits(params, batch_stats, images, first, *, count):
        numbers = first + jnp.arange(count)
        chosen = jnp.take(images, numbers % images.shape[1], axis=1)
        mirrored = (numbers >= images.shape[1]).reshape(1, count, 1, 1, 1)
        chosen = jnp.where(mirrored, chosen[..., ::-1, :], chosen)
        flat = normalize(chosen.reshape(-1, *chosen.shape[2:]), data.mean, data.std)
        outputs, _ = network.apply(params, batch_stats, flat, train=False)
        return outputs.logits.reshape(*chosen.shape[:2], -1)

    return logits


def combine(
    logits: Sequence[jax.Array], combinations: Sequence[Combination], *, crops: int, average: str
) -> jax.Array:
    """Log-probabilities of each combination, float32 [combinations, images, classes].

    Args:
      logits: of each network, [images, crops, classes]; -inf for what cannot be chosen.
      combinations: which of them to average.
      crops: a key of PROTOCOLS, the one that `logits` are of.
      average: over crops: the mean of the probabilities, or their max (divided by their sum).
    """
    log_probabilities = [jax.nn.log_softmax(one) for one in logits]

    def over_crops(one: jax.Array, count: int) -> jax.Array:
        chosen = one[:, np.array(PROTOCOLS[crops].indices_of(PROTOCOLS[count]))]
        if average == "max":
            return jnp.max(chosen, axis=1)
        return jax.nn.logsumexp(chosen, axis=1) - math.log(chosen.shape[1])

    def answer(combination: Combination) -> jax.Array:
        each = [over_crops(log_probabilities[n], combination.crops) for n in combination.networks]
        mean = jax.nn.logsumexp(jnp.stack(each), axis=0) - math.log(len(each))
        return jax.nn.log_softmax(mean) if average == "max" else mean

    return jnp.stack([answer(combination) for combination in combinations])


class Predictor:
    """Shows the images of a source to networks. Compiles once, whatever the weights."""

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
        """Fixes what is asked, but for the weights.

        Args:
          networks: each with its config, which says how it is shown an image; of the same classes.
            Batch size (crops a call), threads and what to do about bad images are the first's.
          mesh: the devices.
          crops: a key of PROTOCOLS.
          average: over crops, "probabilities" or "max".
          combinations: what to answer; all networks over all crops by default.
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
        self._share = CropBatching.fit(self._config.data.batch_size, self._crops.count, mesh.size)

        allowed = self.allowed.reshape(1, 1, 1, -1)

        # Each process needs the answers to all of a batch. One alone has them: its devices exchange
        # nothing, since those of one CPU, waiting for one another, would take all of its threads.
        lie = replicated(mesh) if jax.process_count() > 1 else split_batch(mesh)

        @functools.partial(jax.jit, static_argnames="keep_logits", out_shardings=lie)
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
        """In a batch."""
        return self._share.images

    def batches(self, examples: int) -> int:
        """How many batches of answers there are to so many examples."""
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
        """Opens the answers to all examples of a source, in order.

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
            yield _one_behind(self._compute(weights, batch, keep_logits) for batch in batches)

    def _compute(
        self, weights: Sequence[Weights], batch: DeviceBatch, keep_logits: bool
    ) -> dict[str, Any]:
        """Starts the computation of a batch."""
        logits = [
            [
                compute(*values, batch["image"][shown], first, count=self._share.crops)
                for first in range(0, self._crops.count, self._share.crops)
            ]
            for compute, values, shown in zip(self._logits, weights, self._shown, strict=True)
        ]
        passed = {name: batch[name] for name in ("index", "labels", "mask", "bad")}
        return self._answer(logits, passed, keep_logits=keep_logits)


def _one_behind(batches: Iterator[dict[str, Any]]) -> Iterator[Predictions]:
    """One batch computes while the answers of the one before are read."""
    ahead = None
    for batch in batches:
        watchdog.beat()
        preemption.check()
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


def tally(predictions: Iterable[Predictions], predictor: Predictor) -> list[Tally]:
    """Counts the answers of each combination."""
    tallies = [Tally(int(predictor.allowed.sum())) for _ in predictor.combinations]
    for batch in predictions:
        for one, log_probabilities in zip(tallies, batch.log_probabilities, strict=True):
            one.add(log_probabilities, batch.labels, batch.bad)
    return tallies
