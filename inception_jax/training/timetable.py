"""The timetable of a run: the config's durations and intervals, in steps."""

import dataclasses

from ml_collections import ConfigDict

from inception_jax.config import durations


@dataclasses.dataclass(frozen=True)
class Timetable:
    """Durations and intervals, in steps."""

    total: int
    warmup: int
    decay_every: int
    average_start: int
    log_every: int
    checkpoint_every: int

    def is_due(self, step: int, every: int) -> bool:
        """Tells whether something that happens every so many steps is due; at the end all is."""
        return step == self.total or step % every == 0


def make_timetable(config: ConfigDict, examples: int) -> Timetable:
    """Converts the config's durations; `examples` is the number of training examples.

    Raises:
      UsageError: one of them is not a duration.
    """

    def once(section: str, name: str) -> int:
        return durations.to_steps(
            f"{section}.{name}",
            config[section][name],
            batch_size=config.data.batch_size,
            examples=examples,
        )

    def every(section: str, name: str) -> int:
        return interval(f"{section}.{name}", config[section][name], config, examples)

    return Timetable(
        total=every("training", "total"),
        warmup=once("schedule", "warmup"),
        decay_every=every("schedule", "decay_every"),
        average_start=once("training", "average_start"),
        log_every=every("training", "log_every"),
        checkpoint_every=every("checkpoints", "every"),
    )


def interval(field: str, text: str, config: ConfigDict, examples: int) -> int:
    """Converts a duration of at least one step.

    Raises:
      UsageError: it is not a duration, or less than a step.
    """
    return durations.interval(field, text, batch_size=config.data.batch_size, examples=examples)


def not_reached(config: ConfigDict, timetable: Timetable) -> list[str]:
    """Lists what the config asks for and the run is too short for, a line each.

    Logging, evaluations and checkpoints are never among it: at the end there is one of each.
    """
    found = []
    if timetable.warmup >= timetable.total:
        found.append(
            f"schedule.warmup is {timetable.warmup:,} steps and training.total "
            f"{timetable.total:,}: the "
            "learning rate rises to the end and never reaches schedule.learning_rate"
        )
    if config.training.average_decay > 0 and timetable.average_start >= timetable.total:
        found.append(
            f"training.average_start is {timetable.average_start:,} steps and training.total "
            f"{timetable.total:,}: no step is averaged, and the averaged weights are those of the "
            "last step"
        )
    return found
