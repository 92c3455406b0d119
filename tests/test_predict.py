"""The predict command, and that no command but prepare would import TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import written_out
from conftest import ROOT
from PIL import Image

from inception_jax import predict
from inception_jax.checkpoints import loaded_model, store


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


def save_images(folder: Path, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Random images 000.png, 001.png, ... of these heights and widths."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    images = []
    for number, (height, width) in enumerate(sizes):
        small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        images.append(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
        Image.fromarray(images[-1]).save(folder / f"{number:03}.png")
    return images


SCALED = "--config.evaluation.short_side=24"  # so that the crops of 16 pixels differ


def check_answers(result, names: list[str], probabilities: np.ndarray) -> None:
    """The lines say which five classes are the likeliest, and how likely."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == names
    for line, row in zip(lines, probabilities, strict=True):
        likeliest = np.argsort(-row, kind="stable")[:5]
        assert [one["label"] for one in line["top"]] == likeliest.tolist()
        found = [one["probability"] for one in line["top"]]
        np.testing.assert_allclose(found, row[likeliest], rtol=1e-4)


@pytest.mark.parametrize(("count", "shown"), [(8, 6), pytest.param(64, 60, marks=pytest.mark.slow)])
def test_a_folder_of_many_images_over_ten_crops(
    command, digits_run, tmp_path, monkeypatch, count, shown
):
    """Each crop as if it were alone, the mean of its probabilities, and a picture of the first."""
    assert predict.SHOWN == 60
    monkeypatch.setattr(predict, "SHOWN", shown)
    sizes = [(9 + 7 * number % 41, 12 + 5 * number % 37) for number in range(count)]
    images = save_images(tmp_path / "images", sizes)
    file, picture = tmp_path / "logits.npy", tmp_path / "grid.png"
    result = command(
        "predict", "--workdir", digits_run, "--images", tmp_path / "images", "--crops", 10, SCALED,
        "--save_logits", file, "--grid", picture,
    )  # fmt: skip
    logits = np.load(file, allow_pickle=False)
    assert (logits.shape, logits.dtype) == ((count, 1, 10, 10), np.float32)
    newest = loaded_model.newest_in(digits_run).path
    alone = written_out.logits(newest, images, short_side=24, crops=10)
    np.testing.assert_allclose(logits[:, 0], alone, rtol=1e-3, atol=1e-4)
    names = [f"{number:03}.png" for number in range(count)]
    check_answers(result, names, written_out.averaged([logits[:, 0]]))
    assert f"the first {shown} of {count}" in result.stderr
    rows = [line.split("│") for line in result.stderr.splitlines() if line.startswith("│")]
    in_table = "".join(row[1].strip() for row in rows)  # long paths go on in the next line
    assert f"{shown - 1:03}.png" in in_table
    assert f"{shown:03}.png" not in in_table
    grid = np.asarray(Image.open(picture))
    assert 2000 * shown / 60 < grid.shape[0] < 8000 * shown / 60
    assert 1000 < grid.shape[1] < 3000
    assert len(np.unique(grid.reshape(-1, grid.shape[2]), axis=0)) > 1000
    assert {path.name for path in tmp_path.iterdir()} == {"images", "logits.npy", "grid.png"}


@pytest.mark.breadth
@pytest.mark.parametrize("average", ["probabilities", "max"])
def test_two_networks_over_the_papers_crops(command, digits_run, second_network, tmp_path, average):
    """They are shown crops of 16 and of 14 pixels, normalised each in its way."""
    images = save_images(tmp_path / "images", [(30, 44), (90, 17), (24, 24)])
    checkpoints = [loaded_model.newest_in(digits_run).path, second_network]
    result = command(
        "predict", "--checkpoint", ",".join(map(str, checkpoints)), "--images",
        tmp_path / "images", "--crops", 144, "--average", average, SCALED,
        "--save_logits", tmp_path / "logits.npy",
    )  # fmt: skip
    logits = np.load(tmp_path / "logits.npy", allow_pickle=False)
    assert (logits.shape, logits.dtype) == ((3, 2, 144, 10), np.float32)
    for network, checkpoint in enumerate(checkpoints):
        alone = written_out.logits(checkpoint, images, short_side=24, crops=144)
        np.testing.assert_allclose(logits[:, network], alone, rtol=1e-3, atol=1e-3)
    probabilities = written_out.averaged([logits[:, 0], logits[:, 1]], average)
    check_answers(result, ["000.png", "001.png", "002.png"], probabilities)


@pytest.mark.slow
def test_any_number_of_images_at_any_batch_size_and_device_count(command, digits_run, data_dir):
    images = [data_dir / "digits_samples" / f"digit_{label}.png" for label in (3, 1, 4)]

    def probabilities(*arguments: object, **options) -> list[float]:
        checkpoint = loaded_model.newest_in(digits_run).path
        result = command(
            "predict", "--checkpoint", checkpoint, "--images", *images, *arguments, **options
        )
        return [json.loads(line)["top"][0]["probability"] for line in result.stdout.splitlines()]

    expected = probabilities()
    assert len(expected) == 3
    assert probabilities("--config.data.batch_size=2") == pytest.approx(expected, rel=1e-4)
    assert probabilities(devices=4) == pytest.approx(expected, rel=1e-4)


def test_what_is_no_image_is_named_in_one_line(command, digits_run, data_dir, tmp_path):
    """And nothing is written, neither logits nor a part of them."""
    good = data_dir / "digits_samples" / "digit_1.png"
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in [
        (text, f"{text} is not a readable image"),
        (empty, f"no images in {empty}"),
        (tmp_path / "gone.png", "no file"),
    ]:
        arguments = ("--workdir", digits_run, "--images", good, path)
        files = ("--save_logits", tmp_path / "x.npy", "--grid", tmp_path / "x.png")
        assert message in command.fails("predict", *arguments, *files, exit_code=1)
        assert sorted(tmp_path.iterdir()) == [empty, text]


def test_where_nothing_can_be_written_is_known_before_the_work(command, digits_run, tmp_path):
    arguments = ("--workdir", digits_run, "--images", tmp_path / "gone.png")
    for flag, path, message in [
        ("--save_logits", tmp_path, "is a folder"),
        ("--grid", tmp_path / "x.xyz", "does not end in .png"),
        ("--grid", tmp_path / "no" / "x.png", "no folder"),
    ]:
        assert message in command.fails("predict", *arguments, flag, path, exit_code=2)


def test_a_damaged_checkpoint_is_passed_over_but_not_moved(command, digits_run, data_dir, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "99999").mkdir(parents=True)
    newest = loaded_model.newest_in(digits_run).path
    (workdir / "checkpoints" / newest.name).symlink_to(newest)
    image = data_dir / "digits_samples" / "digit_1.png"
    result = command("predict", "--workdir", workdir, "--images", image)
    assert "checkpoint 99999 is damaged" in result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert store.steps(workdir / "checkpoints")[-1] == 99999


@pytest.mark.parametrize(
    "name", [pytest.param("train", marks=pytest.mark.breadth), "evaluate", "predict"]
)
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
