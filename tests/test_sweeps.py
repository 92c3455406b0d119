"""Sweeps: how runs are put together, and that each is done once, whatever is killed."""

import json
import random
import subprocess
import sys
import time

import pytest
from conftest import ROOT, read_metrics

from inception_jax.errors import UsageError
from inception_jax.launching import sweeps
from inception_jax.launching.sweeps import Run, config, grid, named, product, seeds

SWEEP = """
from inception_jax.launching.sweeps import config, grid, product, seeds

def sweep():
    widths = grid({"model.width": (0.03125, 0.0625)})
    yield from product(config("configs/smoke.py"), widths, seeds(4))
"""


def test_grids_lists_and_seeds_are_nested():
    rates = grid({"schedule.learning_rate": (0.1, 0.2), "model.norm": ("lrn", "none")})
    assert [run.name for run in rates] == [
        "learning_rate=0.1_norm=lrn", "learning_rate=0.1_norm=none",
        "learning_rate=0.2_norm=lrn", "learning_rate=0.2_norm=none",
    ]  # fmt: skip
    wide = named({"base": {}, "wide": {"model.width": 2.0}})
    runs = product(config("configs/digits.py:batch_size=32"), [*wide, *rates[:1]], seeds(2))
    assert len(runs) == 6
    assert runs[3] == Run(
        "digits_wide_seed=1", "configs/digits.py:batch_size=32", {"model.width": 2.0, "seed": 1}
    )


def test_flags_come_back_from_a_shells_line(tmp_path):
    runs = product(config("configs/digits.py"), named({"long": {"training.total": "8 epochs"}}))
    (line,) = sweeps.flags_file(runs, tmp_path, ["--config.data.data_dir=/my data"]).splitlines()
    printed = subprocess.run(
        ["xargs", "printf", "%s\\n"], input=line, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == [
        "--config", "configs/digits.py", "--workdir", str(tmp_path / "digits_long"),
        "--config.training.total=8 epochs", "--config.data.data_dir=/my data",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "has no runs"),
        ("return [1]", "yields a int"),
        ("return config('configs/smoke.py') * 2", "two runs are called smoke"),
        ("return config('configs/smoke.py', 'a/b')", "'a/b' is no name"),
        ("return seeds(1)", "seed=0 has no config"),
        ("return product(config('configs/smoke.py'), named({'x': {'model.widht': 1}}))", "widht"),
        ("return product(seeds(1), seeds(1))", "two parts of a run change seed"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path, body, message):
    file = tmp_path / "sweep.py"
    file.write_text(
        "from inception_jax.launching.sweeps import config, named, product, seeds\n"
        f"def sweep():\n    {body}\n"
    )
    with pytest.raises(UsageError, match=message):
        sweeps.load(str(file))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_the_projects_own_sweeps_load(name):
    assert len(sweeps.load(f"configs/sweeps/{name}.py")) >= 9


@pytest.mark.slow
def test_a_sweep_killed_twice_does_each_run_once(command, tmp_path):
    file = tmp_path / "sweep.py"
    file.write_text(SWEEP)

    def start(output, *more):
        return subprocess.Popen(
            [sys.executable, "launch/sweep.py", file, "--output", output, *more,
             "--config.training.total=6 steps", "--config.checkpoints.every=2 steps"],
            cwd=ROOT, env=command.environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = start(straight)
    assert process.communicate()[1].count(": done") == 8
    assert process.returncode == 0
    chance = random.Random(0)
    for _ in range(2):
        process = start(killed)
        time.sleep(chance.uniform(20, 50))
        process.kill()
        process.communicate()
        time.sleep(5)  # its run gets a SIGTERM, and saves
    process = start(killed, "--jobs", "2")
    process.communicate()
    assert process.returncode == 0

    folders = sorted(path.name for path in killed.iterdir() if path.name.startswith("smoke"))
    assert len(folders) == 8
    for name in folders:
        assert read_metrics(killed / name) == read_metrics(straight / name)
    events = [json.loads(line) for line in (killed / "journal.jsonl").read_text().splitlines()]
    done = [event["run"] for event in events if event["event"] == "done"]
    assert len(done) == len(set(done))
    assert start(killed).communicate()[1] == ""
