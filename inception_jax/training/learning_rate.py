"""The learning rate as a function of the step."""

from collections.abc import Callable
from typing import NamedTuple

import optax
from ml_collections import ConfigDict


class _Steps(NamedTuple):
    """The lengths of the parts of a schedule."""

    warmup: int
    decay: int  # after the warm-up, to the end
    interval: int  # between two decays of the staircase


def make_schedule(
    schedule: ConfigDict, *, total_steps: int, warmup_steps: int, decay_every_steps: int
) -> optax.Schedule:
    """Builds the schedule that the config names.

    staircase: times `decay_rate` at every `decay_every` (the paper's 4 % every 8 epochs).
    cosine, polynomial: from `learning_rate` after the warm-up to `final_learning_rate` at the end.
    All of them rise linearly from 0 during the warm-up; the staircase still counts from step 0.
    A run that ends during its warm-up has the same rates as a longer one, and never reaches
    `learning_rate`.

    Args:
      schedule: the config's section.
      total_steps: of the run.
      warmup_steps: 0 for no warm-up.
      decay_every_steps: of the staircase.

    Returns:
      A function of the step, from 0.
    """
    decay_steps = max(1, total_steps - warmup_steps)  # 1 is never reached where the warm-up is all
    steps = _Steps(warmup_steps, decay_steps, decay_every_steps)
    after_warmup = SCHEDULES[schedule.name](schedule, steps)
    if not warmup_steps:
        return after_warmup
    rise = optax.linear_schedule(0.0, schedule.learning_rate, warmup_steps)
    return optax.join_schedules([rise, after_warmup], [warmup_steps])


def _staircase(schedule: ConfigDict, steps: _Steps) -> optax.Schedule:
    decay = optax.exponential_decay(
        schedule.learning_rate, steps.interval, schedule.decay_rate, staircase=True
    )
    return lambda step: decay(step + steps.warmup)


def _cosine(schedule: ConfigDict, steps: _Steps) -> optax.Schedule:
    peak, final = schedule.learning_rate, schedule.final_learning_rate
    return optax.cosine_decay_schedule(peak, steps.decay, alpha=final / peak if peak else 0.0)


def _polynomial(schedule: ConfigDict, steps: _Steps) -> optax.Schedule:
    return optax.polynomial_schedule(
        schedule.learning_rate, schedule.final_learning_rate, schedule.power, steps.decay
    )


# The choices of `schedule.name`; each counts its steps from the end of the warm-up.
SCHEDULES: dict[str, Callable[[ConfigDict, _Steps], optax.Schedule]] = {
    "staircase": _staircase,
    "cosine": _cosine,
    "polynomial": _polynomial,
}
