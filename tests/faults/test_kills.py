"""A run that is killed and terminated again and again ends with the same bits as one that is not.

INCEPTION_JAX_KILLS=20 python -m pytest -s tests/faults/test_kills.py
does it as often; without the variable it is twice: SIGTERM in a compilation, SIGKILL in a save.
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
from pathlib import Path

import pytest
from conftest import read_metrics

from faults.jobs import ROOT
from inception_jax.checkpoints import store

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("INCEPTION_JAX_KILLS", "2"))
STEPS = 9 * KILLS + 9

PHASES = ("compilation", "saving", "evaluation", "another moment")


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
    ("config", "processes"),
    [
        ("digits", 1),
        ("smoke", 2),
        pytest.param(
            "digits",
            2,
            marks=pytest.mark.skipif(
                "INCEPTION_JAX_KILLS" not in os.environ, reason="over a second a step on two cores"
            ),
        ),
    ],
)
def test_it_ends_with_the_same_bits(command, data_dir, tmp_path, config, processes):
    output = tmp_path / "output"

    def start(workdir: Path) -> subprocess.Popen:
        """In a session of its own, so that all of it can be killed."""
        local = ["launch/local.py", "--processes", str(processes), "--"]
        with output.open("a") as file:
            return subprocess.Popen(
                [
                    sys.executable, *(local if processes > 1 else ["-m", "inception_jax.train"]),
                    "--config", f"configs/{config}.py", "--workdir", str(workdir),
                    f"--config.data.data_dir={data_dir}", f"--config.training.total={STEPS} steps",
                    "--config.training.average_start=20 steps", "--config.schedule.warmup=0 steps",
                    "--config.training.log_every=1 steps", "--config.model.width=0.125",
                    "--config.data.batch_size=16", "--config.evaluation.every=6 steps",
                    "--config.checkpoints.every=3 steps",
                ],
                cwd=ROOT, env=command.environment(), stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    assert start(straight).wait(1200) == 0, output.read_text()

    chance = random.Random(processes)
    happened: Counter[str] = Counter()
    for number in range(KILLS):
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
        store.read_description(workdir / "checkpoints" / str(STEPS))["arrays"]
        for workdir in (straight, disturbed)
    ]
    assert arrays[0] == arrays[1]
    assert read_metrics(disturbed) == read_metrics(straight)
    assert "Traceback" not in output.read_text()
