"""Durations as text ("60 steps", "8 epochs", "1000000 examples"), counted in steps."""

import math
import re

from inception_jax.errors import UsageError

EXAMPLES = "a duration like '60 steps', '8 epochs' or '1000000 examples'"

_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*(step|epoch|example)s?\s*")


def is_duration(text: str) -> bool:
    """True for a number and one of step(s), epoch(s), example(s)."""
    return _PATTERN.fullmatch(text) is not None


def to_steps(field: str, text: str, *, batch_size: int, examples: int) -> int:
    """Converts a duration to steps, rounded up.

    Args:
      field: name of the config field, for the message.
      text: a number and one of step(s), epoch(s), example(s).
      batch_size: examples a step.
      examples: examples an epoch.

    Raises:
      UsageError: anything else.
    """
    match = _PATTERN.fullmatch(str(text))
    if match is None:
        raise UsageError(f"{field} is {text!r}; it may be {EXAMPLES}")
    steps = (
        float(match[1])
        * {"step": 1, "epoch": examples / batch_size, "example": 1 / batch_size}[match[2]]
    )
    return math.ceil(round(steps, 6))  # 3 x (1 / 3) is one step, not two


def interval(field: str, text: str, *, batch_size: int, examples: int) -> int:
    """Converts the duration between two events to steps: at least one.

    Raises:
      UsageError: not a duration, or less than one step.
    """
    steps = to_steps(field, text, batch_size=batch_size, examples=examples)
    if steps < 1:
        raise UsageError(f"{field} is {text!r}; it must be at least one step")
    return steps
