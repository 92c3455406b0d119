"""Makes all checks, and shows what they found."""

import argparse
import collections
import dataclasses
import threading
from collections.abc import Sequence

from rich.table import Table

from inception_jax.errors import ExitCode, UsageError, UserError
from inception_jax.runtime import console, processes, sudden_end
from inception_jax.storage import json_files
from inception_jax.tools.doctor import data_checks, job_checks, machine_checks, workdir_checks
from inception_jax.tools.doctor.examination import Row, examine
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict, worst

CHECKS = machine_checks.CHECKS + job_checks.CHECKS + data_checks.CHECKS + workdir_checks.CHECKS
COLOURS = {Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def check(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Prints a table, or with --json one JSON object; of several processes the first does.

    Raises:
      UsageError: the processes were given other flags.
      UserError: a check failed, or a process is not there.
    """
    join(flags)
    subject = Subject(flags.config, overrides, flags.workdir, flags.debug)
    if sorted(subject.given) != processes.broadcast_json(sorted(subject.given)):
        raise UsageError("it has --config or --workdir and process 0 has not, or the reverse")
    rows = list(examine(CHECKS, subject))
    if processes.is_primary() and flags.json:
        print(json_files.to_text(as_dict(rows)), flush=True)
    elif processes.is_primary():
        console.stdout.print(as_table(rows))
        print(summary(rows, subject), flush=True)
    processes.barrier("process 0 has told")
    if failed := [row.name for row in rows if row.finding.verdict == Verdict.FAILED]:
        raise UserError(f"failed: {', '.join(failed)}")


def join(flags: argparse.Namespace) -> None:
    """Meets the others, with an end where their first sum over all devices hangs."""
    seconds = processes.SECONDS_TO_MEET + job_checks.SECONDS_FOR_A_SUM
    said = f"the processes do not come together within {seconds:.0f} s: {job_checks.STUCK}"
    timer = threading.Timer(seconds, sudden_end.end, (said, ExitCode.ERROR))
    timer.daemon = True
    timer.start()
    try:
        processes.join(flags)
    finally:
        timer.cancel()


def as_dict(rows: list[Row]) -> dict:
    """JSON; the findings of each process are given where there are several."""
    checks = [
        {
            "name": row.name,
            **told(row.finding),
            "processes": [one and told(one) for one in row.by_process],
        }
        for row in rows
    ]
    verdict = worst([row.finding.verdict for row in rows])
    return {"verdict": verdict, "hosts": processes.hosts(), "checks": checks}


def told(finding: Finding) -> dict:
    """Leaves out what only the comparison of processes needs."""
    values = dataclasses.asdict(finding)
    del values["facts"]
    return values


def as_table(rows: list[Row]) -> Table:
    """A table of all checks, for a person."""
    table = Table("check", "verdict", "found")
    for row in rows:
        finding = row.finding
        said = finding.found
        if finding.remedy:
            said += f"\n{'hint' if finding.verdict == Verdict.OK else 'remedy'}: {finding.remedy}"
        table.add_row(
            row.name, finding.verdict, console.printable(said), style=COLOURS.get(finding.verdict)
        )
    return table


def summary(rows: list[Row], subject: Subject) -> str:
    """One line: how many of which verdict, and what was not asked for."""
    counts = collections.Counter(row.finding.verdict for row in rows)
    line = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    if missing := [f"--{name}" for name in ("config", "workdir") if name not in subject.given]:
        line += f"; {' and '.join(missing)} would check more"
    return line
