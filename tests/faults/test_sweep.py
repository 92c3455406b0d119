"""A sweep that is killed goes on where it was, and ends with the same numbers."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, Command, read_metrics

from inception_jax.reporting import run_folder

SWEEP = """
from inception_jax.launching.sweeps import config, grid, named, product, seeds

def sweep():
    short = named({"": {"training.total": "6 steps", "checkpoints.every": "2 steps"}})
    rates = grid({"schedule.learning_rate": (0.01, 0.02)})
    yield from product(config("configs/smoke.py"), short, rates, seeds(SEEDS))
"""


def start(command: Command, file: Path, output: Path) -> subprocess.Popen[str]:
    """Starts the sweep, two runs at a time."""
    arguments = ["launch/sweep.py", str(file), "--output", str(output), "--jobs", "2"]
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=command.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def events(output: Path, kind: str) -> list[str]:
    """The runs to which this has happened."""
    journal = output / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line["run"] for line in map(json.loads, lines) if line["event"] == kind]


@pytest.mark.slow
def test_eight_runs_killed_twice_are_eight_runs(command: Command, tmp_path: Path):
    """A few of them without kills, which is what the numbers are compared with."""
    file, few = tmp_path / "sweep.py", tmp_path / "few.py"
    file.write_text(SWEEP.replace("SEEDS", "4"))
    few.write_text(SWEEP.replace("SEEDS", "1"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(command, few, whole)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    compared = sorted(path.parent.name for path in whole.glob("*/config.json"))
    assert len(compared) == 2

    seed = time.time_ns() % 1000
    moments = random.Random(seed)
    for done in (2, 5):
        process = start(command, file, killed)
        while len(events(killed, "done")) < done:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(command, file, killed)
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
    again = start(command, file, killed)  # there is nothing left to do
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in before} == before
