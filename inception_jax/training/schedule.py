"""The learning rate as a function of the step."""

import optax
from ml_collections import ConfigDict

from inception_jax.errors import UsageError

SCHEDULES = ("staircase", "cosine", "polynomial")


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

    Raises:
      UsageError: the name is unknown.
    """
    peak, final = schedule.learning_rate, schedule.final_learning_rate
    decay_steps = max(1, total_steps - warmup_steps)  # 1 is never reached where the warm-up is all
    match schedule.name:
        case "staircase":
            staircase = optax.exponential_decay(
                peak, decay_every_steps, schedule.decay_rate, staircase=True
            )
            after_warmup = lambda step: staircase(step + warmup_steps)  # noqa: E731
        case "cosine":
            after_warmup = optax.cosine_decay_schedule(
                peak, decay_steps, alpha=final / peak if peak else 0.0
            )
        case "polynomial":
            after_warmup = optax.polynomial_schedule(peak, final, schedule.power, decay_steps)
        case name:
            raise UsageError(f"schedule.name is {name!r}; it may be {' or '.join(SCHEDULES)}")
    if not warmup_steps:
        return after_warmup
    rise = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([rise, after_warmup], [warmup_steps])
