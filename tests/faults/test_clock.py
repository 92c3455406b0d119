"""The wall clock is set while a run goes on: nothing may depend on it.

One thing does, in Orbax: it measures its time-out of ten minutes by the wall clock, so that a clock
set forward by more than that in the middle of a save makes the save fail. Hence the clock of a
whole run only goes back here.
"""

import json
import os
import textwrap

import numpy as np
import pytest
from conftest import read_metrics

from inception_jax.checkpoints import store
from inception_jax.training.metrics_log import MetricsLog
from inception_jax.training.stopwatch import Stopwatch

# Each reading of the clock is a minute before the last one. Python's clock alone: what is compiled
# (XLA, TensorStore) reads the system's, which a test cannot set.
BACKWARDS = textwrap.dedent("""
    import itertools, time
    _true, _true_ns, _minutes = time.time, time.time_ns, itertools.count()
    time.time = lambda: _true() - 60 * next(_minutes)
    time.time_ns = lambda: _true_ns() - 60 * 10**9 * next(_minutes)
""")


@pytest.fixture
def clock_running_backwards(monkeypatch):
    import time

    monkeypatch.setattr(time, "time", time.time)  # put back at the end
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    exec(BACKWARDS, {})


def test_rates_are_of_the_steady_clock(clock_running_backwards):
    watch = Stopwatch(batch_size=16, total=20, step=0)
    for step in range(1, 20):
        with watch.waiting():
            pass
        with watch.paused():
            pass
        rates = watch.read(step)
        assert rates["images_per_second"] > 0
        assert 0 <= rates["input_wait"] <= 1
        assert 0 <= watch.seconds_left(step) < 60


def test_the_newest_checkpoint_is_that_of_the_highest_step(clock_running_backwards, tmp_path):
    with store.CheckpointWriter(
        tmp_path, keep_last=2, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, {"x": np.int32(step)}, {})
    assert store.steps(tmp_path) == [3, 4]
    os.utime(tmp_path / "4", (0, 0))  # as a copy without times, or a wrong clock, leaves it
    for path in (tmp_path / "4").rglob("*"):
        os.utime(path, (0, 0))
    newest = store.read_newest(tmp_path)
    assert newest is not None
    assert newest.path == tmp_path / "4"
    with store.CheckpointWriter(
        tmp_path, keep_last=2, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(5, {"x": np.int32(5)}, {})
    assert store.steps(tmp_path) == [4, 5]


def test_tensorboard_reads_the_files_of_a_run_in_their_order(tmp_path, monkeypatch):
    """By name, which has the time: a later one must not come first, nor replace an earlier one."""
    names: list[str] = []
    for now in (2_000_000_000.0, 1_000_000_000.0, 1_000_000_000.0, 2_000_000_001.0, 3e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        with MetricsLog(tmp_path, resume_step=0) as log:
            log.write(1, {"loss": 1.0})
        (new,) = {path.name for path in (tmp_path / "tensorboard").iterdir()} - set(names)
        names.append(new)
    assert names == sorted(names)
    assert all("tfevents" in name for name in names)


@pytest.mark.soak
def test_a_run_under_such_a_clock_is_the_same(
    straight, command, smoke_arguments, tmp_path, monkeypatch
):
    backwards = tmp_path / "backwards"
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    command("train", *smoke_arguments(backwards, total=12, every=2), process=True)
    assert read_metrics(backwards) == read_metrics(straight)
    arrays = [
        store.read_description(run / "checkpoints" / "12")["arrays"]
        for run in (straight, backwards)
    ]
    assert arrays[0] == arrays[1]
    assert store.steps(backwards / "checkpoints") == store.steps(straight / "checkpoints")
    for line in map(json.loads, (backwards / "metrics.jsonl").read_text().splitlines()):
        assert line.get("images_per_second", 1.0) > 0
        assert 0 <= line.get("input_wait", 0.0) <= 1
