"""A folder of somebody's images, of odd sizes and formats and some broken: all the way through."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import read_metrics
from PIL import Image
from sklearn.datasets import load_sample_images

from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import make_description
from inception_jax.config.load import load_config, override_config
from inception_jax.config.resolve import resolve
from inception_jax.data.decode import EncodedImage
from inception_jax.data.sources import open_source
from inception_jax.models.network import build
from inception_jax.models.options import network_config
from inception_jax.runtime import pictures

TINTS = {
    "amber": (1, 0.7, 0.3),
    "blue": (0.3, 0.5, 1),
    "green": (0.4, 1, 0.4),
    "plain": (1, 1, 1),
    "violet": (0.8, 0.3, 1),
}


def save(image: Image.Image, stem: Path, kind: int) -> None:
    match kind:
        case 0:
            image.save(stem.with_suffix(".jpg"))
        case 1:
            image.convert("CMYK").save(stem.with_suffix(".jpeg"))
        case 2:
            image.save(stem.with_suffix(".JPG"), progressive=True)
        case 3:
            image.convert("P").save(stem.with_suffix(".png"))
        case _:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            stem.with_suffix(".jpg").write_bytes(buffer.getvalue())  # a PNG, whatever its name


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Five classes of twelve tinted pieces of photographs, 40 to 150 pixels a side."""
    folder = tmp_path_factory.mktemp("own") / "my images"
    photos = load_sample_images().images
    generator = np.random.default_rng(0)
    for name, tint in TINTS.items():
        (folder / name).mkdir(parents=True)
        for number in range(12):
            height, width = generator.integers(40, 150, 2)
            top, left = generator.integers(0, 400 - height), generator.integers(0, 600 - width)
            piece = photos[number % 2][top : top + height, left : left + width] * np.array(tint)
            image = Image.fromarray(piece.astype(np.uint8))
            save(image, folder / name / f"{name} {number}", number % 5)
    (folder / "amber" / "empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def own_data(command, images, tmp_path_factory) -> Path:
    """The folder, prepared."""
    own_data = tmp_path_factory.mktemp("own_data")
    result = command("prepare", "folder", "--images", images, "--data_dir", own_data, "--seed", 1)
    assert "amber/empty.jpg) is not a readable image (empty, 0 bytes)" in result.stderr
    return own_data


def test_the_compact_set_of_a_folder_has_its_images_made_smaller(command, images, tmp_path):
    command(
        "prepare", "folder", "--images", images, "--data_dir", tmp_path, "--name", "mine",
        "--short_side", 48,
    )  # fmt: skip
    sizes = {}
    for name in ("mine", "mine/short48"):
        data = load_config("configs/folder.py", [f"--config.data.data_dir={tmp_path}"]).data
        data.name = name
        source = open_source(data, "validation", 5)
        examples = [e for e in source.read(range(len(source))) if e.encoded]
        opened = [EncodedImage(e.encoded, e.name) for e in examples]
        sizes[name] = np.array([(image.height, image.width) for image in opened])
    full, compact = sizes.values()
    np.testing.assert_array_equal(compact.min(axis=1), np.minimum(full.min(axis=1), 48))
    ratio, compact_ratio = (size[:, 1] / size[:, 0] for size in (full, compact))
    np.testing.assert_allclose(compact_ratio, ratio, rtol=0.02)


# One set of arguments for all runs: they share compiled code.
SHORT = (
    "--config", "configs/folder.py", "--config.model.architecture=shallow",
    "--config.model.width=0.125", "--config.data.image_size=32", "--config.data.batch_size=16",
    "--config.training.total=6 epochs", "--config.training.average_start=4 epochs",
    "--config.training.log_every=1 steps", "--config.checkpoints.every=2 epochs",
    "--config.checkpoints.keep_last=9",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(command, own_data, tmp_path_factory) -> Path:
    """A short run on it, its own 80 % of the images with the broken one among them."""
    workdir = tmp_path_factory.mktemp("own_runs") / "first"
    command(
        "train", *SHORT, "--workdir", workdir, f"--config.data.data_dir={own_data}",
        "--config.data.max_bad_fraction=0.05",
    )  # fmt: skip
    return workdir


def test_what_the_config_leaves_open_comes_from_the_data(own_data):
    config = load_config("configs/folder.py", [f"--config.data.data_dir={own_data}"])
    resolved = resolve(config)
    assert resolved.model.num_classes == 5
    assert resolved.data.image_size in (64, 96)  # the median of 40..150
    assert resolved.model.stem == ("small" if resolved.data.image_size == 64 else "imagenet")
    assert config.model.num_classes == 0
    config = override_config(config, ["--config.data.image_size=224"])
    resolved = resolve(config)
    assert (resolved.model.stem, resolved.evaluation.short_side) == ("imagenet", 256)


def test_bad_images_are_counted_in_the_metrics(run):
    steps = [line for line in read_metrics(run) if "learning_rate" in line]
    counts = [line["bad_images"] for line in steps]
    assert counts == sorted(counts)
    assert counts[-1] == 6  # one in each epoch
    log = (run / "logs" / "process_0.log").read_text()
    assert len(re.findall(r"amber/empty.jpg\) is not a readable image.*another is taken", log)) == 1
    newest = max(store.steps(run / "checkpoints"))
    assert store.read_description(run / "checkpoints" / str(newest))["bad_images"] == 6


def test_the_run_learned_and_knows_the_class_names(command, run, images):
    result = json.loads(command("evaluate", "--workdir", run).stdout)
    assert result["examples"] == 11  # a fifth of 12 or 13, in five classes
    assert result["bad_images"] == 0
    pieces = [images / name / f"{name} 0.jpg" for name in TINTS]
    output = command("predict", "--workdir", run, "--images", *pieces).stdout
    top = [json.loads(line)["top"] for line in output.splitlines()]
    assert all({entry["name"] for entry in entries} == set(TINTS) for entries in top)


def test_a_run_with_bad_images_resumes_exactly(command, own_data, run, tmp_path):
    """As after a kill in the third epoch: of the checkpoints only the first is left."""
    workdir = tmp_path / "again"
    shutil.copytree(run, workdir)
    first, *later = sorted(store.steps(workdir / "checkpoints"))
    assert len(later) == 3
    for step in later:
        shutil.rmtree(workdir / "checkpoints" / str(step))
    result = command(
        "train", *SHORT, "--workdir", workdir, f"--config.data.data_dir={own_data}",
        "--config.data.max_bad_fraction=0.05",
    )  # fmt: skip
    assert f"resuming from {workdir / 'checkpoints' / str(first)}\n" in result.stderr
    assert read_metrics(workdir) == read_metrics(run)


def test_too_many_bad_images_stop_a_run_until_they_are_allowed(command, own_data, tmp_path):
    line = command.fails(
        "train", *SHORT, "--workdir", tmp_path / "run", f"--config.data.data_dir={own_data}",
        exit_code=1,
    )  # fmt: skip
    assert re.search(r"1 unreadable training images up to step \d, more than", line)
    assert "data.max_bad_fraction=0.01" in line
    result = command(
        "train", *SHORT, "--workdir", tmp_path / "run", f"--config.data.data_dir={own_data}",
        "--config.data.max_bad_fraction=0.05",
    )  # fmt: skip
    assert "trained folder for" in result.stderr


def test_preview_is_a_picture(command, own_data, tmp_path):
    arguments = ["--config", "configs/folder.py", f"--config.data.data_dir={own_data}"]
    command("train", *arguments, "--workdir", tmp_path, "--preview", 11)
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 300
    assert not (tmp_path / "config.json").exists()
    line = command.fails("train", *arguments, "--workdir", tmp_path, "--preview", 0, exit_code=2)
    assert "'0' is not a whole number from 1 up" in line


@pytest.fixture(scope="module")
def digits_network(tmp_path_factory) -> Path:
    """A checkpoint with averaged weights of such a network, for ten other classes."""
    config = load_config("configs/folder.py", [*SHORT[2:], "--config.model.num_classes=10"])
    config.model.stem, config.evaluation.short_side = "small", 32
    params, batch_stats = build(network_config(config)).initial(seed=1)
    directory = tmp_path_factory.mktemp("digits") / "network"
    description = make_description(config, [str(digit) for digit in range(10)], None)
    average = {"params": params, "batch_stats": batch_stats}
    store.write(directory, {"average": average}, description)
    return directory


def test_fine_tuning_starts_from_a_checkpoint_with_a_new_head(
    command, own_data, digits_network, tmp_path
):
    """From digits (ten classes) to the five classes here; the first layers frozen."""
    checkpoint = digits_network
    result = command(
        "train", *SHORT, "--workdir", tmp_path / "run",
        f"--config.data.data_dir={own_data}", f"--config.model.init_from={checkpoint}",
        "--config.training.total=4 steps", "--config.training.average_decay=0.0",
        "--config.data.max_bad_fraction=0.05", "--config.schedule.warmup=0 steps",
        '--config.optimizer.learning_rate_factors=(("conv", 0.0), ("inception_3", 0.1))',
    )  # fmt: skip
    assert f"starting from {checkpoint} (average weights" in result.stderr
    assert "start afresh: loss1/classifier, loss3/classifier" in result.stderr
    old = store.read_description(checkpoint)["arrays"]
    new = store.read_description(tmp_path / "run" / "checkpoints" / "4")["arrays"]
    frozen = [name for name in new if re.match("params/conv.*/kernel", name)]
    assert len(frozen) > 1
    for name in frozen:
        assert new[name] == old[f"average/{name}"], name
    assert new["params/inception_3a/1x1/kernel"] != old["average/params/inception_3a/1x1/kernel"]
    assert new["params/loss3/classifier/kernel"]["shape"][-1] == 5


def test_another_architecture_cannot_be_fine_tuned(command, own_data, digits_network, tmp_path):
    line = command.fails(
        "train", *SHORT, "--workdir", tmp_path / "run",
        f"--config.data.data_dir={own_data}", f"--config.model.init_from={digits_network}",
        "--config.model.width=0.25", exit_code=2,
    )  # fmt: skip
    assert "inception_3a/1x1/kernel is " in line
    line = command.fails(
        "train", *SHORT, "--workdir", tmp_path / "other",
        f"--config.data.data_dir={own_data}", "--config.model.init_from=nowhere", exit_code=1,
    )  # fmt: skip
    assert "no checkpoint directory 'nowhere'" in line


def write_images(folder: Path, names: tuple[str, ...], seed: int, per_class: int = 4) -> None:
    generator = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 256, (60, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_a_compact_set_is_never_that_of_other_images(command, tmp_path):
    """The base is prepared anew under the same name, with as many images of other classes."""
    arguments = ["folder", "--data_dir", tmp_path / "data", "--short_side", 32, "--images"]
    write_images(tmp_path / "one", ("a", "b"), seed=0)
    command("prepare", *arguments, tmp_path / "one")
    write_images(tmp_path / "two", ("yak", "zebra"), seed=1)
    line = command.fails("prepare", *arguments, tmp_path / "two", exit_code=1)
    assert "was prepared from other files" in line
    shutil.rmtree(tmp_path / "data" / "folder" / "1.0.0")
    line = command.fails("prepare", *arguments, tmp_path / "two", exit_code=1)
    assert "short32/1.0.0 was made from other data than" in line
    shutil.rmtree(tmp_path / "data" / "folder" / "short32")
    command("prepare", *arguments, tmp_path / "two")


def test_files_that_changed_under_the_same_names_are_noticed(command, tmp_path):
    write_images(tmp_path / "images", ("a", "b"), seed=0)
    arguments = ["folder", "--data_dir", tmp_path / "data", "--images", tmp_path / "images"]
    command("prepare", *arguments)
    assert "is there already" in command("prepare", *arguments).stderr
    Image.fromarray(np.zeros((90, 80, 3), np.uint8)).save(tmp_path / "images" / "a" / "1.png")
    assert "was prepared from other files" in command.fails("prepare", *arguments, exit_code=1)


def test_links_are_followed_once(command, tmp_path):
    write_images(tmp_path / "images", ("a", "b"), seed=0)
    (tmp_path / "images" / "a" / "self").symlink_to(".")
    (tmp_path / "images" / "a" / "up").symlink_to("..")
    result = command(
        "prepare", "folder", "--data_dir", tmp_path / "data", "--images", tmp_path / "images"
    )
    assert "train 6, validation 2 images" in result.stderr


def test_splits_are_told_from_classes(command, tmp_path):
    """Capitals do not matter, a class may be called train, and nothing is left out silently."""
    prepare = ["prepare", "folder", "--data_dir", tmp_path / "data"]
    for split in ("Train", "Val", "Test"):
        write_images(tmp_path / "splits" / split, ("a", "b"), seed=len(split))
    result = command(*prepare, "--images", tmp_path / "splits", "--name", "splits")
    assert "test 8, train 8, validation 8 images" in result.stderr
    write_images(tmp_path / "vehicles", ("bus", "train"), seed=0)
    result = command(*prepare, "--images", tmp_path / "vehicles", "--name", "vehicles")
    assert "train 6, validation 2 images" in result.stderr
    write_images(tmp_path / "splits" / "validation", ("a", "b"), seed=9)
    line = command.fails(*prepare, "--images", tmp_path / "splits", exit_code=1)
    assert "has two folders for validation" in line
    shutil.rmtree(tmp_path / "splits" / "validation")
    write_images(tmp_path / "splits" / "extra", ("a", "b"), seed=9)
    line = command.fails(*prepare, "--images", tmp_path / "splits", exit_code=1)
    assert "has folders of splits, and extra, which is not one" in line


@pytest.mark.parametrize(
    ("name", "message"), [(" cat", "begins or ends with a space"), ("c\nat", "a line break")]
)
def test_class_names_that_cannot_be_stored_are_refused(command, tmp_path, name, message):
    write_images(tmp_path / "images", ("b", name), seed=0)
    line = command.fails(
        "prepare", "folder", "--data_dir", tmp_path / "data", "--images", tmp_path / "images",
        exit_code=1,
    )  # fmt: skip
    assert message in line


def test_names_of_other_data_sets_are_refused(command, images, tmp_path):
    line = command.fails(
        "prepare", "folder", "--data_dir", tmp_path, "--images", images, "--name", "digits",
        exit_code=2,
    )  # fmt: skip
    assert "--name digits is the name of another data set" in line


def test_titles_of_pictures_are_taken_as_they_are(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    pictures.grid([image, image], ["$x_{$", "\u732b"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
