"""Runs checks one after the other in all processes of a job; a failed check stops no other."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inception_jax import cli
from inception_jax.errors import UserError
from inception_jax.runtime import processes
from inception_jax.tools.doctor.check_result import CheckResult, Status, merge
from inception_jax.tools.doctor.context import Context

log = logging.getLogger(__name__)


class Check(NamedTuple):
    """A check that each process makes: a row of the table."""

    name: str
    run: Callable[[Context], CheckResult | None]  # None: nothing to check in this process
    needs: tuple[str, ...] = ()  # left unchecked unless these checks went well
    given: tuple[str, ...] = ()  # left out unless all of these are in `Context.given`
    mismatch_hint: str = ""  # the remedy where processes have different facts


class Row(NamedTuple):
    """A check's merged result and the result of each process."""

    name: str
    result: CheckResult
    by_process: list[CheckResult | None]


def run_checks(checks: Sequence[Check], context: Context) -> list[Row]:
    """Runs the checks, each in all processes at the same time.

    Raises:
      UserError: a process is lost.
    """
    rows: dict[str, Row] = {}
    for check in checks:
        if context.given.issuperset(check.given):
            # The merged results decide: all processes run the same checks and wait for all others.
            failed = [
                name
                for name in check.needs
                if name in rows and rows[name].result.status in (Status.FAILED, Status.NOT_CHECKED)
            ]
            skipped = CheckResult(Status.NOT_CHECKED, f"it needs: {', '.join(failed)}")
            row = Row(check.name, skipped, []) if failed else _run(check, context)
            rows[check.name] = row
    return list(rows.values())


def _run(check: Check, context: Context) -> Row:
    here = _run_here(check, context)
    gathered = processes.gather(here and dataclasses.asdict(here))
    results = [one and CheckResult(**one | {"status": Status(one["status"])}) for one in gathered]
    return Row(check.name, merge(results, processes.hosts(), check.mismatch_hint), results)


def _run_here(check: Check, context: Context) -> CheckResult | None:
    """Runs a check in this process; an error is a result, too."""
    try:
        return check.run(context)
    except Exception as error:
        if not isinstance(error, UserError):
            level = logging.ERROR if context.debug else logging.DEBUG
            log.log(level, "traceback", exc_info=True)
        return CheckResult(Status.FAILED, cli.in_one_line(error))
