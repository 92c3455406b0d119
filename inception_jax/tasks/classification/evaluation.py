"""A test of one or more networks on a split: all that `evaluate` finds out about them."""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.sources import open_source
from inception_jax.runtime import progress
from inception_jax.storage import disk
from inception_jax.tasks.classification import labels, table_3
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS
from inception_jax.tasks.classification.predictor import Combination, Predictions, Predictor, tally

Result = dict[str, Any]

# Overrides that change where and how fast, but not what is measured: results do not have them.
_SAME_NUMBERS = ("data.data_dir", "data.threads", "data.batch_size")


@dataclasses.dataclass(frozen=True)
class EvaluationSpec:
    """What to measure, besides the networks."""

    split: str | None = None  # None: the first config's
    crops: int = 1  # a key of PROTOCOLS
    average: str = "probabilities"  # over crops: one of `ensemble.AVERAGES`
    table: bool = False  # fewer crops and each network alone, too: the paper's Table 3
    overrides: tuple[str, ...] = ()  # of the configs, already applied to the networks


class SplitEvaluation:
    """Opened once, for networks of these configs; `run` takes any weights of theirs."""

    def __init__(self, models: Sequence[LoadedModel], asked: EvaluationSpec, mesh: Mesh):
        """Opens the data.

        Raises:
          UserError: no data, or classes that mean something else than the networks'.
          UsageError: a config that cannot be.
        """
        first = models[0]
        data = first.config.data
        self.split = asked.split or first.config.evaluation.split
        self._asked = asked
        self._result_overrides = [
            one for one in asked.overrides if _field(one) not in _SAME_NUMBERS
        ]
        self._source = open_source(data, self.split, len(first.class_names), fewer_classes=True)
        self._labels = labels.match(data, self.split, self._source, first.class_names)
        self._predictor = Predictor(
            [(model.network, model.config) for model in models],
            mesh,
            crops=asked.crops,
            average=asked.average,
            combinations=_combinations(len(models), asked),
            allowed=self._labels.allowed,
        )

    def identity(self, models: Sequence[LoadedModel]) -> str:
        """The same for the same checkpoints, weights, data and protocol; so are the numbers."""
        known = [
            [(model.digest, model.weights) for model in models],
            self._source.fingerprint,
            [self._asked.crops, self._asked.average, self._asked.table],
            self._result_overrides,
        ]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def run(self, models: Sequence[LoadedModel], predictions: Path | None = None) -> Result:
        """Measures. `images_per_second` is from the second batch on, if there is one.

        Args:
          models: of the configs that this was opened with.
          predictions: .npz file to write: see `_save`.
        """
        names = ", ".join(str(model.checkpoint) for model in models)
        weights = [(model.params, model.batch_stats) for model in models]
        kept: list[Predictions] = []
        times = [time.perf_counter()]
        with self._predictor.predict(weights, self._source, self._labels.classes) as answers:
            batches = self._predictor.batches(len(self._source))
            shown = progress.track(answers, f"evaluating {names} on {self.split}", batches)
            tallies = tally(_noted(shown, times, kept if predictions else None), self._predictor)
        skipped = len(times) > 2  # the first batch, with start and compilation
        images = len(self._source) - skipped * self._predictor.images
        if predictions:
            _save(kept, models[0].class_names, predictions)
        summary, asked = tallies[-1].summary(), self._asked
        result = summary | {
            "crops": asked.crops,
            "average": asked.average,
            "models": len(models),
            "weights": "/".join(dict.fromkeys(model.weights for model in models)),
            "checkpoints": [str(model.checkpoint) for model in models],
            "step": models[0].step if len(models) == 1 else None,
            "split": self.split,
            "config_name": ",".join(dict.fromkeys(model.config.name for model in models)),
            "overrides": self._result_overrides,
            "digests": [model.digest for model in models],
            "data": models[0].config.data.name,
            "choices": int(self._labels.allowed.sum()),
            "data_fingerprint": self._source.fingerprint,
            "identity": self.identity(models),
            "images_per_second": images / (times[-1] - times[skipped]),
        }
        if asked.table:
            measured = [one.summary() for one in tallies]
            result["table"] = table_3.rows(self._predictor.combinations, measured)
        names_of = models[0].class_names
        result["classes"] = [
            {"name": names_of[one["label"]]} | one for one in tallies[-1].of_each_class()
        ]
        result["confusions"] = [
            {"name": names_of[one["label"]], "predicted": names_of[one["prediction"]]} | one
            for one in tallies[-1].confusions()
        ]
        return result


def _combinations(networks: int, asked: EvaluationSpec) -> list[Combination]:
    """The last one is what was asked for."""
    everything = tuple(range(networks))
    if not asked.table:
        return [Combination(everything, asked.crops)]
    chosen = [(network,) for network in everything] + [everything] * (networks > 1)
    counts = [count for count in PROTOCOLS if count <= asked.crops]
    return [Combination(some, count) for some in chosen for count in counts]


def _noted(
    predictions: Iterator[Predictions], times: list[float], kept: list[Predictions] | None
) -> Iterator[Predictions]:
    """Notes when each batch came, and keeps them if there is a list for that."""
    for batch in predictions:
        times.append(time.perf_counter())
        if kept is not None:
            of_all = batch.log_probabilities[-1:].copy()  # a table has many more
            kept.append(dataclasses.replace(batch, log_probabilities=of_all))
        yield batch


def _save(kept: list[Predictions], class_names: tuple[str, ...], path: Path) -> None:
    """Writes what was answered to each example.

    `index` int64 [examples], number in the split; `labels` bool [examples, classes];
    `log_probabilities` float32 [examples, classes], averaged as asked for; `bad` bool [examples],
    where there was no image; `class_names`.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with (
            disk.writing(path.parent),
            partial.open("wb") as file,
        ):  # savez would add .npz to another name
            np.savez_compressed(
                file,
                index=np.concatenate([batch.index for batch in kept]).astype(np.int64),
                labels=np.concatenate([batch.labels for batch in kept]),
                log_probabilities=np.concatenate([batch.log_probabilities[-1] for batch in kept]),
                bad=np.concatenate([batch.bad for batch in kept]),
                class_names=np.array(class_names),
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _field(override: str) -> str:
    return override.removeprefix("--config.").partition("=")[0]
