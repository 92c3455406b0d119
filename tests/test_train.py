"""The train command as a user runs it: what it writes, how it resumes, how it fails."""

import json
import random
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import read_metrics

from inception_jax.checkpoints import integrity, store
from inception_jax.checkpoints.integrity import SEAL
from inception_jax.data import order


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def arrays(checkpoint: Path) -> dict:
    """Shape, type and checksum of every array; equal means bit-identical."""
    return store.read_description(checkpoint)["arrays"]


@pytest.fixture(scope="module")
def straight(command, smoke_arguments, tmp_path_factory) -> Path:
    """Twelve steps in one go, a checkpoint every two."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    command("train", *smoke_arguments(workdir, total=12, every=2))
    return workdir


def test_a_run_writes_what_the_contract_says(straight):
    config = json.loads((straight / "config.json").read_text())
    assert config["data"]["batch_size"] == 16
    lines = read_metrics(straight)
    training = [line for line in lines if "split" not in line]
    assert [line["step"] for line in training] == list(range(1, 13))
    assert set(training[0]) >= {"step", "epoch", "loss", "learning_rate", "top1", "gradient_norm"}
    for text in (straight / "metrics.jsonl").read_text().splitlines():
        assert 0 < json.loads(text).get("images_per_second", 1) < 1e5
    evaluations = [line for line in lines if "split" in line]
    assert [line["step"] for line in evaluations] == [4, 8, 12]
    assert all(line["split"] == "test" and line["examples"] == 64 for line in evaluations)
    assert {12, 10, 8} <= set(store.steps(straight / "checkpoints"))
    assert list((straight / "tensorboard").iterdir())
    assert "trained smoke for 12 steps" in (straight / "logs" / "process_0.log").read_text()
    description = store.read_description(straight / "checkpoints" / "12")
    assert description["config"] == config
    assert description["class_names"] == list("0123456789")
    assert description["versions"]["jax"]


def test_every_program_is_compiled_once(command, smoke_arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_LOG_COMPILES", "1")
    arguments = smoke_arguments(tmp_path / "run", total=12, every=2)
    result = command("train", *arguments, "--config.data.fake_examples=56", process=True)
    before, after = result.stderr.split("step 1/12 ")
    assert "Compiling jit(train_step)" in before
    assert after.count("(56 examples)") == 3  # evaluations, and there are as many checkpoints
    assert re.findall(r"Compiling jit\((\w+)\)", after) == ["logits", "answer"]


def test_the_same_command_again_trains_no_further(straight, command, smoke_arguments):
    before = (straight / "metrics.jsonl").read_text()
    result = command("train", *smoke_arguments(straight, total=12, every=2))
    assert "already trained for 12 steps" in result.stderr
    assert (straight / "metrics.jsonl").read_text() == before


def test_damage_is_named_and_the_run_ends_the_same(straight, command, smoke_arguments, tmp_path):
    """One flipped bit in the newest checkpoint and an empty directory with a large number."""
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    expected, metrics = arrays(straight / "checkpoints" / "12"), read_metrics(straight)
    file = max(
        (workdir / "checkpoints" / "12" / "state").rglob("d/*"), key=lambda p: p.stat().st_size
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    (workdir / "checkpoints" / "123456").mkdir()

    result = command("train", *smoke_arguments(workdir, total=12, every=2))

    assert f"checkpoint 12 is damaged (file {file.relative_to(workdir / 'checkpoints' / '12')}" in (
        result.stderr
    )
    assert f"checkpoint 123456 is damaged ({SEAL} is missing)" in result.stderr
    assert f"resuming from {workdir / 'checkpoints' / '10'}" in result.stderr
    assert arrays(workdir / "checkpoints" / "12") == expected
    assert read_metrics(workdir) == metrics
    assert {p.name for p in (workdir / "damaged_checkpoints").iterdir()} == {"12", "123456"}


def test_another_config_is_refused_naming_the_fields(straight, command, smoke_arguments):
    line = command.fails(
        "train",
        *smoke_arguments(straight, total=12, every=2),
        "--config.optimizer.momentum=0.5",
        "--config.seed=3",
        exit_code=2,
    )
    assert "optimizer.momentum was 0.9, is 0.5" in line
    assert "seed was 0, is 3" in line


def test_a_checkpoint_of_another_config_is_refused(straight, command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(straight / "checkpoints", workdir / "checkpoints")
    line = command.fails(
        "train",
        *smoke_arguments(workdir, total=12, every=2),
        "--config.optimizer.momentum=0.5",
        exit_code=2,
    )
    assert "optimizer.momentum was 0.9, is 0.5" in line


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_not_saved(command, smoke_arguments, tmp_path):
    """Also where the step that diverges is one to be saved and evaluated."""
    line = command.fails(
        "train",
        *smoke_arguments(tmp_path, total=4, every=1),
        "--config.schedule.learning_rate=1e30",
        exit_code=1,
    )
    assert re.match(r"error: \w+ is (inf|nan) at step 1", line)
    assert store.steps(tmp_path / "checkpoints") == []


def test_two_processes_cannot_train_in_one_folder(command, smoke_arguments, tmp_path):
    first = command.start("train", *smoke_arguments(tmp_path, total=100_000, every=50_000))
    while first.poll() is None and not (tmp_path / "config.json").exists():
        time.sleep(0.05)
    try:
        line = command.fails(
            "train", *smoke_arguments(tmp_path, total=100_000, every=50_000), exit_code=1
        )
        assert f"another process is training in {tmp_path}" in line
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def test_a_broken_line_of_metrics_loses_nothing(straight, command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[2] = "{broken\n"
    (workdir / "metrics.jsonl").write_text("".join(lines))
    line = command.fails("train", *smoke_arguments(workdir, total=12, every=2), exit_code=1)
    assert "metrics.jsonl, line 3, is no JSON object" in line
    assert (workdir / "metrics.jsonl").read_text() == "".join(lines)


def test_other_data_is_refused(straight, command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    item = workdir / "checkpoints" / "12" / "description" / "metadata"
    description = json.loads(item.read_text()) | {"data_fingerprint": "another"}
    item.write_text(json.dumps(description))
    (workdir / "checkpoints" / "12" / SEAL).unlink()
    integrity.seal(workdir / "checkpoints" / "12")
    line = command.fails("train", *smoke_arguments(workdir, total=12, every=2), exit_code=2)
    assert "fingerprint" in line


@pytest.mark.slow
def test_several_devices_train_like_one(straight, command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    command("train", *smoke_arguments(workdir, total=12, every=2), devices=4)
    for one, four in zip(read_metrics(straight), read_metrics(workdir), strict=True):
        assert four["step"] == one["step"]
        assert four["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_before_a_checkpoint(command, smoke_arguments, tmp_path):
    line = command.fails(
        "train",
        *smoke_arguments(tmp_path / "run", total=12, every=1),
        "--config.schedule.learning_rate=1e30",
        "--config.training.log_every=100 steps",
        "--config.evaluation.every=100 steps",
        exit_code=1,
    )
    assert " is nan at step " in line or " is inf at step " in line
    step = int(line.split(" at step ")[1].split(",")[0])
    saved = store.steps(tmp_path / "run" / "checkpoints")
    assert all(number < step for number in saved)
    _, indices = order.batch_order(0, step - 1, 16, 64)
    assert str(indices.tolist()) in line
    assert "Traceback" in (tmp_path / "run" / "logs" / "process_0.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--config.model.widht=1"], 2, "did you mean 'model.width'"),
        (["--config.training.total=8 parsecs"], 2, "training.total is '8 parsecs'"),
        (["--config.data.source=tfds"], 1, "inception_jax.prepare digits --data_dir nowhere"),
        (["--config.data.batch_size=15"], 2, "15 cannot be split evenly over 2 devices"),
        (["--nonsense"], 2, "unknown argument '--nonsense'"),
        (["extra"], 2, "unknown argument 'extra'"),
        (["--config.model.norm=layer"], 2, "model.norm is 'layer'"),
        (["--config.schedule.name=linear"], 2, "schedule.name is 'linear'"),
        (["--config.data.interpolations=linear"], 2, "data.interpolations"),
    ],
)
def test_wrong_input_is_one_clear_line(command, tmp_path, arguments, exit_code, message):
    line = command.fails(
        "train", "--config", "configs/smoke.py", "--workdir", tmp_path / "run",
        "--config.data.data_dir=nowhere", *arguments, exit_code=exit_code, devices=2,
    )  # fmt: skip
    assert message in line
    assert not (tmp_path / "run" / "config.json").exists()  # the folder stays free for the next try


def test_debug_shows_the_traceback(command, tmp_path):
    result = command(
        "train", "--config", "configs/smoke.py", "--workdir", tmp_path, "--debug",
        "--config.schedule.name=linear", exit_code=2,
    )  # fmt: skip
    assert "Traceback" in result.stderr


@pytest.mark.slow
def test_killed_at_random_moments_the_run_is_bit_identical(command, smoke_arguments, tmp_path):
    """45 steps at once, and 45 steps with SIGKILL at three random moments."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    command("train", *smoke_arguments(straight, total=45, every=7))
    seed = time.time_ns() % 1000
    moments = random.Random(seed)
    for _ in range(3):
        process = command.start("train", *smoke_arguments(killed, total=45, every=7))
        log = killed / "metrics.jsonl"
        # Until a few more lines are there, so that moments fall in steps, evaluations and saves.
        wanted = _count_lines(log) + moments.randrange(12)
        while process.poll() is None and _count_lines(log) < wanted:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.1)
        assert process.poll() is None, "it ended before it could be killed: use a longer run"
        process.kill()
        process.communicate()
    command("train", *smoke_arguments(killed, total=45, every=7))
    expected = arrays(straight / "checkpoints" / "45")
    assert arrays(killed / "checkpoints" / "45") == expected, f"seed {seed}"
    assert read_metrics(killed) == read_metrics(straight), f"seed {seed}"


@pytest.mark.slow
def test_clipping_polynomial_and_no_average_train_too(command, smoke_arguments, tmp_path):
    command(
        "train", *smoke_arguments(tmp_path, total=4, every=2),
        "--config.optimizer.gradient_clip=1.0", "--config.schedule.name=polynomial",
        "--config.training.average_decay=0.0", "--config.model.auxiliary=False",
        "--config.model.norm=lrn", "--config.model.dtype=bfloat16",
    )  # fmt: skip
    losses = [line["loss"] for line in read_metrics(tmp_path) if "learning_rate" in line]
    assert np.all(np.isfinite(losses))
