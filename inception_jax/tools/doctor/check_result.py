"""The result of a check: of one process, and merged over all of them."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

MOST_NAMED = 8  # processes, hosts and differences in one line


class Status(enum.StrEnum):
    """The outcome of a check; each is worse than the one before it."""

    OK = "ok"
    NOT_CHECKED = "not checked"
    WARNING = "warning"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The result of a check, for a person, and the remedy.

    `facts`, JSON by name, must be the same in all processes.
    """

    status: Status
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def worst(results: Sequence[CheckResult]) -> Status:
    """The worst status; ok if there are no results."""
    return max((one.status for one in results), key=list(Status).index, default=Status.OK)


def merge(
    results: Sequence[CheckResult | None], hosts: Sequence[str], mismatch_hint: str = ""
) -> CheckResult:
    """Merges the results of all processes into one, which names the processes that it is about.

    Args:
      results: one for each process; None where a process had nothing to check.
      hosts: the name of each process's host.
      mismatch_hint: the remedy where a process has other facts than process 0, which fails.
    """
    present = {index: result for index, result in enumerate(results) if result}
    if not present:
        return CheckResult(Status.OK, "nothing to check")
    first = next(iter(present.values()))
    present = {index: _compare(one, first, mismatch_hint) for index, one in present.items()}
    status = worst(list(present.values()))
    chosen = {index: one for index, one in present.items() if one.status == status}
    groups: dict[str, list[int]] = {}
    for index, result in chosen.items():
        groups.setdefault(result.found, []).append(index)
    named = [f"{_name(indices, hosts)}: {found}" for found, indices in groups.items()]
    all_alike = len(groups) == 1 and len(chosen) == len(present)
    remedies = dict.fromkeys(result.remedy for result in chosen.values() if result.remedy)
    found = first.found if all_alike else "; ".join(named)
    return CheckResult(status, found, "; ".join(remedies), first.facts)


def _compare(result: CheckResult, first: CheckResult, mismatch_hint: str) -> CheckResult:
    """Fails a result whose facts are not those of process 0."""
    if Status.FAILED in (result.status, first.status) or result.facts == first.facts:
        return result
    pairs = {
        name: (result.facts.get(name), first.facts.get(name))
        for name in {**first.facts, **result.facts}
    }
    differences = [
        f"{name} ({_short(here)}, not {_short(there)})"
        for name, (here, there) in pairs.items()
        if here != there
    ]
    found = f"differs from process 0 in {_some(differences)}"
    return CheckResult(Status.FAILED, found, mismatch_hint)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


def _name(indices: Sequence[int], hosts: Sequence[str]) -> str:
    places = list(dict.fromkeys(hosts[index] for index in indices))
    noun = "process" if len(indices) == 1 else "processes"
    return f"{noun} {_some(list(map(str, indices)))} on {_some(places)}"


def _some(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_NAMED
    return ", ".join(parts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
