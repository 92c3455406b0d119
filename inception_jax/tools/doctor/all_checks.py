"""Runs all checks, and prints their results as a table or as JSON."""

import argparse
import collections
import threading
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from inception_jax.errors import ExitCode, UsageError, UserError
from inception_jax.runtime import console, immediate_exit, processes
from inception_jax.storage import json_files
from inception_jax.tools.doctor import data_checks, job_checks, machine_checks, workdir_checks
from inception_jax.tools.doctor.check_result import CheckResult, Status, worst
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Row, run_checks

CHECKS = machine_checks.CHECKS + job_checks.CHECKS + data_checks.CHECKS + workdir_checks.CHECKS
COLOURS = {Status.WARNING: "yellow", Status.FAILED: "bold red"}


def check(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Prints a table, or with `flags.json` one JSON object; only the primary process prints.

    Raises:
      UsageError: the processes were given other flags.
      UserError: a check failed, or a process is not there.
    """
    join(flags)
    context = Context(flags.config, overrides, flags.workdir, flags.debug)
    if sorted(context.given) != processes.broadcast_json(sorted(context.given)):
        raise UsageError("it has --config or --workdir and process 0 has not, or the reverse")
    rows = run_checks(CHECKS, context)
    if processes.is_primary() and flags.json:
        print(json_files.to_text(to_json(rows)), flush=True)
    elif processes.is_primary():
        console.stdout.print(check_table(rows))
        print(summary(rows, context), flush=True)
    processes.barrier("process 0 has printed")
    if failed := [row.name for row in rows if row.result.status == Status.FAILED]:
        raise UserError(f"failed: {', '.join(failed)}")


def join(flags: argparse.Namespace) -> None:
    """Meets the other processes; ends this one if their first sum over all devices hangs."""
    seconds = processes.SECONDS_TO_MEET + job_checks.SECONDS_FOR_A_SUM
    message = f"the processes do not come together within {seconds:.0f} s: {job_checks.HANGS}"
    timer = threading.Timer(seconds, immediate_exit.end, (message, ExitCode.ERROR))
    timer.daemon = True
    timer.start()
    try:
        processes.join(flags)
    finally:
        timer.cancel()


def to_json(rows: list[Row]) -> dict[str, Any]:
    """The object that --json prints; `processes` has the results of each process."""

    def fields(result: CheckResult) -> dict[str, str]:
        return {"verdict": result.status, "found": result.found, "remedy": result.remedy}

    checks = [
        {
            "name": row.name,
            **fields(row.result),
            "processes": [one and fields(one) for one in row.by_process],
        }
        for row in rows
    ]
    status = worst([row.result for row in rows])
    return {"verdict": status, "hosts": processes.hosts(), "checks": checks}


def check_table(rows: list[Row]) -> Table:
    """A table of all checks, for a person."""
    table = Table("check", "verdict", "found")
    for name, result, _ in rows:
        text = result.found
        if result.remedy:
            text += f"\n{'hint' if result.status == Status.OK else 'remedy'}: {result.remedy}"
        style = COLOURS.get(result.status)
        table.add_row(name, result.status, console.printable(text), style=style)
    return table


def summary(rows: list[Row], context: Context) -> str:
    """Sums up in a line: checks of each status, and the flags that would check more."""
    counts = collections.Counter(row.result.status for row in rows)
    line = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    if missing := [f"--{name}" for name in ("config", "workdir") if name not in context.given]:
        line += f"; {' and '.join(missing)} would check more"
    return line
