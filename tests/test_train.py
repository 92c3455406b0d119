"""The train command as a user runs it: what it writes, how it resumes, how it fails."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import read_metrics

from inception_jax.checkpoints import integrity, store
from inception_jax.data import order
from inception_jax.runtime import devices, processes
from inception_jax.storage import locks


def arrays(checkpoint: Path) -> dict:
    """Shape, type and checksum of every array; equal means bit-identical."""
    return store.read_description(checkpoint)["arrays"]


@pytest.fixture
def workdir(straight, tmp_path) -> Path:
    """A copy of `straight` to go on with."""
    return Path(shutil.copytree(straight, tmp_path / "run"))


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
    """In a process of its own: here programs have been compiled before, and are shared."""
    monkeypatch.setenv("JAX_LOG_COMPILES", "1")
    arguments = smoke_arguments(tmp_path / "run", total=4, every=1)
    result = command("train", *arguments, "--config.data.fake_examples=56", process=True)
    before, after = result.stderr.split("step 1/4 ")
    assert "Compiling jit(train_step)" in before
    assert after.count("(56 examples)") == 2  # evaluations, and there are as many checkpoints
    assert re.findall(r"Compiling jit\((\w+)\)", after) == ["logits", "answer"]
    assert result.stdout == ""


def test_the_same_command_again_trains_no_further(workdir, command, smoke_arguments):
    before = (workdir / "metrics.jsonl").read_text()
    result = command("train", *smoke_arguments(workdir, total=12, every=2))
    assert "already trained for 12 steps" in result.stderr
    assert (workdir / "metrics.jsonl").read_text() == before


def test_damage_is_named_and_the_run_ends_the_same(straight, workdir, command, smoke_arguments):
    """One flipped bit in the newest checkpoint and an empty directory with a large number."""
    expected, metrics = arrays(straight / "checkpoints" / "12"), read_metrics(straight)
    file = max(
        (workdir / "checkpoints" / "12" / "state").rglob("d/*"), key=lambda p: p.stat().st_size
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    (workdir / "checkpoints" / "123456").mkdir()

    result = command("train", *smoke_arguments(workdir, total=12, every=2))

    assert re.search(r"checkpoint 12 is damaged \((array \S|Orbax cannot read it)", result.stderr)
    assert "checkpoint 123456 is damaged (it has no description)" in result.stderr
    assert f"resuming from {workdir / 'checkpoints' / '10'}" in result.stderr
    assert arrays(workdir / "checkpoints" / "12") == expected
    assert read_metrics(workdir) == metrics
    assert {p.name for p in (workdir / "damaged_checkpoints").iterdir()} == {"12", "123456"}


def test_another_config_is_refused_naming_the_fields(workdir, command, smoke_arguments):
    line = command.fails(
        "train",
        *smoke_arguments(workdir, total=12, every=2),
        "--config.optimizer.momentum=0.5",
        "--config.seed=3",
        exit_code=2,
    )
    assert "optimizer.momentum was 0.9, is 0.5" in line
    assert "seed was 0, is 3" in line


def test_a_checkpoint_of_another_config_is_refused(workdir, command, smoke_arguments):
    """Where config.json is gone, its checkpoints say whose they are."""
    (workdir / "config.json").unlink()
    line = command.fails(
        "train",
        *smoke_arguments(workdir, total=12, every=2),
        "--config.optimizer.momentum=0.5",
        exit_code=2,
    )
    assert "optimizer.momentum was 0.9, is 0.5" in line


def test_two_cannot_train_in_one_folder(workdir, command, smoke_arguments):
    """A real process has it in test_kills.py."""
    with locks.hold(workdir, "training"):
        line = command.fails("train", *smoke_arguments(workdir, total=12, every=2), exit_code=1)
    assert f"another process is training in {workdir}" in line


def test_a_broken_line_of_metrics_loses_nothing(workdir, command, smoke_arguments):
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[2] = "{broken\n"
    (workdir / "metrics.jsonl").write_text("".join(lines))
    line = command.fails("train", *smoke_arguments(workdir, total=12, every=2), exit_code=1)
    assert "metrics.jsonl, line 3, is not a JSON object" in line
    assert (workdir / "metrics.jsonl").read_text() == "".join(lines)


def test_other_data_is_refused(workdir, command, smoke_arguments):
    item = workdir / "checkpoints" / "12" / "description" / "metadata"
    description = json.loads(item.read_text()) | {"data_fingerprint": "another"}
    item.write_text(json.dumps(integrity.with_digest(description)))
    line = command.fails("train", *smoke_arguments(workdir, total=12, every=2), exit_code=2)
    assert "fingerprint" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mine: mine[0].update(seed=3), "its config differs from process 0's in seed"),
        (lambda mine: mine.append("another"), "its data differs from process 0's"),
    ],
)
def test_a_process_that_would_train_something_else_says_so(
    command, smoke_arguments, tmp_path, monkeypatch, change, message
):
    def from_first(mine):
        first = json.loads(json.dumps(mine))
        change(first)
        return first

    monkeypatch.setattr(processes, "broadcast_json", from_first)
    arguments = smoke_arguments(tmp_path / "run", total=12, every=2)
    assert message in command.fails("train", *arguments, exit_code=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.breadth  # two processes that train like one are two devices: faults/test_processes.py
def test_several_devices_train_like_one(straight, command, smoke_arguments, tmp_path):
    workdir = tmp_path / "run"
    command("train", *smoke_arguments(workdir, total=12, every=2), devices=4)
    for one, four in zip(read_metrics(straight), read_metrics(workdir), strict=True):
        assert four["step"] == one["step"]
        assert four["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "often",
    [
        # Also where the step that diverges is one to be logged, saved and evaluated.
        ["--config.training.log_every=1 steps", "--config.evaluation.every=1 steps"],
        pytest.param(
            ["--config.training.log_every=100 steps", "--config.evaluation.every=100 steps"],
            marks=pytest.mark.breadth,
        ),
    ],
    ids=["often", "seldom"],
)
def test_what_is_not_finite_stops_before_a_checkpoint(command, smoke_arguments, tmp_path, often):
    line = command.fails(
        "train",
        *smoke_arguments(tmp_path / "run", total=12, every=1),
        "--config.schedule.learning_rate=1e30",
        *often,
        exit_code=1,
    )
    assert re.match(r"error: \w+ is (inf|nan) at step \d", line)
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
        "--config.data.data_dir=nowhere", *arguments, exit_code=exit_code,
    )  # fmt: skip
    assert message in line
    assert not (tmp_path / "run" / "config.json").exists()  # the folder stays free for the next try


def test_a_batch_that_the_devices_cannot_share_is_refused(
    command, smoke_arguments, tmp_path, monkeypatch
):
    monkeypatch.setattr(devices, "make_mesh", lambda: SimpleNamespace(size=3))
    line = command.fails("train", *smoke_arguments(tmp_path / "run", 12, 2), exit_code=2)
    assert "16 cannot be split evenly over 3 devices: use a multiple of 3" in line


def test_wrong_input_ends_a_process_with_2_and_its_line(command, tmp_path):
    arguments = ("--config", "configs/smoke.py", "--workdir", tmp_path / "run", "--nonsense")
    line = command.fails("train", *arguments, exit_code=2, process=True)
    assert line == "error: unknown argument '--nonsense' (see --help)"


def test_debug_shows_the_traceback(command, tmp_path):
    result = command(
        "train", "--config", "configs/smoke.py", "--workdir", tmp_path, "--debug",
        "--config.schedule.name=linear", exit_code=2,
    )  # fmt: skip
    assert "Traceback" in result.stderr


@pytest.mark.breadth
def test_clipping_polynomial_and_no_average_train_too(command, smoke_arguments, tmp_path):
    command(
        "train", *smoke_arguments(tmp_path, total=4, every=4),
        "--config.optimizer.gradient_clip=1.0", "--config.schedule.name=polynomial",
        "--config.training.average_decay=0.0", "--config.model.auxiliary=False",
        "--config.model.norm=lrn", "--config.model.dtype=bfloat16",
    )  # fmt: skip
    losses = [line["loss"] for line in read_metrics(tmp_path) if "learning_rate" in line]
    assert np.all(np.isfinite(losses))
