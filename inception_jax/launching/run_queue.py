"""Trains the runs of a sweep, several at a time, and starts preempted ones again."""

import functools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from inception_jax import cli
from inception_jax.errors import ExitCode, PreemptedError, UsageError
from inception_jax.launching import child_processes, gpus
from inception_jax.launching.sweep_record import SweepRecord, last_evaluation
from inception_jax.launching.sweeps import Run
from inception_jax.storage import locks
from inception_jax.training import run_folder

# The runs get the first for the first SIGTERM or Ctrl-C, and save; the second ends them.
PASSED_ON = (signal.SIGTERM, signal.SIGKILL)

# A run that asks to be started again this often at the same step has failed.
STARTS_WITHOUT_PROGRESS = 3


def train_all(runs: Sequence[Run], record: SweepRecord, jobs: int) -> None:
    """Trains `jobs` runs at a time, in order; a SIGTERM or Ctrl-C is passed on to all.

    Raises:
      PreemptedError: it was stopped, and the runs with it.
      UsageError: more jobs than GPUs.
    """
    available = gpus.count_gpus()
    if 0 < available < jobs:
        raise UsageError(
            f"--jobs {jobs}: there are {available} GPUs; JAX_PLATFORMS=cpu for the CPU"
        )
    free_slots, waiting = list(range(jobs)), list(runs)
    running: dict[int, tuple[Run, subprocess.Popen]] = {}
    ends_at: Counter[tuple[str, int]] = Counter()  # how often a run ended at a step
    sent: Counter[int] = Counter()
    log_once = functools.cache(cli.log.info)
    with child_processes.recorded_signals() as received:
        while running or (waiting and not received):
            while waiting and free_slots and not received:
                if locks.is_held(record.workdir(waiting[0])):
                    # Left by a sweep that was killed: it saves, and ends.
                    log_once(f"{waiting[0].name} is still running: waiting for its end")
                    break
                slot, run = free_slots.pop(0), waiting.pop(0)
                record.note(run, "started")
                running[slot] = run, start(run, record, gpus.for_job(slot, jobs, available))
            processes = [process for _, process in running.values()]
            child_processes.pass_on(PASSED_ON[: len(received)], processes, sent)
            for slot, (run, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    free_slots.append(slot)
                    step = run_folder.read(record.workdir(run)).step
                    ends_at[run.name, step] += 1
                    again = ends_at[run.name, step] < STARTS_WITHOUT_PROGRESS
                    if _note_end(run, process.returncode, record, bool(received), again):
                        waiting.insert(0, run)
            time.sleep(0.1)
    if received:
        raise PreemptedError("stopped: the same command goes on")


def start(run: Run, record: SweepRecord, variables: dict[str, str]) -> subprocess.Popen:
    """Starts `train`, whose output goes to the run's log file."""
    log = record.log(run)
    log.parent.mkdir(exist_ok=True)
    flags = [*run.flags(record.workdir(run)), *record.overrides]
    with log.open("a") as file:
        return child_processes.start(
            [sys.executable, "-m", "inception_jax.train", *flags],
            variables,
            stdout=file,
            stderr=file,
        )


def _note_end(run: Run, code: int, record: SweepRecord, stopped: bool, again: bool) -> bool:
    """Notes how a run ended; returns whether it is to be started again.

    Args:
      run: the run.
      code: its exit code; -N where signal N killed it.
      record: where to note it.
      stopped: the sweep was asked to stop.
      again: the run may be started again if it asks for it.
    """
    if code == ExitCode.DONE:
        found = run_folder.read(record.workdir(run))
        record.note(run, "done", last_evaluation(found))
    elif stopped and code in (ExitCode.RESTART, -signal.SIGTERM, -signal.SIGINT):
        record.note(run, "stopped")
    elif again and code == ExitCode.RESTART:
        record.note(run, "preempted, to be started again")
        return True
    else:
        lines = record.log(run).read_text(errors="replace").splitlines()
        killed = code < 0 or not lines
        message = f"ended with {code}" if killed else lines[-1].removeprefix("error: ")
        record.note(run, "failed", message)
    return False
