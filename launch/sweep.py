#!/usr/bin/env python3
"""Run all runs of a sweep on this machine, or write them down for a Slurm array.

  python launch/sweep.py configs/sweeps/digits.py --output runs/digits_sweep
  python launch/sweep.py configs/sweeps/digits.py --output runs/digits_sweep --slurm

Run it from the root of the repository; each run is a folder in --output. Stopped or killed, the
same line goes on; no run is done twice. On GPUs each of --jobs has its share of them. Exit codes: 0
all are done, 1 some failed, 2 wrong usage, 42 start me again.
"""

import argparse
import contextlib
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from local import end_with, gpus_to_share, handled

# The package need not be installed; where a script lies, Python looks for modules, not above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.table import Table

from inception_jax import cli
from inception_jax.errors import ExitCode, PreemptedError, UsageError, UserError
from inception_jax.launching import sweeps
from inception_jax.launching.sweeps import Run
from inception_jax.runtime import console
from inception_jax.storage import json_files, locks, workdir
from inception_jax.tools.report import run_folder

JOURNAL = "journal.jsonl"  # what was done: one object an event
LOGS = "logs"  # what each run said, NAME.log

# What the runs get for the first SIGTERM or Ctrl-C and for the second: they save; they end.
PASSED_ON = (signal.SIGTERM, signal.SIGKILL)

# A run that asks to be started again without having got any further has failed.
STARTS_WITHOUT_PROGRESS = 3


class Sweep:
    """The runs of an output folder, and what has become of them."""

    def __init__(self, runs: Sequence[Run], output: Path, overrides: Sequence[str]):
        """Raises UsageError where the folder has runs of the same names that are others."""
        self.runs, self.output, self.overrides = runs, output, overrides
        self._failures = {
            event["run"]: event["message"]
            for event in _latest(output / JOURNAL).values()
            if event["event"] == "failed"
        }
        self._got_to: dict[str, tuple[int, int]] = {}
        self._record()

    def starts_in_vain(self, run: Run, step: int) -> int:
        """How often a run that is at `step` now has ended there."""
        before, times = self._got_to.get(run.name, (step, 0))
        self._got_to[run.name] = step, times + 1 if before == step else 1
        return self._got_to[run.name][1]

    def workdir(self, run: Run) -> Path:
        """Where a run is."""
        return self.output / run.name

    def state(self, run: Run) -> str:
        """done, failed or open; a run's folder has the say: Slurm writes no journal."""
        if run_folder.read(self.workdir(run)).status == "done":
            return "done"
        return "failed" if run.name in self._failures else "open"

    def note(self, run: Run, event: str, message: str = "") -> None:
        """Remembers what happened, and says it."""
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

    def table(self) -> Table:
        """Each run, and how it stands."""
        table = Table(title=str(self.output))
        for heading in ("run", "status", "step", "top-1"):
            table.add_column(heading, overflow="fold")
        for run in self.runs:
            found = run_folder.read(self.workdir(run))
            evaluations = [line for line in found.metrics if "split" in line]
            top1 = f"{evaluations[-1]['top1']:.4f}" if evaluations else ""
            failed = self._failures.get(run.name)
            status = f"failed: {failed}" if failed and found.status != "done" else found.status
            table.add_row(run.name, status, str(found.step), top1)
        return table

    def _record(self) -> None:
        path = self.output / workdir.SWEEP
        try:
            before = {run["name"]: run for run in json.loads(path.read_text())["runs"]}
        except FileNotFoundError:
            before = {}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is not what a sweep writes: use another --output") from None
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


def main(flags: argparse.Namespace, overrides: list[str]) -> None:
    """Runs what is not done."""
    runs = sweeps.load(flags.sweep, overrides)
    with locks.hold(flags.output, "running a sweep"):
        sweep = Sweep(runs, flags.output, overrides)
        wanted = {"open", "failed"} if flags.retry else {"open"}
        todo = [run for run in runs if sweep.state(run) in wanted]
        if flags.slurm:
            write_for_slurm(todo, sweep)
            return
        run_all(todo, sweep, flags.jobs)
        console.stdout.print(sweep.table())
        states = [sweep.state(run) for run in runs]
    if failed := states.count("failed"):
        raise UserError(
            f"{failed} of {len(runs)} runs failed: {flags.output / LOGS} has what they said; "
            "--retry starts them again"
        )


def run_all(todo: Sequence[Run], sweep: Sweep, jobs: int) -> None:
    """Runs `jobs` at a time, in order; a SIGTERM or Ctrl-C is passed on to all.

    Raises:
      PreemptedError: it was stopped, and the runs with it.
      UsageError: more jobs than GPUs.
    """
    gpus = gpus_to_share()
    if 0 < gpus < jobs:
        raise UsageError(f"--jobs {jobs}: there are {gpus} GPUs; JAX_PLATFORMS=cpu for the CPU")
    free, waiting = list(range(jobs)), list(todo)
    say_once = functools.cache(cli.log.info)
    running: dict[int, tuple[Run, subprocess.Popen]] = {}
    told: Counter[int] = Counter()  # how many signals each process has got
    with stop_requests() as stopped:
        while running or (waiting and not stopped):
            while waiting and free and not stopped:
                if locks.is_held(sweep.workdir(waiting[0])):
                    # Of a sweep that was killed: it saves, and ends.
                    say_once(f"{waiting[0].name} is still running: waiting for its end")
                    break
                slot, run = free.pop(0), waiting.pop(0)
                sweep.note(run, "started")
                running[slot] = run, start(run, sweep, gpu_share(slot, jobs, gpus))
            for _, process in running.values():
                # Here, not where the signal arrives: that may be in the middle of a start.
                for number in PASSED_ON[told[process.pid] : len(stopped)]:
                    process.send_signal(number)
                    told[process.pid] += 1
            for slot, (run, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    free.append(slot)
                    if _ended(run, process.returncode, sweep, bool(stopped)) == "again":
                        waiting.insert(0, run)
            time.sleep(0.1)
    if stopped:
        raise PreemptedError("stopped: the same command goes on")


def _ended(run: Run, code: int, sweep: Sweep, stopped: bool) -> str:
    """Notes how a run ended: done, failed, stopped or (to be started) again."""
    found = run_folder.read(sweep.workdir(run))
    if code == ExitCode.DONE:
        evaluation = [line for line in found.metrics if "split" in line][-1]
        sweep.note(run, "done", f"{evaluation['split']} top-1 {evaluation['top1']:.4f}")
        return "done"
    if stopped and code in (ExitCode.RESTART, -signal.SIGTERM, -signal.SIGINT):
        sweep.note(run, "stopped")
        return "stopped"
    in_vain = sweep.starts_in_vain(run, found.step)
    if code == ExitCode.RESTART and in_vain < STARTS_WITHOUT_PROGRESS:
        sweep.note(run, "preempted, to be started again")
        return "again"
    sweep.note(run, "failed", _last_line(sweep.output / LOGS / f"{run.name}.log", code))
    return "failed"


def start(run: Run, sweep: Sweep, environment: dict[str, str]) -> subprocess.Popen:
    """Starts `train`; what it says goes to a file."""
    log = sweep.output / LOGS / f"{run.name}.log"
    log.parent.mkdir(exist_ok=True)
    arguments = [*run.flags(sweep.workdir(run)), *sweep.overrides]
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "inception_jax.train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=os.environ | environment,
            process_group=0,  # Ctrl-C comes through this program, once
            preexec_fn=end_with(os.getpid()),
        )


def gpu_share(slot: int, jobs: int, gpus: int) -> dict[str, str]:
    """The environment with the GPUs of one of `jobs` runs; empty on other devices."""
    if not gpus:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",")[:gpus] if visible else [str(gpu) for gpu in range(gpus)]
    share = gpus // jobs
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[slot * share : (slot + 1) * share])}


def write_for_slurm(todo: Sequence[Run], sweep: Sweep) -> None:
    """Writes a line of flags a run, and prints what to give to Slurm."""
    if not todo:
        print(f"nothing to do in {sweep.output}")
        return
    path = sweep.output / "flags.txt"
    json_files.replace(path, sweeps.flags_file(todo, sweep.output, sweep.overrides))
    array = f"--array=1-{len(todo)}"
    print(shlex.join(["sbatch", "--nodes=1", array, "launch/slurm/sweep.sbatch", str(path)]))


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Yields the signals that came."""
    came: list[int] = []
    with handled(lambda number, frame: came.append(number)):
        yield came


def _latest(journal: Path) -> dict[str, Any]:
    """The last event of each run; a line that was cut off by a kill is none."""
    events: dict[str, Any] = {}
    if journal.exists():
        for line in journal.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                event = json.loads(line)
                events[event["run"]] = event
    return events


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].removeprefix("error: ") if lines and code > 0 else f"ended with {code}"


def make_parser() -> cli.Parser:
    """The command's flags."""
    parser = cli.Parser(__doc__)
    parser.add_argument("sweep", metavar="FILE", help="sweep file, as configs/sweeps/x.py")
    parser.add_argument("--output", type=cli.path, required=True, metavar="DIR")
    parser.add_argument(
        "--jobs", type=cli.positive, default=1, metavar="N", help="runs at a time; default: 1"
    )
    parser.add_argument("--retry", action="store_true", help="also those that failed before")
    parser.add_argument(
        "--slurm", action="store_true", help="run nothing: write flags.txt, print the sbatch line"
    )
    parser.allow_overrides("all runs")
    return parser


if __name__ == "__main__":
    cli.run(main, make_parser())
