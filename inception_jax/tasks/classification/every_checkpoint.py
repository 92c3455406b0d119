"""Evaluates every checkpoint of a run once, also while the run goes on."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from inception_jax.checkpoints import ensemble, loaded_model, store
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import watchdog
from inception_jax.storage import workdir
from inception_jax.tasks.classification import results
from inception_jax.tasks.classification.evaluation import EvaluationSpec, SplitEvaluation

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5


def evaluate(
    run: Path,
    spec: EvaluationSpec,
    mesh: Mesh,
    *,
    weights: str | None,
    follow: bool,
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Evaluates the checkpoints of a run in the order of their steps.

    What was evaluated before, of the same checkpoint, data and protocol, is shown again from the
    run's results. A checkpoint that is damaged, or gone before it was read, is named and left out.

    Args:
      run: its folder.
      spec: what to measure.
      mesh: the devices.
      weights: average or raw; None takes the average where the run kept one.
      follow: wait for more until the last step of the run is there, good or damaged.
      show: is given each result.

    Raises:
      UserError: there is no checkpoint that could be evaluated.
    """
    folder, written = run / workdir.CHECKPOINTS, run / workdir.RESULTS
    measurement: SplitEvaluation | None = None
    shown: set[int] = set()
    left_out: set[int] = set()
    total: int | None = None  # steps of the run, as soon as a checkpoint has said it
    if follow and not store.steps(folder):
        log.info(f"waiting for checkpoints in {folder}")
    while True:
        found = store.checkpoints_in(folder)
        left_out &= set(found)  # what the run moves away, being damaged, it may write again
        new = [step for step in found if step not in shown | left_out]
        for step in new:
            try:
                model = loaded_model.load(found[step], mesh, weights, overrides=spec.overrides)
            except UsageError:
                raise
            except UserError as error:  # damaged, or the run deletes it while it is read
                log.warning(f"left out: {error}")
                left_out.add(step)
                continue
            ensemble.check_task(model, "classification")
            measurement = measurement or SplitEvaluation([model], spec, mesh)
            result = results.find(written, measurement.identity([model]))
            if result is None:
                with watchdog.watch(model.config.training.watchdog):
                    result = measurement.run([model])
                results.write(result, written)
            show(result)
            shown.add(step)
            # Checkpoints of older versions do not say how long the run is: what is there is all.
            total = model.description.get("total_steps", step)
        if not follow or total in found:
            break
        if not new:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if measurement is None:
        raise UserError(f"no good checkpoint in {folder}: train first")
