"""Decides what happens to unreadable images: in training others stand in for a few of them."""

import functools
import logging
from collections.abc import Iterator

from inception_jax.data.sources import Example, Source
from inception_jax.errors import UserError

log = logging.getLogger(__name__)

# The largest distance, in examples, between an unreadable image and the one that stands in for it.
MAX_DISTANCE = 100


def stand_ins(source: Source, index: int) -> Iterator[Example]:
    """Yields the examples that may stand in for example `index`: those that follow it."""
    for distance in range(1, MAX_DISTANCE + 1):
        yield source.read([(index + distance) % len(source)])[0]


def check_share(unreadable: int, step: int, batch_size: int, examples: int, most: float) -> None:
    """Raises UserError when more than the share `most` of the images were unreadable.

    Args:
      unreadable: images of the run so far.
      step: finished steps.
      batch_size: images of a step.
      examples: images of an epoch; in the first epoch the share is of all of them.
      most: `data.max_bad_fraction`.
    """
    images = max(step * batch_size, examples)
    if unreadable > most * images:
        raise UserError(
            f"{unreadable} unreadable training images up to step {step}, more than "
            f"data.max_bad_fraction={most} of {images}: they are named "
            "above and in the log; delete the prepared data, mend or remove them and prepare "
            "again, or allow more"
        )


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning the first time that it is given."""
    log.warning(message)
