"""A job of several processes: the same as one, and what becomes of it when one is lost.

How they judge one another, without processes: test_lost_processes.py.
"""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import read_metrics

from faults.jobs import job


def losses(workdir: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(workdir)]


@pytest.fixture
def start(command, smoke_arguments, tmp_path):
    """Starts `train` on the smoke config in several processes and waits until they train."""
    with job(command.environment(), tmp_path / "job", 2) as two:

        def start(*arguments: str, total: int = 100_000, own=None, until="step 3/"):
            two.start("train", *smoke_arguments(tmp_path / "run", total, 10), *arguments, own=own)
            if until:
                assert two.wait_until(lambda: until in two.said(0)), two.said(0)
            return two

        yield start


def test_two_train_like_one(straight, command, smoke_arguments, tmp_path):
    arguments = smoke_arguments(tmp_path / "run", total=12, every=2)
    with job(command.environment(), tmp_path / "job", 2) as two:
        two.start("train", *arguments)
        assert two.wait() == [0, 0], two.said(0) + two.said(1)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(straight), rtol=1e-3, atol=0)
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if "split" not in line]
    assert steps == list(range(1, 13))
    assert "step 12" not in two.said(1)  # one of them tells how it goes
    assert {path.name for path in (tmp_path / "run" / "logs").iterdir()} == {
        "process_0.log", "process_1.log"
    }  # fmt: skip


# A process that is stopped, not killed, is given up after half a minute of silence.
@pytest.mark.parametrize(
    ("lost", "number"),
    [
        (0, signal.SIGKILL),
        pytest.param(0, signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_the_others_name_the_one_that_is_lost(start, tmp_path, lost, number):
    two = start()
    since = time.monotonic()
    two.processes[lost].send_signal(number)
    assert two.processes[1 - lost].wait(60) == 42
    assert time.monotonic() - since < 60
    last = two.said(1 - lost).splitlines()[-1]
    assert re.match(rf"error: process {lost} of 2, on \S+, (is gone|has been silent|has not)", last)
    log = (tmp_path / "run" / "logs" / f"process_{1 - lost}.log").read_text()
    assert "stacks of all threads" in log
    assert "loop.py" in log


@pytest.mark.slow
def test_what_one_fails_of_is_said_by_all(start):
    two = start("--config.data.fake_examples=32", until="", own={1: ["--config.seed=3"]})
    assert two.wait(400) == [2, 2]
    assert two.said(1).splitlines()[-1] == "error: its config differs from process 0's in seed"
    last = two.said(0).splitlines()[-1]
    assert re.match(r"error: process 1 of 2, on \S+, failed: its config differs", last)
    assert "Traceback" not in two.said(0) + two.said(1)


@pytest.mark.slow
def test_it_goes_on_with_any_number_of_processes(command, smoke_arguments, tmp_path):
    """2, then 1, then 4: the losses are those of one process that did it all."""
    for workdir, parts in (("one", [(1, 18)]), ("many", [(2, 5), (1, 12), (4, 18)])):
        for number, (processes, until) in enumerate(parts):
            arguments = smoke_arguments(tmp_path / workdir, total=18, every=7)
            with job(command.environment(), tmp_path / f"{workdir}{number}", processes) as some:
                some.start("train", *arguments)
                if until < 18:
                    assert some.wait_until(lambda: f"step {until}/" in some.said(0))  # noqa: B023
                    some.signal_all(signal.SIGTERM)
                assert some.wait() == [0 if until == 18 else 42] * processes, some.said(0)
    np.testing.assert_allclose(
        losses(tmp_path / "many"), losses(tmp_path / "one"), rtol=1e-3, atol=0
    )
    steps = [line["step"] for line in read_metrics(tmp_path / "many") if "split" not in line]
    assert steps == list(range(1, 19))
    assert {path.name for path in (tmp_path / "many" / "logs").iterdir()} == {
        f"process_{index}.log" for index in range(4)
    }


@pytest.mark.breadth
def test_an_evaluation_counts_every_example_once(command, digits_run, tmp_path):
    """Over two processes, the last batch not full: one prints, one writes, the numbers equal."""
    arguments = (
        "--workdir", digits_run, "--crops", "10", "--split", "test[:77]",
        "--config.data.batch_size=64",
    )  # fmt: skip
    one = json.loads(command("evaluate", *arguments).stdout)
    with job(command.environment(), tmp_path / "job", 2) as some:
        some.start("evaluate", *arguments)
        assert some.wait() == [0, 0], some.said(0)
        two = json.loads((some.folder / "stdout_0").read_text())
        assert (some.folder / "stdout_1").read_text() == ""
        assert "wrote" not in some.said(1)
    assert one["examples"] == two["examples"] == 77
    assert (one["top1"], one["top5"]) == (two["top1"], two["top5"])
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)
