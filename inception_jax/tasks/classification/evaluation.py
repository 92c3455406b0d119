"""Tests one network or an ensemble on a split, as the command `evaluate` does."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from inception_jax.checkpoints.loaded_model import LoadedModel
from inception_jax.data.sources import open_source
from inception_jax.runtime import progress
from inception_jax.tasks.classification import labels, predictions_file, table_3
from inception_jax.tasks.classification.averaging import Combination
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS
from inception_jax.tasks.classification.predictions import Predictions
from inception_jax.tasks.classification.predictor import Predictor, tally

Result = dict[str, Any]

# Overrides that change where and how fast, but not what is measured: results do not have them.
_SAME_NUMBERS = ("data.data_dir", "data.threads", "data.batch_size")


# Raised by whoever changes what an evaluation of the same checkpoint, data and settings gives:
# results of older versions are then measured again.
PROTOCOL_VERSION = 1


@dataclasses.dataclass(frozen=True)
class EvaluationSpec:
    """The settings of an evaluation, besides the networks."""

    split: str | None = None  # None: the first config's
    crops: int | None = None  # a key of PROTOCOLS; None: the first config's
    average: str = "probabilities"  # over crops: one of `crop_options.AVERAGES`
    table: bool = False  # fewer crops and each network alone, too: the paper's Table 3
    overrides: tuple[str, ...] = ()  # of the configs, already applied to the networks


class SplitEvaluation:
    """An evaluation on one split, opened once; `run` takes any weights of the same networks."""

    def __init__(self, models: Sequence[LoadedModel], spec: EvaluationSpec, mesh: Mesh):
        """Opens the data.

        Raises:
          UserError: no data, or classes that mean something else than the networks'.
          UsageError: a config that cannot be.
        """
        first = models[0]
        data = first.config.data
        evaluation = first.config.evaluation
        self._spec = spec
        self._split: str = spec.split or evaluation.split
        self._crops: int = spec.crops or evaluation.crops
        self._result_overrides = [one for one in spec.overrides if _field(one) not in _SAME_NUMBERS]
        self._source = open_source(data, self._split, len(first.class_names), fewer_classes=True)
        self._labels = labels.match(data, self._split, self._source, first.class_names)
        self._predictor = Predictor(
            [(model.network, model.config) for model in models],
            mesh,
            crops=self._crops,
            average=spec.average,
            combinations=_combinations(len(models), self._crops, table=spec.table),
            allowed=self._labels.allowed,
        )

    def identity(self, models: Sequence[LoadedModel]) -> str:
        """Returns a hash: equal for the same checkpoints, weights, data, settings and protocol."""
        known = [
            [(model.digest, model.weights) for model in models],
            self._source.fingerprint,
            [self._crops, self._spec.average, self._spec.table],
            self._result_overrides,
            # Results of before have no version: theirs was 1.
            *([PROTOCOL_VERSION] if PROTOCOL_VERSION > 1 else []),
        ]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def run(self, models: Sequence[LoadedModel], predictions: Path | None = None) -> Result:
        """Tests the weights; `images_per_second` is from the second batch on, if there is one.

        Args:
          models: of the configs that this was opened with.
          predictions: .npz file to write: see `predictions_file.write`.
        """
        names = ", ".join(str(model.checkpoint) for model in models)
        weights = [(model.params, model.batch_stats) for model in models]
        kept: list[Predictions] = []
        times = [time.perf_counter()]
        with self._predictor.predict(weights, self._source, self._labels.classes) as answers:
            batches = self._predictor.batches(len(self._source))
            shown = progress.track(answers, f"evaluating {names} on {self._split}", batches)
            tallies = tally(_noted(shown, times, kept if predictions else None), self._predictor)
        skipped = len(times) > 2  # the first batch, with start and compilation
        images = len(self._source) - skipped * self._predictor.images
        if predictions:
            predictions_file.write(kept, models[0].class_names, predictions)
        summary, spec = tallies[-1].summary(), self._spec
        result = summary | {
            "crops": self._crops,
            "average": spec.average,
            "models": len(models),
            "weights": "/".join(dict.fromkeys(model.weights for model in models)),
            "checkpoints": [str(model.checkpoint) for model in models],
            "step": models[0].step if len(models) == 1 else None,
            "split": self._split,
            "config_name": ",".join(dict.fromkeys(model.config.name for model in models)),
            "overrides": self._result_overrides,
            "digests": [model.digest for model in models],
            "data": models[0].config.data.name,
            "choices": int(self._labels.allowed.sum()),
            "data_fingerprint": self._source.fingerprint,
            "identity": self.identity(models),
            "images_per_second": images / (times[-1] - times[skipped]),
        }
        if spec.table:
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


def _combinations(networks: int, crops: int, *, table: bool) -> list[Combination]:
    """Lists which networks over how many crops; the last one is what was asked for."""
    everything = tuple(range(networks))
    if not table:
        return [Combination(everything, crops)]
    chosen = [(network,) for network in everything] + [everything] * (networks > 1)
    counts = [count for count in PROTOCOLS if count <= crops]
    return [Combination(some, count) for some in chosen for count in counts]


def _noted(
    predictions: Iterator[Predictions], times: list[float], kept: list[Predictions] | None
) -> Iterator[Predictions]:
    """Notes the time of each batch, and keeps the batches if there is a list for them."""
    for batch in predictions:
        times.append(time.perf_counter())
        if kept is not None:
            of_all = batch.log_probabilities[-1:].copy()  # a table has many more
            kept.append(dataclasses.replace(batch, log_probabilities=of_all))
        yield batch


def _field(override: str) -> str:
    return override.removeprefix("--config.").partition("=")[0]
