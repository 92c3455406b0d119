"""Messages about unknown names, with the nearest known one."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A message with the nearest of the known names, or all of them.

    Compares whole dotted names and their last parts: `momentun` is near optimizer.momentum.
    """
    last = {field.rpartition(".")[2]: field for field in known}
    near = difflib.get_close_matches(name, list(known), n=1) or [
        last[field] for field in difflib.get_close_matches(name.rpartition(".")[2], list(last), n=1)
    ]
    return f"unknown {what}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    )
