"""The predict command, and that no command but prepare would import TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from inception_jax.checkpoints import store
from inception_jax.evaluation import trained


def test_predictions_are_the_networks(command, digits_run, data_dir, tmp_path):
    samples = data_dir / "digits_samples"
    result = command(
        "predict", "--workdir", digits_run, "--images", samples,
        "--save_logits", tmp_path / "logits.npy",
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    logits = np.load(tmp_path / "logits.npy", allow_pickle=False)
    assert (logits.shape, logits.dtype) == ((10, 10), np.float32)
    assert [line["image"] for line in lines] == [
        str(samples / f"digit_{label}.png") for label in range(10)
    ]
    for line, row in zip(lines, logits, strict=True):
        probabilities = np.exp(row) / np.exp(row).sum()
        top = line["top"]
        assert [t["label"] for t in top] == np.argsort(-row)[:5].tolist()
        assert [t["name"] for t in top] == [str(t["label"]) for t in top]
        np.testing.assert_allclose(
            [t["probability"] for t in top], np.sort(probabilities)[::-1][:5], rtol=1e-4
        )
        assert f"{top[0]['name']} {top[0]['probability']:.1%}" in result.stderr
    right = sum(line["top"][0]["label"] == label for label, line in enumerate(lines))
    assert right >= 5


def test_any_number_of_images_at_any_batch_size_and_device_count(command, digits_run, data_dir):
    images = [data_dir / "digits_samples" / f"digit_{label}.png" for label in (3, 1, 4)]

    def probabilities(*arguments: object, **options) -> list[float]:
        checkpoint = trained.newest_in(digits_run)
        result = command(
            "predict", "--checkpoint", checkpoint, "--images", *images, *arguments, **options
        )
        return [json.loads(line)["top"][0]["probability"] for line in result.stdout.splitlines()]

    expected = probabilities()
    assert len(expected) == 3
    assert probabilities("--config.data.batch_size=2") == pytest.approx(expected, rel=1e-4)
    assert probabilities(devices=4) == pytest.approx(expected, rel=1e-4)


def test_what_is_no_image_is_named_in_one_line(command, digits_run, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in [
        (text, f"{text} is not a readable image"),
        (empty, f"no images in {empty}"),
        (tmp_path / "gone.png", "no file"),
    ]:
        arguments = ("--workdir", digits_run, "--images", path)
        assert message in command.fails("predict", *arguments, exit_code=1)


def test_a_damaged_checkpoint_is_passed_over_but_not_moved(command, digits_run, data_dir, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "99999").mkdir(parents=True)
    newest = trained.newest_in(digits_run)
    (workdir / "checkpoints" / newest.name).symlink_to(newest)
    image = data_dir / "digits_samples" / "digit_1.png"
    result = command("predict", "--workdir", workdir, "--images", image)
    assert "checkpoint 99999 is damaged" in result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert store.steps(workdir / "checkpoints")[-1] == 99999


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_no_command_imports_tensorflow(name, command, digits_run, data_dir, tmp_path):
    """A decoy package on the path notes whether anybody imports it."""
    decoy = tmp_path / "decoy" / "tensorflow"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w')\nraise ImportError('decoy')\n"
    )
    arguments = {
        "train": ["--config", "configs/smoke.py", "--workdir", tmp_path / "run",
                  "--config.data.source=tfds", f"--config.data.data_dir={data_dir}",
                  "--config.training.total=1 steps"],
        "evaluate": ["--workdir", digits_run],
        "predict": ["--workdir", digits_run, "--images", data_dir / "digits_samples"],
    }[name]  # fmt: skip
    path = os.pathsep.join([str(decoy.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", f"inception_jax.{name}", *map(str, arguments)],
        check=True, cwd=ROOT, env=command.environment() | {"PYTHONPATH": path},
        capture_output=True,
    )  # fmt: skip
    assert not (tmp_path / "imported").exists()
