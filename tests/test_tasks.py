"""A task from outside of the package, and several evaluations in a run."""

import contextlib
import json
import sys
import types
from typing import Any

import pytest
import rotation_task
from conftest import read_metrics
from tensorboardX.proto.event_pb2 import Event

from inception_jax.checkpoints import store
from inception_jax.config import checking, task_registry
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.errors import PreemptedError
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import devices, preemption, watchdog
from inception_jax.tasks import make_task
from inception_jax.tasks.classification import evaluation
from inception_jax.tools.interop import formats
from inception_jax.training.metrics_log import MetricsLog

ROTATION = """
from configs import digits

def get_config(argument=None):
    config = digits.get_config(argument).unlock()
    config.task = "rotation"
    config.rotation = dict(turns=4)
    config.model.update(num_classes=0, architecture="shallow", width=0.125)
    config.data.flip = False
    return config
"""


@pytest.fixture
def rotation(tmp_path, monkeypatch, data_dir) -> list[str]:
    """Flags of a run of a task that tests/rotation_task.py brings."""
    monkeypatch.setitem(task_registry.TASKS, "rotation", "rotation_task")
    (tmp_path / "rotation.py").write_text(ROTATION)
    return [
        "--config", str(tmp_path / "rotation.py"), f"--config.data.data_dir={data_dir}",
        "--config.training.total=40 steps", "--config.training.average_decay=0",
        "--config.evaluation.every=14 steps", "--config.training.log_every=5 steps",
    ]  # fmt: skip


def test_a_task_from_outside_trains_ranks_and_resumes(command, rotation, tmp_path, monkeypatch):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    result = command("train", *rotation, "--workdir", straight)
    lines = read_metrics(straight)
    evaluations = [line for line in lines if "split" in line]
    assert len(evaluations) == 3
    assert evaluations[-1]["accuracy"] > 0.4  # chance is 0.25
    assert f"accuracy {evaluations[-1]['accuracy']:.4f}" in result.stderr
    assert all("top1" not in line for line in lines)

    best = max(evaluations, key=lambda line: line["accuracy"])
    assert best["step"] in store.steps(straight / "checkpoints")
    newest = max(store.steps(straight / "checkpoints"))
    described = store.read_description(straight / "checkpoints" / str(newest))
    assert described["config"]["rotation"] == {"turns": 4}

    checks = iter(range(10**6))

    def stop_at_the_20th() -> None:
        if next(checks) == 20:
            raise PreemptedError("terminated: the same command goes on")

    with monkeypatch.context() as patch:
        patch.setattr(preemption, "check", stop_at_the_20th)
        command("train", *rotation, "--workdir", stopped, exit_code=42)
    command("train", *rotation, "--workdir", stopped)
    assert read_metrics(stopped) == lines

    other = [*rotation, "--workdir", straight, "--config.rotation.turns=3"]
    assert "rotation.turns was 4, is 3" in command.fails("train", *other, exit_code=2)
    line = command.fails("evaluate", "--workdir", straight, exit_code=2)
    assert "was trained for the task 'rotation'; this command is for classification" in line


def test_what_is_for_classification_alone_says_so(command, rotation, tmp_path):
    run, page = tmp_path / "run", tmp_path / "report.html"
    command("train", *rotation, "--workdir", run)
    (checkpoint, *_) = (run / "checkpoints").iterdir()
    another_task = "was trained for the task 'rotation'; this command is for classification"
    for name in formats.EXPORTED:
        flags = ["--workdir", run, "--to", name, "--output", tmp_path / "exported"]
        assert another_task in command.fails("export", *flags, exit_code=2)
        assert not (tmp_path / "exported").exists()

    result = command("report", run, "--output", page)
    assert another_task in result.stderr
    text = page.read_text()
    note = "its evaluations have no top-1: the task is rotation"
    assert f"{note}</td>" in text
    assert "They cannot be drawn: " in text
    assert "IndexError" not in text
    assert "run, training" in text  # a curve
    assert '"text":"loss"' in text
    assert '"text":"top-1"' not in text
    command("report", run, "--checkpoint", checkpoint, "--output", page, exit_code=2)
    table = command("report", run, "--format", "markdown").stdout
    assert note in table
    assert "nan" not in table


def test_fields_of_a_task_are_checked_as_all_others(command, rotation, tmp_path):
    workdir = ["--workdir", tmp_path / "run"]
    line = command.fails("train", *rotation, *workdir, "--config.rotation.turns=5", exit_code=2)
    assert "rotation.turns is 5" in line
    line = command.fails("train", *rotation, *workdir, "--config.rotation.turn=3", exit_code=2)
    assert "did you mean 'rotation.turns'?" in line
    line = command.fails("train", *rotation, *workdir, "--config.task=rotatoin", exit_code=2)
    assert "rotation" in line


SEVERAL = """
from configs import smoke

def get_config(argument=None):
    config = smoke.get_config(argument).unlock()
    config.evaluations = {
        "ten": {"crops": 10, "every": "2 steps"},
        "seen": {"split": "train[:20]", "every": "6 steps"},
    }
    config.evaluation.every = "4 steps"
    config.training.total = "8 steps"
    config.checkpoints.every = "3 steps"
    return config
"""


def named(lines: list[dict[str, Any]]) -> list[tuple[int, str, str, int]]:
    return [
        (line["step"], line.get("evaluation", ""), line["split"], line["examples"])
        for line in lines
        if "split" in line
    ]


def test_a_run_has_several_evaluations(command, tmp_path, monkeypatch):
    file = tmp_path / "several.py"
    file.write_text(SEVERAL)
    run = ["--config", file, "--workdir"]
    command("train", *run, tmp_path / "one")
    lines = read_metrics(tmp_path / "one")
    smoke = next(line["examples"] for line in lines if line.get("split"))
    assert named(lines) == [
        (2, "ten", "test", smoke),
        (4, "", "test", smoke), (4, "ten", "test", smoke),
        (6, "seen", "train[:20]", 20), (6, "ten", "test", smoke),
        (8, "", "test", smoke), (8, "seen", "train[:20]", 20), (8, "ten", "test", smoke),
    ]  # fmt: skip
    results = {line.get("evaluation", ""): line for line in lines if "split" in line}
    assert results[""]["loss"] != results["ten"]["loss"]

    # The same numbers as of the command, asked for the same.
    asked = {"": [], "ten": ["--crops", "10"], "seen": ["--split", "train[:20]"]}
    for name, flags in asked.items():
        told = json.loads(command("evaluate", "--workdir", tmp_path / "one", *flags).stdout)
        assert told["loss"] == pytest.approx(results[name]["loss"], rel=1e-6)
        assert told["top1"] == results[name]["top1"]

    # Stopped in the middle of evaluations: all of this step are made again, no line twice.
    checks = iter(range(10**6))

    def stop_in_an_evaluation() -> None:
        if next(checks) == STOP:
            raise PreemptedError("terminated: the same command goes on")

    for STOP in (3, 5, 9):  # noqa: N806
        checks = iter(range(10**6))
        folder = tmp_path / f"stopped_{STOP}"
        with monkeypatch.context() as patch:
            patch.setattr(preemption, "check", stop_in_an_evaluation)
            command("train", *run, folder, exit_code=42)
        command("train", *run, folder)
        assert read_metrics(folder) == lines


def test_wrong_evaluations_are_named(command, tmp_path):
    file = tmp_path / "several.py"
    file.write_text(SEVERAL)
    run = ["train", "--config", file, "--workdir", tmp_path / "run"]
    line = command.fails(*run, "--config.evaluations.ten.crops=11", exit_code=2)
    assert "evaluations.ten.crops is 11" in line
    line = command.fails(*run, "--config.evaluations.ten.every=0 steps", exit_code=2)
    assert "evaluations.ten.every is '0 steps'; it must be at least one step" in line
    file.write_text(SEVERAL.replace('"crops"', '"crop"'))
    line = command.fails(*run, exit_code=2)
    assert "'evaluations.ten.crop'" in line
    assert "crops" in line


def test_results_know_the_version_of_the_protocol(command, digits_run, monkeypatch):
    def evaluated() -> list[float]:
        lines = command("evaluate", "--workdir", digits_run, "--all_checkpoints").stdout
        return [json.loads(line)["images_per_second"] for line in lines.splitlines()]

    first = evaluated()
    assert evaluated() == first  # from the files
    monkeypatch.setattr(evaluation, "PROTOCOL_VERSION", 2)
    assert evaluated() != first


def test_every_checkpoint_is_evaluated_under_the_watchdog(command, digits_run, monkeypatch):
    watched = []

    @contextlib.contextmanager
    def watch(minutes):
        watched.append(minutes)
        yield

    monkeypatch.setattr(watchdog, "watch", watch)
    split = ["--split", "test[:7]"]  # that nobody has asked for before
    command("evaluate", "--workdir", digits_run, "--all_checkpoints", *split)
    assert watched == [30.0] * len(store.steps(digits_run / "checkpoints"))


def test_curves_of_evaluations_do_not_mix(tmp_path):
    with MetricsLog(tmp_path, resume_step=0) as log:
        log.write(1, {"loss": 1.0})
        log.write(1, {"loss": 2.0}, "test")
        log.write(1, {"loss": 3.0}, "test", "training")
        log.write(1, {"loss": 4.0}, "train", "test")
    (board,) = (tmp_path / "tensorboard").iterdir()
    records = board.read_bytes()
    tags: dict[str, float] = {}
    while records:  # length, its checksum, the event, its checksum
        size = int.from_bytes(records[:8], "little")
        event = Event.FromString(records[12 : 12 + size])
        tags |= {value.tag: value.simple_value for value in event.summary.value}
        records = records[16 + size :]
    assert tags == {
        "training/loss": 1.0, "test/loss": 2.0,
        "evaluations/training/loss": 3.0, "evaluations/test/loss": 4.0,
    }  # fmt: skip


def test_another_evaluation_makes_another_run(command, tmp_path):
    file, workdir = tmp_path / "several.py", tmp_path / "run"
    file.write_text(SEVERAL.replace('"8 steps"', '"2 steps"').replace('"4 steps"', '"2 steps"'))
    command("train", "--config", file, "--workdir", workdir)
    file.write_text(file.read_text().replace('"ten": {', '"plain": {}, "ten": {'))
    line = command.fails("train", "--config", file, "--workdir", workdir, exit_code=2)
    assert "evaluations.plain" in line


def test_a_task_that_is_not_complete_is_named(command, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(ROTATION.replace('"rotation"', '"broken"'))
    broken = types.ModuleType("broken_task")
    monkeypatch.setitem(sys.modules, "broken_task", broken)
    monkeypatch.setitem(task_registry.TASKS, "broken", "broken_task")
    train = ["train", "--config", tmp_path / "broken.py", "--workdir", tmp_path / "run"]
    line = command.fails(*train, exit_code=2)
    assert "the module broken_task of the task 'broken' has no SECTIONS" in line
    vars(broken).update(vars(rotation_task), SECTIONS={"data": rotation_task.RotationSection})
    checking.declared.cache_clear()
    line = command.fails(*train, exit_code=2)
    assert "the task 'broken' has a section 'data', which all configs have" in line


def test_an_evaluation_shows_that_it_makes_progress(rotation, monkeypatch):
    """Else one longer than training.watchdog would count as stuck, again and again."""
    config = load_config(rotation[1], rotation[2:])
    beats = []
    monkeypatch.setattr(watchdog, "beat", lambda: beats.append(1))
    network, mesh = build(network_config(resolve(config))), devices.make_mesh()
    evaluator = make_task(resolve(config)).evaluator(network, config.evaluation, mesh)
    evaluator.run(*network.initial(0))
    assert len(beats) == 4


def test_weights_of_another_task_keep_their_classifier(command, rotation, digits_run, tmp_path):
    """Ten digits are not ten turns: the head starts afresh, whatever its size."""
    start = f"--config.model.init_from={max((digits_run / 'checkpoints').iterdir())}"
    short = [*rotation, start, "--config.training.total=1 steps", "--workdir", tmp_path / "run"]
    said = command("train", *short).stderr
    assert "these start afresh: " in said
    assert "loss3/classifier" in said
