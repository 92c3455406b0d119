"""The record of a sweep in its folder: which runs it has, and what has become of each."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from inception_jax import cli
from inception_jax.errors import UsageError, UserError
from inception_jax.launching.sweeps import Run
from inception_jax.storage import json_files, workdir
from inception_jax.training import run_folder
from inception_jax.training.run_folder import RunFolder

JOURNAL = "journal.jsonl"  # one JSON object an event
LOGS = "logs"  # the output of each run, NAME.log


class SweepRecord:
    """The runs of an output folder; `runs`, `output` and `overrides` are as given."""

    def __init__(self, runs: Sequence[Run], output: Path, overrides: Sequence[str]):
        """Raises UsageError where the folder has another run of the same name."""
        self.runs, self.output, self.overrides = runs, output, overrides
        self._failures = {
            event["run"]: event["message"]
            for event in _latest_events(output / JOURNAL).values()
            if event["event"] == "failed"
        }
        self._write_runs()

    def workdir(self, run: Run) -> Path:
        """The folder of a run."""
        return self.output / run.name

    def log(self, run: Run) -> Path:
        """The file with the output of a run."""
        return self.output / LOGS / f"{run.name}.log"

    def state(self, run: Run) -> str:
        """Returns done, failed or open.

        The run's own folder comes before the journal: Slurm writes no journal.
        """
        if run_folder.read(self.workdir(run)).status == "done":
            return "done"
        return "failed" if run.name in self._failures else "open"

    def note(self, run: Run, event: str, message: str = "") -> None:
        """Writes an event to the journal and to the log."""
        self._failures.pop(run.name, None)
        if event == "failed":
            self._failures[run.name] = message
        line = {"time": time.time(), "run": run.name, "event": event, "message": message}
        with (self.output / JOURNAL).open("a") as journal:
            journal.write(json.dumps(line) + "\n")
        done = sum(self.state(run) == "done" for run in self.runs)
        cli.log.info(
            f"[{done}/{len(self.runs)} done] {run.name}: {event}{': ' * bool(message)}{message}"
        )

    def status_table(self) -> Table:
        """A table for a person: status, step and last evaluation of each run."""
        table = Table(title=str(self.output))
        for heading in ("run", "status", "step", "last evaluation"):
            table.add_column(heading, overflow="fold")
        for run in self.runs:
            found = run_folder.read(self.workdir(run))
            failed = self._failures.get(run.name)
            status = f"failed: {failed}" if failed and found.status != "done" else found.status
            table.add_row(run.name, status, str(found.step), last_evaluation(found))
        return table

    def _write_runs(self) -> None:
        """Adds the runs to those of the folder, which an earlier sweep may have left."""
        path = self.output / workdir.SWEEP
        try:
            before = {run["name"]: run for run in json.loads(path.read_text())["runs"]}
        except FileNotFoundError:
            before = {}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} was not written by a sweep: use another --output") from None
        now = {
            run.name: {
                "name": run.name, "config": run.config,
                "overrides": json.loads(json.dumps(dict(run.overrides))),
            }
            for run in self.runs
        }  # fmt: skip
        for name in before.keys() & now.keys():
            if before[name] != now[name]:
                raise UsageError(
                    f"{self.output} has another run called {name}, {before[name]}: use another "
                    "--output"
                )
        values = {"runs": list((before | now).values()), "overrides": list(self.overrides)}
        json_files.replace(path, json_files.to_text(values, indent=2) + "\n")


def last_evaluation(run: RunFolder) -> str:
    """Writes a run's newest evaluation in words: "test top-1 0.9000"; "" before the first.

    Of other tasks than classification it has all numbers that are not counts.
    """
    if not run.evaluations:
        return ""
    line = run.evaluations[-1]
    measured = {name: value for name, value in line.items() if type(value) is float}
    if "top1" in measured:
        measured = {"top-1": measured["top1"]}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
    return f"{line['split']} {numbers}".rstrip()


def _latest_events(journal: Path) -> dict[str, Any]:
    """The last event of each run; a line that a kill cut short does not count."""
    events: dict[str, Any] = {}
    if journal.exists():
        for line in journal.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                event = json.loads(line)
                events[event["run"]] = event
    return events
