"""The state of a run, read from its folder, damaged or not."""

import json

import pytest

from inception_jax.config import compatibility
from inception_jax.config.load import load_config
from inception_jax.storage import locks
from inception_jax.tools.report import runs
from inception_jax.training import run_folder


def write(folder, *lines, total="4 steps", log="", metrics=None):
    """Writes the folder of a run: 4 steps of 16 images, 64 in all."""
    folder.mkdir()
    config = load_config("configs/smoke.py", [f"--config.training.total={total}"])
    (folder / "config.json").write_text(json.dumps(compatibility.to_dict(config)))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text if metrics is None else metrics)
    (folder / "logs").mkdir()
    (folder / "logs" / "process_0.log").write_text(log)
    return folder


STEP_2 = {"step": 2, "epoch": 0.5, "loss": 1.0}
STEP_4 = {"step": 4, "epoch": 1.0, "loss": 0.5}
EVALUATION = {"step": 4, "split": "test", "top1": 0.5}
FAILED = "2026-01-01 00:00:00,000 ERROR error: loss is nan at step 3\n"


@pytest.mark.parametrize("total", ["4 steps", "1 epochs", "64 examples"])
def test_a_run_is_done_when_its_last_step_is_evaluated(tmp_path, total):
    found = run_folder.read(write(tmp_path / "run", STEP_2, STEP_4, EVALUATION, total=total))
    assert (found.status, found.step, found.total_steps) == ("done", 4, 4)
    found = run_folder.read(write(tmp_path / "other", STEP_2, STEP_4, total=total))
    assert (found.status, found.step) == ("stopped", 4)


def test_an_evaluation_on_the_way_is_no_end(tmp_path):
    folder = write(tmp_path / "run", STEP_2, EVALUATION | {"step": 2}, STEP_4)
    assert run_folder.read(folder).status == "stopped"


def test_the_last_line_of_its_log_says_that_it_failed(tmp_path):
    found = run_folder.read(write(tmp_path / "run", STEP_2, log=FAILED))
    assert (found.status, found.note) == ("failed", "loss is nan at step 3")
    went_on = FAILED + "2026-01-01 00:01:00,000 INFO compiling the training step\n"
    assert run_folder.read(write(tmp_path / "again", STEP_2, log=went_on)).status == "stopped"


def test_one_that_is_going_on_holds_its_folder(tmp_path):
    folder = write(tmp_path / "run", STEP_2)
    with locks.hold(folder, "training"):
        assert run_folder.read(folder).status == "running"
    assert run_folder.read(folder).status == "stopped"


def test_nothing_there_is_empty(tmp_path):
    (tmp_path / "run").mkdir()
    assert run_folder.read(tmp_path / "run").status == "empty"
    assert run_folder.read(tmp_path / "nowhere").note == "no such folder"


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ("{broken\n{}\n", ""),
        ("\xff\n", ""),
        ('{"loss": 1}\n', "line 1: 'step' is not a non-negative integer"),
        ('{"step": 1}\n{"step": -1}\n', "line 2: 'step' is not a non-negative integer"),
        ('{"step": 1, "epoch": "one"}\n', "line 1: 'epoch' is not a non-negative number"),
        ('{"step": 1, "split": 5}\n', "line 1: 'split' is not text"),
    ],
)
def test_what_cannot_be_read_is_broken(tmp_path, metrics, problem):
    found = run_folder.read(write(tmp_path / "run", metrics=metrics))
    assert found.status == "broken"
    assert "metrics.jsonl" in found.note
    assert found.note.endswith(problem)


def test_a_config_of_something_else_is_broken(tmp_path):
    folder = write(tmp_path / "run", STEP_2)
    (folder / "config.json").write_text('{"model": {}}')
    assert run_folder.read(folder).status == "broken"


def test_further_evaluations_are_not_the_first(tmp_path):
    """Of `config.evaluations`: they neither end a run nor mix with its evaluations."""
    further = {"step": 4, "split": "train[:9]", "evaluation": "seen", "top1": 0.9}
    folder = write(tmp_path / "stopped", STEP_2, STEP_4, further)
    assert run_folder.read(folder).status == "stopped"
    folder = write(tmp_path / "done", STEP_2, STEP_4, EVALUATION, further)
    assert run_folder.read(folder).status == "done"
    assert run_folder.read(folder).evaluations == [EVALUATION]
    (run,) = runs.read([folder])
    assert [line["top1"] for line in run.evaluations] == [0.5]
    assert [line["step"] for line in run.training] == [2, 4]
