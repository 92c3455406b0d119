"""A run that is killed and terminated again and again ends with the same bits as one that is not.

`make test` has one of each, at a moment that is chosen; `make test-all` kills a run once in each of
its phases. In `make soak` it is twenty times, or as often as INCEPTION_JAX_KILLS says, and two
processes:
INCEPTION_JAX_KILLS=20 python -m pytest -s -m soak tests/faults/test_kills.py
"""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import read_metrics

from faults.jobs import ROOT
from inception_jax.checkpoints import store

KILLS = int(os.environ.get("INCEPTION_JAX_KILLS", "20"))

PHASES = ("compilation", "saving", "evaluation", "another moment")


# `train`, which holds still in the check after step 3, or in the second save, when all is written
# but the name: it says so, and waits for a line.
HELD = """
import itertools, os, sys
from inception_jax.runtime import preemption
preemption.listen()
from inception_jax import cli, train

def is_step(*arguments):
    return next(steps) == 3

def names_a_save(path, name, *_):
    return str(name).endswith("checkpoints/6")

module, name, is_moment = {
    "step": (preemption, "check", is_step), "save": (os, "rename", names_a_save)
}[sys.argv.pop(1)]
work, steps = getattr(module, name), itertools.count(1)

def hold(*arguments):
    if is_moment(*arguments):
        print("held", flush=True)
        sys.stdin.readline()
    return work(*arguments)

setattr(module, name, hold)
cli.run(train.main, train.make_parser())
"""


def test_terminated_in_a_step_and_killed_in_a_save_it_ends_with_the_same_bits(
    straight, command, smoke_arguments, tmp_path
):
    workdir = tmp_path / "run"
    arguments = smoke_arguments(workdir, total=12, every=2)

    @contextlib.contextmanager
    def held(moment: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", HELD, moment, *arguments],
            cwd=ROOT, env=command.environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin
            assert process.stdout
            assert process.stderr
            try:
                assert process.stdout.readline() == "held\n", process.stderr.read()
                yield process
            finally:
                process.kill()

    with held("step") as process:
        line = command.fails("train", *arguments, exit_code=1)
        assert f"another process is training in {workdir}" in line
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        for line in process.stderr:
            if line == "terminated: saving the last step\n":
                break
        _, last = process.communicate("\n", timeout=60)
        assert process.returncode == 42
        assert last.splitlines()[-1] == "terminated: the same command goes on"
    assert store.steps(workdir / "checkpoints") == [2, 3]

    with held("save") as process:
        process.kill()
        process.communicate()
    assert store.steps(workdir / "checkpoints") == [2, 3, 4]
    assert list((workdir / "checkpoints").glob("6.orbax-checkpoint-tmp*"))

    result = command("train", *arguments)
    assert f"resuming from {workdir / 'checkpoints' / '4'}" in result.stderr
    arrays = [
        store.read_description(run / "checkpoints" / "12")["arrays"] for run in (straight, workdir)
    ]
    assert arrays[0] == arrays[1]
    assert read_metrics(workdir) == read_metrics(straight)


def log_lines(workdir: Path) -> list[str]:
    log = workdir / "logs" / "process_0.log"
    return log.read_text().splitlines() if log.exists() else []


def doing(workdir: Path, since: float) -> str:
    """What the run that began at a time is at, by what it says and has on disk."""
    for unfinished in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
        with contextlib.suppress(FileNotFoundError):
            if unfinished.stat().st_mtime > since:
                return "saving"
    last = (log_lines(workdir) or [""])[-1]
    if "compiling the training step" in last:
        return "compilation"
    return "evaluation" if "evaluating at step" in last else "another moment"


def kill(process: subprocess.Popen, number: signal.Signals, workdir: Path) -> None:
    """SIGTERM goes to the launcher; SIGKILL to all, as when a machine fails."""
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=True)
    process.wait(400)
    with (workdir / ".lock").open("a") as lock:  # process 0 holds it to its end
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    ("config", "processes", "kills"),
    [
        pytest.param("smoke", 1, len(PHASES), marks=pytest.mark.slow),
        pytest.param("digits", 1, KILLS, marks=pytest.mark.soak),
        pytest.param("smoke", 2, KILLS, marks=pytest.mark.soak),
        # Over a second a step on two cores.
        pytest.param("digits", 2, KILLS, marks=pytest.mark.soak),
    ],
)
def test_it_ends_with_the_same_bits(command, data_dir, tmp_path, config, processes, kills):
    steps = 9 * kills + 9
    output = tmp_path / "output"

    def start(workdir: Path) -> subprocess.Popen:
        """In a session of its own, so that all of it can be killed."""
        local = ["launch/local.py", "--processes", str(processes), "--"]
        with output.open("a") as file:
            return subprocess.Popen(
                [
                    sys.executable, *(local if processes > 1 else ["-m", "inception_jax.train"]),
                    "--config", f"configs/{config}.py", "--workdir", str(workdir),
                    f"--config.data.data_dir={data_dir}", f"--config.training.total={steps} steps",
                    "--config.training.average_start=20 steps", "--config.schedule.warmup=0 steps",
                    "--config.training.log_every=1 steps", "--config.model.width=0.125",
                    "--config.data.batch_size=16", "--config.evaluation.every=6 steps",
                    "--config.checkpoints.every=3 steps",
                    "--config.data.fake_examples=512",  # an evaluation that can be caught
                ],
                cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    environment = command.environment()
    assert start(straight).wait(1200) == 0, output.read_text()

    chance = random.Random(processes)
    happened: Counter[str] = Counter()
    for number in range(kills):
        phase = PHASES[number % len(PHASES)]
        kind = (signal.SIGTERM, signal.SIGKILL)[(number + number // len(PHASES)) % 2]
        before, since = len(log_lines(disturbed)), time.time()
        process = start(disturbed)
        if phase == "another moment":
            time.sleep(chance.uniform(0.5, 8))
        else:
            # The evaluation, say, may be one that the last kill interrupted.
            while len(log_lines(disturbed)) == before or doing(disturbed, since) != phase:
                assert process.poll() is None, output.read_text()
                time.sleep(0.002)
        happened[f"{kind.name} in {doing(disturbed, since)}"] += 1
        kill(process, kind, disturbed)
        assert process.returncode in ((42, 0) if kind == signal.SIGTERM else (-9,))

    assert start(disturbed).wait(1200) == 0, output.read_text()
    print(f"\n{config}, {processes} processes: {dict(happened)}")
    arrays = [
        store.read_description(workdir / "checkpoints" / str(steps))["arrays"]
        for workdir in (straight, disturbed)
    ]
    assert arrays[0] == arrays[1]
    assert read_metrics(disturbed) == read_metrics(straight)
    assert "Traceback" not in output.read_text()
