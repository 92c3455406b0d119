"""The declaration of a config field: everything that is known of it, in one place."""

import dataclasses
from typing import Any

from inception_jax.config.rules import Anything, Between, OneOf, Rule

NOTHING: Any = object()  # stands for a default, a legacy value or an open value that is not there


@dataclasses.dataclass(frozen=True)
class Option:
    """A field of a section, as `option` declares it."""

    default: Any
    reason: str
    rule: Rule
    unit: str
    source: str
    legacy: Any
    left_open: Any
    resume_safe: bool
    path: bool

    @property
    def types(self) -> tuple[type, ...]:
        """The types that a value may have; a whole number serves for a float."""
        kind = type(self.default)
        return (float, int) if kind is float else (kind,)

    def error(self, value: Any) -> str:
        """Reason against a value, as the end of "FIELD is VALUE; it ..."; empty for one allowed."""
        if type(value) not in self.types:
            return f"takes {' or '.join(kind.__name__ for kind in self.types)}"
        return "" if self.rule.allows(value) else f"may be {self.rule}"


def option(
    default: Any,
    reason: str,
    *,
    unit: str = "",
    range: tuple[float, float] | None = None,
    choices: tuple[Any, ...] | None = None,
    check: Rule | None = None,
    source: str = "",
    legacy: Any = NOTHING,
    left_open: Any = NOTHING,
    resume_safe: bool = False,
    path: bool = False,
) -> Any:
    """Declares a field of a section: a frozen dataclass whose fields are all declared so.

    Args:
      default: the value, of the field's type; the paper's, where the paper has one.
      reason: one line: what the field is, and what its values mean.
      unit: of the value, such as "pixels".
      range: (least, most), both allowed. A float is always finite.
      choices: all values that are allowed.
      check: another rule of `inception_jax.config.rules`.
      source: where the default comes from.
      legacy: what versions without the field did; a config of such a version is completed with it.
      left_open: the value for which `resolve` puts another one.
      resume_safe: True if it does not change what a step computes: it may differ when a run goes
        on.
      path: True for a path on this machine; it may be empty if the default is.
    """
    rule = check or (OneOf(choices) if choices else Between(*range) if range else None)
    if rule is None:
        rule = Between() if isinstance(default, float) else Anything()
    declared = Option(default, reason, rule, unit, source, legacy, left_open, resume_safe, path)
    return dataclasses.field(default=default, metadata={"option": declared})


def options(section: type) -> dict[str, Option]:
    """The declarations of a section, by the names of its fields."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(section)}
