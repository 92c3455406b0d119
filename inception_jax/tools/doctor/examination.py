"""Checks, one after the other, in all processes of a job; none ends the others."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from inception_jax import cli
from inception_jax.errors import UserError
from inception_jax.runtime import processes
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict, joint

log = logging.getLogger(__name__)


class Check(NamedTuple):
    """A row of the table: one thing that is looked at in each process."""

    name: str
    look: Callable[[Subject], Finding | None]  # None: nothing to look at in this process
    needs: tuple[str, ...] = ()  # checks without which this one means nothing
    given: tuple[str, ...] = ()  # of `Subject.given`: else the check is left out
    alike: str = ""  # what to do where processes differ


class Row(NamedTuple):
    """A check that was made."""

    name: str
    finding: Finding
    by_process: list[Finding | None]


def examine(checks: Sequence[Check], subject: Subject) -> Iterator[Row]:
    """Makes the checks in all processes, which go through them side by side.

    Raises:
      UserError: a process is lost.
    """
    verdicts: dict[str, Verdict] = {}
    for check in checks:
        if not subject.given.issuperset(check.given):
            continue
        # The same in all processes: what follows may wait for all of them.
        missing = [
            name
            for name in check.needs
            if verdicts.get(name) in (Verdict.FAILED, Verdict.NOT_CHECKED)
        ]
        if missing:
            found = Finding(Verdict.NOT_CHECKED, f"it needs: {', '.join(missing)}")
            row = Row(check.name, found, [])
        else:
            row = _made(check, subject)
        verdicts[check.name] = row.finding.verdict
        yield row


def _made(check: Check, subject: Subject) -> Row:
    here = _look(check, subject)
    told: list[Any] = processes.gather(here and dataclasses.asdict(here))
    findings = [Finding.from_dict(one) for one in told]
    return Row(check.name, joint(findings, processes.hosts(), check.alike), findings)


def _look(check: Check, subject: Subject) -> Finding | None:
    """What one process finds; an error is a finding, too."""
    try:
        return check.look(subject)
    except Exception as error:
        if not isinstance(error, UserError):
            level = logging.ERROR if subject.debug else logging.DEBUG
            log.log(level, "traceback", exc_info=True)
        return Finding(Verdict.FAILED, cli.in_one_line(error))
