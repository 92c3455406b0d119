"""Metrics, log lines, evaluations and checkpoints of a run, beside its steps."""

import collections
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from inception_jax.data import unreadable_images
from inception_jax.errors import UserError
from inception_jax.models.network import Network
from inception_jax.models.traced_cost import training_multiply_adds
from inception_jax.runtime import peak_rates
from inception_jax.tasks.base import Task
from inception_jax.training.evaluations import Evaluation
from inception_jax.training.run_writer import RunWriter
from inception_jax.training.state import TrainState
from inception_jax.training.step import Metrics
from inception_jax.training.stopwatch import Stopwatch
from inception_jax.training.timetable import Timetable

log = logging.getLogger(__name__)

# Steps in flight: enough to keep the devices busy while Python reads older metrics.
DISPATCHED_AHEAD = 2


class Session:
    """Reads the metrics of finished steps, and writes metrics, evaluations and checkpoints."""

    def __init__(
        self,
        *,
        task: Task,
        source: Any,
        timetable: Timetable,
        evaluations: Sequence[Evaluation],
        writer: RunWriter | None,
        description: dict[str, Any],
        resumed: dict[str, Any],
        start: int,
        utilization: Callable[[float], dict[str, float]],
        show: Callable[..., None],
    ):
        """Starts after step `start`.

        Args:
          task: what is learned.
          source: the training split, opened.
          timetable: when things happen.
          evaluations: the first ranks checkpoints.
          writer: of the run's files; None in all processes but the primary one.
          description: what the run's checkpoints say of themselves.
          resumed: the description of the checkpoint that the run started from, or {}.
          start: finished steps.
          utilization: see `model_flops_utilization`.
          show: shows progress: see `progress.show`.
        """
        self._task, self._source, self._timetable = task, source, timetable
        self._evaluations, self._writer, self._description = evaluations, writer, description
        self._bad_images = resumed.get("bad_images", 0)
        self._saved = start
        self._utilization, self._show = utilization, show
        self._pending: collections.deque[tuple[int, Metrics]] = collections.deque()
        self.stopwatch = Stopwatch(task.config.data.batch_size, timetable.total, start)
        self.last_evaluation: dict[str, Any] = {}

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a step that has been dispatched, and finishes an older one."""
        self._pending.append((step, metrics))
        if len(self._pending) > DISPATCHED_AHEAD:
            self._finish_oldest()

    def evaluate_or_save(self, step: int, state: TrainState) -> None:
        """Makes the evaluations that are due after `step`, and saves where it is time to."""
        if self._due(step):
            self._finish_all()
            self.evaluate(step, state)
        if self._saved < step and self._timetable.is_due(step, self._timetable.checkpoint_every):
            self._finish_all()
            with self.stopwatch.paused():
                self.save(step, state)

    def save_unsaved(self, step: int, state: TrainState) -> None:
        """Saves `step` before the run stops, unless it has been: not to cost the steps so far."""
        if step > self._saved:
            self._finish_all()
            self.save(step, state, evaluation_pending=bool(self._due(step)))

    def evaluate(self, step: int, state: TrainState) -> None:
        """Makes the evaluations that are due after `step`; saves what the first has tested.

        Else the best state could be gone.
        """
        due = self._due(step)
        log.debug(f"evaluating at step {step}")
        with self.stopwatch.paused():
            for evaluation in due:
                metrics = evaluation.run(state)
                self._write(step, metrics, split=evaluation.split, evaluation=evaluation.name)
                name = f"{evaluation.name}: " if evaluation.name else ""
                log.info(
                    f"step {step}: {name}{evaluation.split} {self._task.in_words(metrics)} "
                    f"({metrics['examples']} examples)"
                )
                if not evaluation.name:
                    self.last_evaluation = metrics
            if self._evaluations[0] in due:
                self.save(step, state, self.last_evaluation[self._task.primary_metric])

    def save(self, step: int, state: TrainState, score: float | None = None, **more: Any) -> None:
        """Begins to write a checkpoint of `step`; `more` joins its description."""
        if self._writer is not None:
            described = self._description | {"bad_images": self._bad_images} | more
            self._writer.save(step, state, described, score)
        self._saved = step

    def _due(self, step: int) -> list[Evaluation]:
        return [one for one in self._evaluations if self._timetable.is_due(step, one.every)]

    def _write(self, step: int, values: dict[str, Any], **more: Any) -> None:
        if self._writer is not None:
            self._writer.write(step, values, **more)

    def _finish_all(self) -> None:
        """Reads all metrics: nothing is saved before its loss is known to be finite."""
        while self._pending:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        step, metrics = self._pending.popleft()
        values: dict[str, Any] = {
            name: value.item() for name, value in jax.device_get(metrics).items()
        }
        self._check_finite(step, values)
        self._bad_images += values["bad_images"]
        data, examples = self._task.config.data, len(self._source)
        unreadable_images.check_share(
            self._bad_images, step, data.batch_size, examples, data.max_bad_fraction
        )
        values["bad_images"] = self._bad_images  # of the run so far
        if not self._timetable.is_due(step, self._timetable.log_every):
            return
        rates = self.stopwatch.read(step)
        rates |= self._utilization(rates["images_per_second"])
        self._write(step, {"epoch": step * data.batch_size / examples, **values, **rates})
        self._show(
            step,
            f"loss {values['loss']:.4f}, {rates['images_per_second']:.0f} images/s, "
            f"{rates['input_wait']:.0%} input wait",
            self.stopwatch.seconds_left(step),
        )

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """Raises UserError if a loss, gradient or parameter is not finite after update `step`."""
        for name in ("loss", "gradient_norm", "parameter_norm"):
            if not math.isfinite(values[name]):
                examples = self._task.examples_of(step - 1, self._source).tolist()
                raise UserError(
                    f"{name} is {values[name]} at step {step}, on the training examples "
                    f"{examples}; no checkpoint has this step. Lower schedule.learning_rate, "
                    "warm it up or set optimizer.gradient_clip, in a new --workdir"
                )


def model_flops_utilization(network: Network, mesh: Mesh) -> Callable[[float], dict[str, float]]:
    """Returns a function from images per second to {"model_flops_utilization": 0..1}.

    Where the devices' peak is not known it gives {}.
    """
    peak = peak_rates.peak_flops(mesh)
    if not peak:
        return lambda _: {}
    flops_per_image = 2 * training_multiply_adds(network)
    return lambda rate: {"model_flops_utilization": rate * flops_per_image / peak}
