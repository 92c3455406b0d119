"""A sweep whose runs fail, or that is stopped or killed, goes on where it was."""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command, process_state_kept, read_metrics
from run_folders import write_run

from inception_jax import cli
from inception_jax.errors import ExitCode
from inception_jax.launching import run_queue, sweep
from inception_jax.storage import locks
from inception_jax.training import run_folder

SWEEP = """
from inception_jax.launching.sweeps import config, grid, named, product, seeds

def sweep():
    short = named({"": {"training.total": "6 steps", "checkpoints.every": "2 steps"}})
    rates = grid({"schedule.learning_rate": (0.01, 0.02)})
    yield from product(config("configs/smoke.py"), short, rates, seeds(SEEDS))
"""


def start(environment: dict[str, str], file: Path, output: Path) -> subprocess.Popen[str]:
    """Starts the sweep, two runs at a time."""
    arguments = ["launch/sweep.py", str(file), "--output", str(output), "--jobs", "2"]
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def events(output: Path, kind: str) -> list[str]:
    """The runs with such an event, in order."""
    journal = output / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line["run"] for line in map(json.loads, lines) if line["event"] == kind]


def test_a_run_that_fails_does_not_stop_the_others(command: Command, tmp_path: Path):
    """Real runs: two steps, and data that are not there."""
    file = tmp_path / "sweep.py"
    file.write_text("""
from inception_jax.launching.sweeps import config, named, product

def sweep():
    missing = {"data.source": "tfds", "data.data_dir": "nowhere"}
    good = {"training.total": "2 steps"}
    return product(config("configs/smoke.py"), named({"bad": missing, "good": good}))
""")
    process = start(command.environment(), file, tmp_path / "runs")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith("error: 1 of 2 runs failed: ")
    assert last.endswith("--retry starts them again")
    assert events(tmp_path / "runs", "done") == ["smoke_good"]
    assert events(tmp_path / "runs", "failed") == ["smoke_bad"]
    assert run_folder.read(tmp_path / "runs" / "smoke_good").status == "done"
    assert "smoke_bad: failed: no prepared data" in said
    log = (tmp_path / "runs" / "logs" / "smoke_bad.log").read_text()
    assert "error: no prepared data" in log


# A stand-in for a run. "stop" sends SIGTERM as a launcher does, to the sweep alone.
STAND_IN = """
import os, signal, sys
saving = lambda *_: sys.exit(42)
signal.signal(signal.SIGTERM, saving)
if sys.argv[1] == "stop":
    os.kill(os.getppid(), signal.SIGTERM)
if sys.argv[1] in ("stop", "wait"):
    signal.pause()
sys.exit(int(sys.argv[1]))
"""


class StandIns:
    """A sweep of stand-ins, each with an action for each start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path):
        monkeypatch.setattr(run_queue, "start", self._start)
        self.output = folder / "runs"
        self._file = folder / "sweep.py"
        self.starts: list[str] = []
        self.rewrite: Callable[[str], str] = str  # of the metrics.jsonl of a run that ends well

    def __call__(self, *flags: str, **plan: list[str]) -> tuple[ExitCode, str]:
        """Runs the sweep; returns its exit code and message."""
        self._file.write_text(
            "from inception_jax.launching.sweeps import Run\n"
            f"sweep = lambda: [Run(name, 'configs/smoke.py') for name in {list(plan)}]\n"
        )
        self._plan, self.starts = {name: list(actions) for name, actions in plan.items()}, []
        argv = [str(self._file), "--output", str(self.output), *flags]
        with process_state_kept():
            return cli.invoke(sweep.main, sweep.make_parser(), argv)

    def _start(self, run: Any, record: Any, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        self.starts.append(run.name)
        action = self._plan[run.name].pop(0)
        if action == "0":
            shutil.rmtree(record.workdir(run), ignore_errors=True)  # left by a lock
            folder = write_run(record.workdir(run), config="configs/smoke.py")
            metrics = folder / "metrics.jsonl"
            metrics.write_text(self.rewrite(metrics.read_text()))
        logs = self.output / "logs"
        logs.mkdir(exist_ok=True)
        (logs / f"{run.name}.log").write_text(f"the last words of {run.name}\n")
        return subprocess.Popen([sys.executable, "-c", STAND_IN, action])


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIns:
    return StandIns(monkeypatch, tmp_path)


def test_a_preempted_run_is_started_again_but_not_for_ever(stand_ins: StandIns):
    exit_code, message = stand_ins(a=["42", "42", "42"], b=["42", "0"], c=["0"])
    assert exit_code == ExitCode.ERROR
    assert message.startswith("1 of 3 runs failed")
    assert stand_ins.starts == ["a", "a", "a", "b", "b", "c"]
    assert events(stand_ins.output, "failed") == ["a"]
    assert "the last words of a" in (stand_ins.output / "journal.jsonl").read_text()


def test_what_has_failed_is_started_again_when_it_is_asked_for(stand_ins: StandIns):
    assert stand_ins(a=["1"], b=["0"])[0] == ExitCode.ERROR
    assert stand_ins(a=[], b=[])[0] == ExitCode.ERROR
    assert stand_ins.starts == []
    assert stand_ins("--retry", a=["0"], b=[])[0] == ExitCode.DONE
    assert stand_ins.starts == ["a"]


def test_a_sweep_that_is_stopped_goes_on(stand_ins: StandIns):
    """Both runs that are on save, and no other is started."""
    exit_code, message = stand_ins("--jobs", "2", a=["wait"], b=["stop"], c=[])
    assert (exit_code, message) == (ExitCode.RESTART, "stopped: the same command goes on")
    assert sorted(events(stand_ins.output, "stopped")) == ["a", "b"]
    assert stand_ins(a=["0"], b=["0"], c=["0"])[0] == ExitCode.DONE
    assert stand_ins.starts == ["a", "b", "c"]


def test_a_sweep_that_was_killed_goes_on(stand_ins: StandIns):
    """It left one run done, one still saving, and half a line at the journal's end."""
    assert stand_ins(a=["0"], b=["1"])[0] == ExitCode.ERROR
    with (stand_ins.output / "journal.jsonl").open("a") as journal:
        journal.write('{"run": "a", "eve')
    with contextlib.ExitStack() as saving:
        saving.enter_context(locks.hold(stand_ins.output / "c", "training"))
        free = threading.Timer(0.5, saving.pop_all().close)
        free.start()
        assert stand_ins("--retry", a=[], b=["0"], c=["0"])[0] == ExitCode.DONE
    assert stand_ins.starts == ["b", "c"]
    assert not free.is_alive()


FURTHER = {"step": 200, "top1": 1.0, "split": "train[:20]", "evaluation": "seen", "examples": 20}


@pytest.mark.parametrize(
    ("rewrite", "words"),
    [
        (str, "test top-1 0.9000"),
        (lambda text: text + json.dumps(FURTHER) + "\n", "test top-1 0.9000"),
        (  # of another task
            lambda text: re.sub(
                r'"top1": (\S+), "top5": \S+ "loss": \S+', r'"accuracy": \1,', text
            ),
            "test accuracy 0.9000, calibration_error 0.0200",
        ),
        (
            lambda text: re.sub(r'"top1": [^,]+', '"top1": null', text),
            "test top5 0.9900, loss 0.1000, calibration_error 0.0200",
        ),
        (lambda text: "".join(line for line in text.splitlines(True) if "split" not in line), ""),
    ],
    ids=["one", "a named one follows", "another task", "not a number", "none"],
)
def test_a_run_is_noted_with_its_first_evaluation(
    stand_ins: StandIns, capsys: pytest.CaptureFixture[str], rewrite, words
):
    stand_ins.rewrite = rewrite
    assert stand_ins(a=["0"], b=["0"])[0] == ExitCode.DONE
    journal = (stand_ins.output / "journal.jsonl").read_text().splitlines()
    noted = [line for line in map(json.loads, journal) if line["event"] == "done"]
    assert [line["message"] for line in noted] == [words, words]
    shown = [line for line in capsys.readouterr().out.splitlines() if " a " in line]
    assert words.partition(",")[0] in shown[-1]  # the table breaks long lines


@pytest.mark.slow
def test_eight_runs_killed_twice_are_eight_runs(command: Command, tmp_path: Path):
    """Their metrics are those of two runs without kills."""
    file, few = tmp_path / "sweep.py", tmp_path / "few.py"
    file.write_text(SWEEP.replace("SEEDS", "4"))
    few.write_text(SWEEP.replace("SEEDS", "1"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(command.environment(), few, whole)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    compared = sorted(path.parent.name for path in whole.glob("*/config.json"))
    assert len(compared) == 2

    environment = command.environment()
    seed = time.time_ns() % 1000
    moments = random.Random(seed)
    for done in (2, 5):
        process = start(environment, file, killed)
        while len(events(killed, "done")) < done:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(environment, file, killed)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, f"seed {seed}\n{said}"

    names = sorted(path.parent.name for path in killed.glob("*/config.json"))
    assert len(names) == 8
    times = Counter(events(killed, "done"))
    assert max(times.values()) == 1
    for name in names:
        assert run_folder.read(killed / name).status == "done"
    for name in compared:
        assert read_metrics(killed / name) == read_metrics(whole / name), f"{name}, seed {seed}"

    before = {path: path.stat().st_mtime_ns for path in killed.glob("*/metrics.jsonl")}
    again = start(environment, file, killed)  # there is nothing left to do
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in before} == before
