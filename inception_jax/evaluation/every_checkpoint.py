"""Every checkpoint of a run, each evaluated once, also while the run goes on."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from inception_jax import workdir
from inception_jax.checkpoints import store
from inception_jax.errors import UsageError, UserError
from inception_jax.evaluation import results, trained
from inception_jax.evaluation.measurement import Asked, Measurement

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5


def evaluate(
    run: Path,
    asked: Asked,
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
      asked: what to measure.
      mesh: the devices.
      weights: average or raw; None takes the average where the run kept one.
      follow: wait for more until the last step of the run is there.
      show: is given each result.

    Raises:
      UserError: there is no checkpoint that could be evaluated.
    """
    folder, written = run / workdir.CHECKPOINTS, run / workdir.RESULTS
    measurement: Measurement | None = None
    seen: set[int] = set()
    finished = False
    while not finished:
        new = [step for step in store.steps(folder) if step not in seen]
        for step in new:
            seen.add(step)
            try:
                model = trained.load(folder / str(step), mesh, weights, overrides=asked.overrides)
            except UsageError:
                raise
            except (UserError, OSError) as error:  # damaged, or the run has deleted it
                log.warning(f"left out: {error}")
                continue
            measurement = measurement or Measurement([model], asked, mesh)
            result = results.find(written, measurement.identity([model]))
            if result is None:
                result = measurement.run([model])
                results.write(result, written)
            show(result)
            # Checkpoints of older versions do not say how long the run is.
            finished = step >= model.description.get("total_steps", 0)
        if not follow:
            break
        if not new:
            if not seen:
                log.info(f"waiting for checkpoints in {folder}")
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if measurement is None:
        raise UserError(f"no good checkpoint in {folder}: train first")
