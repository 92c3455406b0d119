"""Rules for the values of config fields: each kind allows a value or not, and says what it allows.

The text of a rule ends the sentence "model.norm is 'layer'; it may be ...".
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

from inception_jax.config import durations


class Rule(Protocol):
    """The base class of rules."""

    def allows(self, value: Any) -> bool:
        """Checks a value that has the field's type."""
        ...


@dataclasses.dataclass(frozen=True)
class Anything:
    """Allows every value of the field's type."""

    def allows(self, value: Any) -> bool:
        """True."""
        return True

    def __str__(self):
        return "anything"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Allows a few values."""

    choices: tuple[Any, ...]

    def allows(self, value: Any) -> bool:
        """True for the choices."""
        return value in self.choices

    def __str__(self):
        return " or ".join(map(repr, self.choices))


@dataclasses.dataclass(frozen=True)
class SomeOf:
    """A tuple of choices."""

    choices: tuple[str, ...]
    empty: bool = False  # True: may be ()

    def allows(self, value: tuple) -> bool:
        """True for a tuple of choices alone."""
        return all(item in self.choices for item in value) and (self.empty or bool(value))

    def __str__(self):
        return f"{'any' if self.empty else 'one or more'} of {', '.join(map(repr, self.choices))}"


@dataclasses.dataclass(frozen=True)
class Between:
    """A finite number in a range."""

    least: float = -math.inf
    most: float = math.inf
    least_excluded: bool = False
    most_excluded: bool = False

    def allows(self, value: Any) -> bool:
        """True for a finite number in the range."""
        if not _is_finite(value):
            return False
        above = self.least < value if self.least_excluded else self.least <= value
        return above and (value < self.most if self.most_excluded else value <= self.most)

    def __str__(self):
        if self == Between():
            return "any finite number"
        bounded = self.most < math.inf
        if self.least_excluded:
            return f"above {self.least}" + (f" and at most {self.most}" if bounded else "")
        if not bounded:
            return f"from {self.least} up"
        return f"from {self.least} to {'less than ' if self.most_excluded else ''}{self.most}"


@dataclasses.dataclass(frozen=True)
class Interval:
    """(least, most), both in a range."""

    bounds: Between

    def allows(self, value: tuple) -> bool:
        """True for two numbers in the range, the smaller one first."""
        return len(value) == 2 and all(map(self.bounds.allows, value)) and value[0] <= value[1]

    def __str__(self):
        return f"(least, most), {self.bounds}"


@dataclasses.dataclass(frozen=True)
class Colour:
    """Three numbers, for red, green and blue."""

    bounds: Between = Between()

    def allows(self, value: tuple) -> bool:
        """True for three numbers in the range."""
        return len(value) == 3 and all(map(self.bounds.allows, value))

    def __str__(self):
        return f"three numbers for R, G and B, each {self.bounds}"


@dataclasses.dataclass(frozen=True)
class Duration:
    """A duration as text; its number of steps is checked where the data is known."""

    def allows(self, value: str) -> bool:
        """True for what `durations.to_steps` reads."""
        return durations.is_duration(value)

    def __str__(self):
        return durations.EXAMPLES


@dataclasses.dataclass(frozen=True)
class LayerFactors:
    """Pairs of the beginning of a layer's name and a number."""

    def allows(self, value: Sequence[Any]) -> bool:
        """True for (("conv1", 0.1), ...), no number negative; () too."""
        return all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and Between(0).allows(pair[1])
            for pair in value
        )

    def __str__(self):
        return "pairs like ('conv1', 0.1), the numbers from 0 up"


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)
