"""Data preparation: the same images, labels and names out as in; nothing half-written passes."""

import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ilsvrc_archive
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import ROOT
from ilsvrc_archive import encode, photograph, pixels
from PIL import Image

from inception_jax.config import configuration
from inception_jax.data.preparing import fashion_mnist
from inception_jax.data.preparing import folder as folders
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError

TRAIN, VALIDATION = ilsvrc_archive.train_files(), ilsvrc_archive.validation_files()
SPLITS = {"train": TRAIN, "validation": VALIDATION}
REENCODED = {ilsvrc_archive.CMYK_NAME, ilsvrc_archive.PNG_NAME}
VERSION_FOLDER = Path("imagenet2012") / "5.1.0"

Records = dict[tuple[str, int], bytes]  # the encoded image by file name and label


def read(folder: Path, split: str) -> Records:
    """A split as TFDS itself reads it."""
    builder = tfds.builder_from_directory(folder)
    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    records = {(e["file_name"].decode(), int(e["label"])): e["image"] for e in source}
    assert len(records) == len(source)
    return records


def read_all(folder: Path) -> dict[str, Records]:
    return {split: read(folder, split) for split in tfds.builder_from_directory(folder).info.splits}


def expected_keys() -> dict[str, list[tuple[str, int]]]:
    """The file names and labels in the small ILSVRC."""
    return {split: sorted((f.name, f.label) for f in files) for split, files in SPLITS.items()}


def keys(folder: Path) -> dict[str, list[tuple[str, int]]]:
    return {split: sorted(records) for split, records in read_all(folder).items()}


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits until the condition holds; fails if the process ends before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def unfinished(folder: Path) -> list[Path]:
    """The folders that TFDS is writing, by their name."""
    return [path for path in folder.glob("*/*") if "incomplete" in path.name]


# ILSVRC2012 from the archives


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """The two official archives, made small."""
    return ilsvrc_archive.write_archives(
        tmp_path_factory.mktemp("ilsvrc") / "archives", TRAIN, VALIDATION
    )


def killed(data_dir: Path) -> Path:
    """A folder that a killed preparation left, named as TFDS does."""
    return (data_dir / VERSION_FOLDER).with_name("incomplete.A1B2C3_5.1.0")


@pytest.fixture(scope="module")
def from_archives(command, archives, tmp_path_factory) -> tuple[Path, str]:
    """The results and messages of `prepare ilsvrc2012` on archives, after a kill."""
    data_dir = tmp_path_factory.mktemp("from_archives")
    killed(data_dir).mkdir(parents=True)
    (killed(data_dir) / "half a shard").touch()
    result = command("prepare", "ilsvrc2012", "--manual_dir", archives, "--data_dir", data_dir)
    assert result.stdout == ""
    return data_dir, result.stderr


def test_archives_become_records_with_their_labels_and_file_names(from_archives):
    data_dir, _ = from_archives
    found = read_all(data_dir / VERSION_FOLDER)
    assert {split: sorted(records) for split, records in found.items()} == expected_keys()
    for split, files in SPLITS.items():
        for file in files:
            content = found[split][file.name, file.label]
            assert ilsvrc_archive.class_number(pixels(content)) == file.label
            if file.name not in REENCODED:
                assert content == file.content


def test_the_cmyk_and_png_files_become_rgb_jpegs(from_archives):
    records = read(from_archives[0] / VERSION_FOLDER, "train")
    for file in (file for file in TRAIN if file.name in REENCODED):
        content = records[file.name, file.label]
        assert content.startswith(b"\xff\xd8")
        assert content != file.content
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        error = np.abs(pixels(content).astype(int) - file.pixels)
        assert error.mean() < 4, file.name


def test_the_classes_are_the_packaged_ones_and_a_part_is_called_incomplete(from_archives):
    data_dir, said = from_archives
    info = tfds.builder_from_directory(data_dir / VERSION_FOLDER).info
    assert info.features["label"].names == ilsvrc_archive.wnids()
    assert "is not complete: train has 20 of 1,281,167 images" in said
    assert "is not complete: validation has 9 of 50,000 images" in said


def test_what_a_killed_preparation_from_archives_left_is_removed(from_archives):
    data_dir, said = from_archives
    assert f"removing {killed(data_dir)}, which was never finished" in said
    assert not unfinished(data_dir)


def test_a_second_preparation_finds_the_first(command, archives, from_archives):
    data_dir, _ = from_archives
    before = read_all(data_dir / VERSION_FOLDER)
    again = command("prepare", "ilsvrc2012", "--manual_dir", archives, "--data_dir", data_dir)
    assert f"{data_dir / VERSION_FOLDER} is there already" in again.stderr
    assert read_all(data_dir / VERSION_FOLDER) == before


def test_the_papers_config_trains_and_evaluates_on_it_without_tensorflow(
    command, from_archives, tmp_path
):
    """At the paper's 224 pixels; TensorFlow is installed, and neither command imports it."""
    workdir = tmp_path / "run"
    script = (
        "import sys\n"
        "from inception_jax import cli, evaluate, train\n"
        "end = cli.invoke(train.main, train.make_parser(), sys.argv[1:])\n"
        "assert end == (0, ''), end\n"
        "end = cli.invoke(evaluate.main, evaluate.make_parser(), ['--workdir', sys.argv[1][10:]])\n"
        "assert end == (0, ''), end\n"
        "assert 'inception_jax.data.sources' in sys.modules\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    arguments = (
        f"--workdir={workdir}", "--config", "configs/googlenet.py",
        f"--config.data.data_dir={from_archives[0]}", "--config.data.batch_size=4",
        "--config.data.threads=2", "--config.model.architecture=shallow",
        "--config.model.width=0.03125", "--config.model.auxiliary=False",
        "--config.training.total=2 steps",
        "--config.training.log_every=1 steps", "--config.evaluation.every=2 steps",
        "--config.checkpoints.every=2 steps",
    )  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT, env=command.environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "split" not in line] == [1, 2]
    assert [line["examples"] for line in lines if line.get("split") == "validation"] == [9]
    evaluation = json.loads(result.stdout)
    assert (evaluation["examples"], evaluation["bad_images"]) == (len(VALIDATION), 0)


def test_one_archive_without_the_other_is_refused(command, archives, tmp_path):
    shutil.copy(archives / "ILSVRC2012_img_train.tar", tmp_path)
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", tmp_path, "--data_dir", tmp_path / "data",
        exit_code=1,
    )  # fmt: skip
    assert "ILSVRC2012_img_val.tar" in line


def test_archives_without_tensorflow_name_the_extra(command, archives, tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no tensorflow here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", archives, "--data_dir", tmp_path / "data",
        exit_code=1, process=True,
    )  # fmt: skip
    assert "inception_jax[prepare]" in line


def test_a_truncated_archive_is_named_and_leaves_no_data(command, archives, tmp_path):
    manual = tmp_path / "archives"
    shutil.copytree(archives, manual)
    train = manual / "ILSVRC2012_img_train.tar"
    os.truncate(train, train.stat().st_size // 2)
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", manual, "--data_dir", tmp_path / "data",
        exit_code=1,
    )  # fmt: skip
    assert str(manual) in line
    assert not (tmp_path / "data" / VERSION_FOLDER).exists()


# ILSVRC2012 from folders


def kaggle(path: Path) -> Path:
    """LOC_val_solution.csv: a heading, no suffixes, boxes behind the WNID."""
    lines = [f"{Path(f.name).stem},{f.wnid} 1 2 30 40 {f.wnid} 5 6 7 8 " for f in VALIDATION]
    path.write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")
    return path


def caffe(path: Path) -> Path:
    """val.txt: file names and class numbers."""
    path.write_text("".join(f"{f.name} {f.label}\n" for f in VALIDATION))
    return path


@pytest.mark.parametrize("form", ["official", "by_class", "kaggle", "caffe"])
def test_folders_give_the_same_labels_and_names_as_the_archives(command, tmp_path, form):
    images = ilsvrc_archive.write_folders(
        tmp_path / "images", TRAIN, VALIDATION, val_by_class=form == "by_class"
    )
    labels: list[object] = []
    if form in ("kaggle", "caffe"):
        write = {"kaggle": kaggle, "caffe": caffe}[form]
        labels = ["--validation_labels", write(tmp_path / "labels")]
    data_dir = tmp_path / "data"
    command("prepare", "ilsvrc2012", "--manual_dir", images, "--data_dir", data_dir, *labels)
    found = read_all(data_dir / VERSION_FOLDER)
    assert {split: sorted(records) for split, records in found.items()} == expected_keys()
    for split, files in SPLITS.items():
        assert all(found[split][file.name, file.label] == file.content for file in files)


def test_given_labels_count_for_more_than_the_official_ones(command, tmp_path):
    images = ilsvrc_archive.write_folders(tmp_path / "images", TRAIN, VALIDATION[:2])
    labels = tmp_path / "val.txt"
    labels.write_text("".join(f"{file.name} 7\n" for file in VALIDATION[:2]))
    command(
        "prepare", "ilsvrc2012", "--manual_dir", images, "--validation_labels", labels,
        "--data_dir", tmp_path / "data",
    )  # fmt: skip
    records = read(tmp_path / "data" / VERSION_FOLDER, "validation")
    assert sorted(records) == [(file.name, 7) for file in VALIDATION[:2]]


@pytest.fixture
def images(tmp_path) -> Path:
    """A small ILSVRC as folders, to be spoilt."""
    return ilsvrc_archive.write_folders(tmp_path / "images", TRAIN, VALIDATION)


@pytest.fixture
def refusal(command, images, tmp_path) -> Callable[..., str]:
    """Runs `prepare ilsvrc2012` on the spoilt folders and returns the line of the error."""

    def run(*arguments: object) -> str:
        line = command.fails(
            "prepare", "ilsvrc2012", "--manual_dir", images, "--data_dir", tmp_path / "data",
            *arguments, exit_code=1,
        )  # fmt: skip
        assert not (tmp_path / "data" / VERSION_FOLDER).exists()
        return line

    return run


def test_a_folder_that_is_no_wnid_is_named(images, refusal):
    shutil.copytree(images / "train" / "n01440764", images / "train" / "tench")
    assert f"{images / 'train' / 'tench'} is not named by a WNID of ILSVRC2012" in refusal()


def test_a_validation_file_without_a_label_is_named(images, refusal):
    stranger = images / "val" / "photo.JPEG"
    shutil.copy(images / "val" / VALIDATION[0].name, stranger)
    assert f"{stranger} has no label: --validation_labels" in refusal()


def test_a_missing_validation_folder_is_named(images, refusal):
    shutil.rmtree(images / "val")
    assert "val or validation" in refusal()


@pytest.mark.parametrize(
    "wrong", ["ILSVRC2012_val_00000002.JPEG 1000", "ILSVRC2012_val_00000002.JPEG", "photo.JPEG 3"]
)
def test_a_malformed_line_of_labels_is_named(refusal, tmp_path, wrong):
    labels = tmp_path / "val.txt"
    labels.write_text(f"ILSVRC2012_val_00000001.JPEG 65\n{wrong}\n")
    line = refusal("--validation_labels", labels)
    assert f"{labels}, line 2: expected a file name and a WNID or 0..999" in line


# ILSVRC2012 from a TFDS directory


@pytest.fixture(scope="module")
def tfrecord(archives, tmp_path_factory) -> Path:
    """A data_dir as people have it: TFDS's own preparation, TFRecord, three shards a split."""
    data_dir = tmp_path_factory.mktemp("tfrecord")
    builder = tfds.builder("imagenet2012", data_dir=data_dir, file_format="tfrecord")
    config = tfds.download.DownloadConfig(manual_dir=archives, num_shards=3)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=config)
    assert len(list((data_dir / VERSION_FOLDER).glob("*-train.tfrecord-*-of-00003"))) == 3
    return data_dir


@pytest.fixture(scope="module")
def converted(command, tfrecord, tmp_path_factory) -> Path:
    """The TFRecord directory as ArrayRecord, made without the archives."""
    data_dir = tmp_path_factory.mktemp("converted")
    command("prepare", "ilsvrc2012", "--manual_dir", tfrecord, "--data_dir", data_dir)
    return data_dir


def copy_of(data_dir: Path, new: Path) -> Path:
    shutil.copytree(data_dir, new)
    return new


def test_tfrecord_becomes_array_record_with_the_same_bytes_in_the_same_order(
    converted, from_archives, tfrecord
):
    assert read_all(converted / VERSION_FOLDER) == read_all(from_archives[0] / VERSION_FOLDER)
    old, new = (
        json.loads((data_dir / VERSION_FOLDER / "dataset_info.json").read_text())
        for data_dir in (tfrecord, converted)
    )
    assert [split["shardLengths"] for split in new["splits"]] == [
        split["shardLengths"] for split in old["splits"]
    ]
    assert (old["fileFormat"], new["fileFormat"]) == ("tfrecord", "array_record")


def test_a_killed_conversion_is_not_trained_on_and_goes_on(command, converted, tfrecord, tmp_path):
    data_dir = copy_of(converted, tmp_path / "data")
    folder = data_dir / VERSION_FOLDER
    finished = sorted(folder.glob("*.array_record-*"))
    (folder / "dataset_info.json").unlink()
    for shard in finished[::2]:
        shard.rename(shard.with_name(f"{shard.name}.partial"))
    finished[1].with_name("x.partial").write_bytes(b"half a shard")
    kept = {shard: shard.stat().st_mtime_ns for shard in finished[1::2]}

    config = configuration.load("configs/googlenet.py", [f"--config.data.data_dir={data_dir}"])
    with pytest.raises(UserError, match="prepare"):
        open_source(config.data, "train", 1000)
    line = command.fails(
        "train", "--config", "configs/googlenet.py", f"--config.data.data_dir={data_dir}",
        "--workdir", tmp_path / "run", exit_code=1,
    )  # fmt: skip
    assert "prepare" in line

    again = command("prepare", "ilsvrc2012", "--manual_dir", tfrecord, "--data_dir", data_dir)
    assert "3 of 6 shards are there already" in again.stderr
    assert {shard: shard.stat().st_mtime_ns for shard in finished[1::2]} == kept
    assert not list(folder.glob("*.partial"))
    assert read_all(folder) == read_all(converted / VERSION_FOLDER)


def test_a_conversion_begun_from_other_data_is_refused(command, converted, tfrecord, tmp_path):
    folder = copy_of(converted, tmp_path / "data") / VERSION_FOLDER
    (folder / "dataset_info.json").unlink()
    other = copy_of(tfrecord, tmp_path / "other") / VERSION_FOLDER
    info = json.loads((other / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"][0] = "1"
    (other / "dataset_info.json").write_text(json.dumps(info))
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", other, "--data_dir", tmp_path / "data",
        exit_code=1,
    )  # fmt: skip
    assert f"{folder} was made from other data than {other}: delete it" in line


def test_a_missing_shard_is_named(command, converted, tmp_path):
    source = copy_of(converted, tmp_path / "source") / VERSION_FOLDER
    shard = source / "imagenet2012-train.array_record-00001-of-00003"
    shard.unlink()
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", tmp_path / "source",
        "--data_dir", tmp_path / "data", exit_code=1,
    )  # fmt: skip
    assert f"{shard} is missing" in line


def test_a_damaged_shard_is_named(command, tfrecord, tmp_path):
    source = copy_of(tfrecord, tmp_path / "source") / VERSION_FOLDER
    shard = source / "imagenet2012-train.tfrecord-00001-of-00003"
    os.truncate(shard, shard.stat().st_size // 2)
    line = command.fails(
        "prepare", "ilsvrc2012", "--manual_dir", tmp_path / "source",
        "--data_dir", tmp_path / "data", exit_code=1,
    )  # fmt: skip
    assert f"{shard} is damaged" in line


# The compact set


def reduce_by_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel the mean of what it covers; Pillow's BOX takes whole pixels, not shares."""

    def shares(size: int, new_size: int) -> np.ndarray:
        edges = np.linspace(0, size, new_size + 1)
        lower, upper = edges[:-1, None], edges[1:, None]
        pixel = np.arange(size)
        covered = np.minimum(upper, pixel + 1) - np.maximum(lower, pixel)
        return covered.clip(0) * (new_size / size)

    rows, columns = shares(image.shape[0], height), shares(image.shape[1], width)
    channels = rows @ np.moveaxis(image.astype(float), 2, 0) @ columns.T
    return np.moveaxis(channels, 0, 2).round().astype(np.uint8)


def check_short(folder: Path, base: Path, short_side: int) -> None:
    """Each image of the compact set in `folder` against NumPy's reduction of the one in `base`."""
    shrunk = 0
    for split, records in read_all(base).items():
        compact = read(folder, split)
        assert sorted(compact) == sorted(records)
        for key, content in records.items():
            before = Image.fromarray(pixels(content))
            if min(before.size) <= short_side:
                assert compact[key] == content
                continue
            shrunk += 1
            after = pixels(compact[key])
            height, width = after.shape[:2]
            assert min(height, width) == short_side
            assert max(height, width) == round(max(before.size) * short_side / min(before.size))
            assert (width > height) == (before.width > before.height) or width == height
            expected = encode(
                Image.fromarray(reduce_by_area(pixels(content), height, width)),
                quality=90, subsampling="4:2:0",
            )  # fmt: skip
            assert np.abs(after - pixels(expected).astype(int)).mean() < 1, key
    assert shrunk


@pytest.fixture(scope="module")
def short(command, converted, tmp_path_factory) -> Path:
    """A data_dir with a compact set made from its base; many images are smaller than it wants."""
    data_dir = copy_of(converted, tmp_path_factory.mktemp("short") / "data")
    command("prepare", "ilsvrc2012", "--data_dir", data_dir, "--short_side", 80)
    return data_dir


def test_the_compact_set_keeps_aspects_and_enlarges_nothing(short, converted):
    sides = [min(file.pixels.shape[:2]) for file in TRAIN]
    assert min(sides) < 80 < max(sides)
    check_short(short / "imagenet2012" / "short80" / "5.1.0", converted / VERSION_FOLDER, 80)


def test_the_compact_set_is_opened_by_its_name(short):
    overrides = [f"--config.data.data_dir={short}", "--config.data.name=imagenet2012/short80"]
    config = configuration.load("configs/googlenet.py", overrides)
    source = open_source(config.data, "validation", 1000)
    assert len(source) == len(VALIDATION)
    assert source.class_names == tuple(ilsvrc_archive.wnids())
    base = configuration.load("configs/googlenet.py", overrides[:1])
    assert open_source(base.data, "validation", 1000).fingerprint != source.fingerprint


def test_the_compact_set_needs_no_base_beside_it(command, tfrecord, converted, tmp_path):
    command(
        "prepare", "ilsvrc2012", "--manual_dir", tfrecord, "--data_dir", tmp_path,
        "--short_side", 48,
    )  # fmt: skip
    assert not (tmp_path / VERSION_FOLDER).exists()
    check_short(tmp_path / "imagenet2012" / "short48" / "5.1.0", converted / VERSION_FOLDER, 48)


def test_wrong_flags_of_ilsvrc_are_usage_errors(command, tmp_path):
    arguments = ("prepare", "ilsvrc2012", "--data_dir", tmp_path)
    line = command.fails(*arguments, exit_code=2)
    assert "--manual_dir says where the images are" in line
    line = command.fails(*arguments, "--short_side", 0, exit_code=2)
    assert "--short_side" in line


# Killed and at the same time


@pytest.fixture
def endless(tmp_path) -> Path:
    """Images in two classes, one of which never ends: who reads it waits until it is killed."""
    images = tmp_path / "images"
    write_photos(images / "a", 6)
    write_photos(images / "b", 6)
    os.mkfifo(images / "b" / "endless.jpg")
    return images


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(encode(photograph((folder.name, number))))


def test_a_preparation_keeps_others_out_and_killed_leaves_nothing_that_passes_for_data(
    command, endless, tmp_path
):
    data_dir = tmp_path / "data"
    arguments = ("prepare", "folder", "--images", endless, "--data_dir", data_dir)
    process = command.start(*arguments)
    try:
        wait_for(lambda: unfinished(data_dir), process)
        line = command.fails(*arguments, exit_code=1)
        assert f"another process is preparing data in {data_dir / 'folder'}" in line
    finally:
        process.kill()
        process.communicate()
    assert not (data_dir / "folder" / "1.0.0").exists()

    (endless / "b" / "endless.jpg").unlink()
    (endless / "b" / "endless.jpg").write_bytes(encode(photograph("found its end")))
    command(*arguments)
    records = read_all(data_dir / "folder" / "1.0.0")
    assert sum(len(split) for split in records.values()) == 13
    assert not unfinished(data_dir)


@pytest.mark.soak
def test_a_killed_preparation_from_archives_starts_over(command, tmp_path):
    train = ilsvrc_archive.train_files(per_class=400)
    archives = ilsvrc_archive.write_archives(tmp_path / "archives", train, VALIDATION)
    data_dir = tmp_path / "data"
    arguments = ("prepare", "ilsvrc2012", "--manual_dir", archives, "--data_dir", data_dir)
    process = command.start(*arguments)
    wait_for(lambda: unfinished(data_dir), process)
    time.sleep(0.2)
    process.kill()
    process.communicate()
    assert not (data_dir / VERSION_FOLDER).exists()
    command(*arguments, "--short_side", 80)
    assert sorted(read(data_dir / VERSION_FOLDER, "train")) == sorted(
        (file.name, file.label) for file in train
    )
    check_short(
        data_dir / "imagenet2012" / "short80" / "5.1.0", data_dir / VERSION_FOLDER, short_side=80
    )
    assert not unfinished(data_dir)


# Your own images


def odd_images() -> dict[str, bytes]:
    """Images as they come, with names of all kinds."""
    deep = np.random.default_rng(0).integers(0, 2**16, (40, 50), dtype=np.uint16)
    return {
        "gray.jpeg": encode(photograph("gray", "L")),
        "transparent.png": encode(photograph("transparent", "RGBA"), "PNG"),
        "palette.png": encode(photograph("palette", "P"), "PNG"),
        "cmyk.JPG": encode(photograph("cmyk", "CMYK")),
        "deep.png": encode(Image.fromarray(deep), "PNG"),
        "really_a_png.jpg": encode(photograph("png"), "PNG"),
        "below/sub folder/ümlaut (1).webp": encode(photograph("webp"), "WEBP"),
        "progressive.jpg": encode(photograph("progressive"), progressive=True),
    }


def test_images_of_every_mode_are_stored_as_they_are(command, tmp_path):
    images = tmp_path / "images"
    for split, count in (("train", 3), ("val", 2)):
        write_photos(images / split / "plain", count)
        for name, content in odd_images().items():
            path = images / split / "odd" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (images / "train" / "odd" / ".DS_Store").write_bytes(b"hidden")
    (images / "train" / "odd" / "._gray.jpeg").write_bytes(b"hidden")
    (images / "train" / ".cache").mkdir()
    (images / "train" / "odd" / "notes.txt").write_text("no image")
    result = command("prepare", "folder", "--images", images, "--data_dir", tmp_path / "data")

    folder = tmp_path / "data" / "folder" / "1.0.0"
    info = tfds.builder_from_directory(folder).info
    assert info.features["label"].names == ["odd", "plain"]
    for split, counted in (("train", "train"), ("val", "validation")):
        found = read(folder, counted)
        assert found == {
            (path.relative_to(images).as_posix(), label): path.read_bytes()
            for label, name in enumerate(["odd", "plain"])
            for path in (images / split / name).rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".txt"
        }
    assert str(images / "train" / "odd" / "notes.txt") in result.stderr
    assert "not a readable image" not in result.stderr
    assert "train 11, validation 10 images" in result.stderr


def test_hidden_files_are_passed_over_in_silence(command, tmp_path):
    write_photos(tmp_path / "images" / "a", 2)
    write_photos(tmp_path / "images" / "b", 2)
    for place in (".", "a"):
        (tmp_path / "images" / place / ".DS_Store").write_bytes(b"hidden")
    result = command(
        "prepare", "folder", "--images", tmp_path / "images", "--data_dir", tmp_path / "data"
    )
    assert "left out" not in result.stderr


def test_unreadable_images_are_named_and_kept(command, tmp_path):
    images = tmp_path / "images"
    for split in ("train", "validation"):
        write_photos(images / split / "a", 2)
        write_photos(images / split / "b", 2)
    bad = {
        "zero_bytes.jpg": b"",
        "truncated.jpg": encode(photograph("truncated"))[:-500],
        "text.png": b"this is no image\n",
    }
    for name, content in bad.items():
        (images / "train" / "a" / name).write_bytes(content)
    result = command("prepare", "folder", "--images", images, "--data_dir", tmp_path / "data")
    records = read(tmp_path / "data" / "folder" / "1.0.0", "train")
    assert len(records) == 7
    for name, content in bad.items():
        assert records[f"train/a/{name}", 0] == content
        assert len([line for line in result.stderr.splitlines() if f"train/a/{name}" in line]) == 1
    assert "Training replaces unreadable images" in result.stderr


def test_a_split_of_nothing_but_unreadable_images_is_an_error(command, tmp_path):
    images = tmp_path / "images"
    for name in ("train/a", "train/b", "validation/a"):
        write_photos(images / name, 2)
    for path in (images / "validation" / "a").iterdir():
        path.write_bytes(b"nothing")
    line = command.fails(
        "prepare", "folder", "--images", images, "--data_dir", tmp_path / "data", exit_code=1
    )
    assert "no readable image in its split validation" in line


@pytest.fixture
def classes(tmp_path) -> Path:
    """Three classes of different sizes; names alone, since the split looks at nothing else."""
    for name, count in (("a", 50), ("b", 13), ("c", 2)):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "classes" / name / f"{number}.png").touch()
    return tmp_path / "classes"


def sides(images: Path, seed: int = 0, fraction: float = 0.2) -> dict[str, dict[str, set[str]]]:
    """The file names on each side, by class."""
    found = folders.find_splits(images, fraction, seed)
    return {
        side: {name: {path.name for path in paths} for name, paths in by_class.items()}
        for side, by_class in found.items()
    }


def test_the_split_is_of_each_class_and_a_function_of_the_seed(classes):
    found = sides(classes)
    assert set(found) == {"train", "validation"}
    counts = {side: {name: len(files) for name, files in f.items()} for side, f in found.items()}
    assert counts == {"train": {"a": 40, "b": 10, "c": 1}, "validation": {"a": 10, "b": 3, "c": 1}}
    for name in "abc":
        everything = {path.name for path in (classes / name).iterdir()}
        assert found["train"][name] | found["validation"][name] == everything
    assert sides(classes) == found
    assert sides(classes, seed=1) != found


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_each_class_has_an_image_on_both_sides(classes, fraction):
    for by_class in sides(classes, fraction=fraction).values():
        assert all(by_class[name] for name in "abc")


def test_files_keep_their_side_when_others_come(classes):
    """All but one or two at the edge, since the number on each side grows."""
    before = sides(classes)
    for number in range(50, 55):
        (classes / "a" / f"{number}.png").touch()
    after = sides(classes)
    moved = {
        name
        for side, other in (("train", "validation"), ("validation", "train"))
        for name in before[side]["a"] & after[other]["a"]
    }
    assert len(moved) <= 5
    assert before["train"]["b"] == after["train"]["b"]


def test_the_split_does_not_depend_on_where_the_folder_lies(command, tmp_path):
    for name in "ab":
        write_photos(tmp_path / "one" / name, 6)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    for images in ("one", "other"):
        command(
            "prepare", "folder", "--images", tmp_path / images, "--name", f"from_{images}",
            "--data_dir", tmp_path / "data", "--validation_fraction", 0.5, "--seed", 3,
        )  # fmt: skip
    one, other = (
        read_all(tmp_path / "data" / f"from_{images}" / "1.0.0") for images in ("one", "other")
    )
    assert one == other
    assert {split: len(records) for split, records in one.items()} == {"train": 6, "validation": 6}


def test_a_changed_folder_is_not_taken_for_the_old_one(command, tmp_path):
    for name in "ab":
        write_photos(tmp_path / "images" / name, 3)
    arguments = (
        "prepare", "folder", "--images", tmp_path / "images", "--data_dir", tmp_path / "data",
    )  # fmt: skip
    command(*arguments)
    assert "is there already" in command(*arguments).stderr
    (tmp_path / "images" / "a" / "new.jpg").write_bytes(encode(photograph("new")))
    folder = tmp_path / "data" / "folder" / "1.0.0"
    line = command.fails(*arguments, exit_code=1)
    assert f"{folder} was prepared from other files or another split: delete it" in line


def only_one_class(images: Path) -> None:
    shutil.rmtree(images / "b")


def images_at_the_top(images: Path) -> None:
    for name in "ab":
        for path in (images / name).iterdir():
            path.rename(images / f"{name}_{path.name}")
        (images / name).rmdir()


def an_empty_class(images: Path) -> None:
    (images / "empty").mkdir()


def a_class_of_one(images: Path) -> None:
    write_photos(images / "c", 1)


def a_class_only_in_validation(images: Path) -> None:
    shutil.copytree(images, images / "train")
    for name in "ab":
        (images / name).rename(images / "train" / f"{name}_too")
    write_photos(images / "validation" / "stranger", 1)


def validation_alone(images: Path) -> None:
    (images / "val").mkdir()
    for name in "ab":
        (images / name).rename(images / "val" / name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no folder '{images}'"),
        (only_one_class, "{images} has only the class a: two are needed"),
        (images_at_the_top, "no class folders in {images}: images belong in {images}/CLASS/"),
        (an_empty_class, "no images in {images}/empty"),
        (a_class_of_one, "class c has one image: two are needed"),
        (a_class_only_in_validation, "class stranger is in validation and not in train"),
        (validation_alone, "{images} has a folder for validation, but not for train: add it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_layout_is_one_line(command, tmp_path, spoil, message):
    images = tmp_path / "images"
    for name in "ab":
        write_photos(images / name, 2)
    spoil(images)
    line = command.fails(
        "prepare", "folder", "--images", images, "--data_dir", tmp_path / "data", exit_code=1
    )
    assert message.format(images=images) in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "wrong", ["--name=My Data", "--validation_fraction=0", "--validation_fraction=1.5"]
)
def test_wrong_flags_of_folder_are_usage_errors(command, tmp_path, wrong):
    flag, _, value = wrong.partition("=")
    line = command.fails(
        "prepare", "folder", "--images", tmp_path, wrong, "--data_dir", tmp_path / "data",
        exit_code=2,
    )  # fmt: skip
    assert flag in line
    assert value in line


# Fashion-MNIST

SMALL = {"train": 60, "test": 40}  # images


def write_idx_files(folder: Path, counts: Mapping[str, int]) -> Path:
    """The four files, black but for a few pixels; two are packed."""
    folder.mkdir()
    for prefix, count in zip(("train", "t10k"), counts.values(), strict=True):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0] = np.arange(count) % 251
        images[-1, 27] = range(28)
        labels = (np.arange(count) // 7 % 10).astype(np.uint8)
        for kind, code, array in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
            header = b"\0\0\x08" + bytes([code]) + np.array(array.shape, ">u4").tobytes()
            content = header + array.tobytes()
            path = folder / f"{prefix}-{kind}-ubyte"
            if prefix == "train":
                path, content = path.with_name(f"{path.name}.gz"), gzip.compress(content, 1)
            path.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "counts",
    [SMALL, pytest.param({"train": 60_000, "test": 10_000}, marks=pytest.mark.slow)],
    ids=["small", "whole"],
)
def test_fashion_mnist_is_read_from_packed_and_plain_files(command, tmp_path, monkeypatch, counts):
    if counts is SMALL:
        monkeypatch.setattr(fashion_mnist, "COMPLETE", SMALL)
    files = write_idx_files(tmp_path / "idx", counts)
    command("prepare", "fashion_mnist", "--source_dir", files, "--data_dir", tmp_path)
    folder = tmp_path / "fashion_mnist" / "1.0.0"
    assert tfds.builder_from_directory(folder).info.features["label"].names[9] == "Ankle boot"
    for split, count in counts.items():
        records = {name: (label, image) for (name, label), image in read(folder, split).items()}
        assert len(records) == count
        for number in (0, 1, count // 2, count - 1):
            label, content = records[f"{split}_{number:05}.png"]
            assert label == number // 7 % 10
            expected = np.zeros((28, 28), np.uint8)
            expected[0, 0] = number % 251
            if number == count - 1:
                expected[27] = range(28)
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), expected)


def missing(folder: Path) -> str:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    return f"no file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz in {folder}"


def truncated_gzip(folder: Path) -> str:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    return f"{path} is damaged"


def no_gzip(folder: Path) -> str:
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(b"<html>404</html>")
    return f"{path} is damaged"


def wrong_magic(folder: Path) -> str:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x0d\x03" + path.read_bytes()[4:])
    return f"{path} is not an IDX file of 40x28x28 bytes"


def wrong_count(folder: Path) -> str:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-784])
    return f"{path} is not an IDX file of 40x28x28 bytes"


@pytest.mark.parametrize("spoil", [missing, truncated_gzip, no_gzip, wrong_magic, wrong_count])
def test_wrong_files_of_fashion_mnist_are_named(command, tmp_path, monkeypatch, spoil):
    monkeypatch.setattr(fashion_mnist, "COMPLETE", SMALL)
    files = write_idx_files(tmp_path / "idx", SMALL)
    message = spoil(files)
    line = command.fails(
        "prepare", "fashion_mnist", "--source_dir", files, "--data_dir", tmp_path / "d",
        exit_code=1,
    )  # fmt: skip
    assert message in line
    assert not (tmp_path / "d" / "fashion_mnist" / "1.0.0").exists()


# TFDS, and digits


def test_an_unknown_tfds_name_suggests_near_ones(command, tmp_path):
    line = command.fails("prepare", "tfds", "--name", "cifar1", "--data_dir", tmp_path, exit_code=2)
    assert "'cifar1'; did you mean cifar10 or cifar100" in line


def test_tfds_data_without_a_class_label_is_refused(command, tmp_path):
    line = command.fails("prepare", "tfds", "--name", "lfw", "--data_dir", tmp_path, exit_code=2)
    assert "needs an image and a class as its label" in line
    assert not (tmp_path / "lfw").exists()


def test_tfds_prepares_what_was_downloaded_by_hand(command, archives, from_archives, tmp_path):
    result = command(
        "prepare", "tfds", "--name", "imagenet2012", "--manual_dir", archives,
        "--data_dir", tmp_path,
    )  # fmt: skip
    assert read_all(tmp_path / VERSION_FOLDER) == read_all(from_archives[0] / VERSION_FOLDER)
    assert result.stdout == ""


def test_tfds_says_what_is_missing_by_hand(command, tmp_path):
    (tmp_path / "empty").mkdir()
    line = command.fails(
        "prepare", "tfds", "--name", "imagenet2012", "--manual_dir", tmp_path / "empty",
        "--data_dir", tmp_path / "data", exit_code=1,
    )  # fmt: skip
    assert str(tmp_path / "empty") in line


def test_the_digits_are_1437_and_360(data_dir):
    (folder,) = (path for path in (data_dir / "digits").iterdir() if path.is_dir())
    builder = tfds.builder_from_directory(folder)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert counts == {"train": 1437, "test": 360}
