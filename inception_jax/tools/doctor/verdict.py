"""What a check finds: in one process, and in all of them together."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

MOST_NAMED = 8  # processes and differences in one line


class Verdict(enum.StrEnum):
    """How good it is; the worse, the later."""

    OK = "ok"
    NOT_CHECKED = "not checked"
    WARNING = "warning"
    FAILED = "failed"


_BADNESS = list(Verdict)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found, for a person, and what to do about it.

    `facts`, JSON by name, is what all processes have to have in common.
    """

    verdict: Verdict
    found: str
    remedy: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> "Finding | None":
        """The inverse of `dataclasses.asdict`."""
        return cls(**values | {"verdict": Verdict(values["verdict"])}) if values else None


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of them; ok if there are none."""
    return max(verdicts, key=_BADNESS.index, default=Verdict.OK)


def joint(findings: Sequence[Finding | None], hosts: Sequence[str], alike: str = "") -> Finding:
    """One finding for all processes, which names those that it is about.

    Args:
      findings: one a process; None where there was nothing to look at.
      hosts: names, one a process.
      alike: what to do where a process has other facts than process 0, which fails.
    """
    said = {index: finding for index, finding in enumerate(findings) if finding}
    if not said:
        return Finding(Verdict.OK, "nothing to look at")
    first = next(iter(said.values()))
    said = {index: _compared(finding, first, alike) for index, finding in said.items()}
    verdict = worst([finding.verdict for finding in said.values()])
    groups: dict[str, list[int]] = {}
    for index, finding in said.items():
        if finding.verdict == verdict:
            groups.setdefault(finding.found, []).append(index)
    chosen = [said[indices[0]] for indices in groups.values()]
    if len(groups[chosen[0].found]) == len(said):
        found = chosen[0].found
    else:
        found = "; ".join(f"{_name(who, hosts)}: {what}" for what, who in groups.items())
    remedies = dict.fromkeys(finding.remedy for finding in chosen if finding.remedy)
    return Finding(verdict, found, "; ".join(remedies), first.facts)


def _compared(finding: Finding, first: Finding, alike: str) -> Finding:
    if Verdict.FAILED in (finding.verdict, first.verdict) or finding.facts == first.facts:
        return finding
    names = [
        name
        for name in {**first.facts, **finding.facts}
        if first.facts.get(name) != finding.facts.get(name)
    ]
    differences = [
        f"{name} ({_short(finding.facts.get(name))}, not {_short(first.facts.get(name))})"
        for name in names
    ]
    return Finding(Verdict.FAILED, f"differs from process 0 in {_some(differences)}", alike)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


def _name(indices: Sequence[int], hosts: Sequence[str]) -> str:
    places = dict.fromkeys(hosts[index] for index in indices)
    noun = "process" if len(indices) == 1 else "processes"
    return f"{noun} {_some(list(map(str, indices)))} on {_some(list(places))}"


def _some(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_NAMED
    return ", ".join(parts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
