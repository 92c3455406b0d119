"""Sources, decoding and batches."""

import io
import itertools
import shutil

import cv2
import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from inception_jax import configuration
from inception_jax.data import pipeline
from inception_jax.data.decode import decode
from inception_jax.data.sources import open_source
from inception_jax.distributed import devices
from inception_jax.errors import UsageError, UserError


@pytest.fixture
def digits(data_dir):
    return configuration.load("configs/digits.py", [f"--config.data.data_dir={data_dir}"]).data


@pytest.fixture
def fake():
    return configuration.load("configs/smoke.py").data


def test_prepared_digits_are_scikit_learns(digits):
    train, test = open_source(digits, "train", 10), open_source(digits, "test", 10)
    assert (len(train), len(test)) == (1437, 360)
    assert test.class_names == tuple("0123456789")
    original = load_digits()
    expected = sorted(
        (label, np.round(image * 255 / 16).astype(np.uint8).tobytes())
        for image, label in zip(original.images[::5], original.target[::5], strict=True)
    )
    examples = test.read(range(360))
    assert sorted((e.label, e.image[:, :, 0].tobytes()) for e in examples) == expected
    assert all(e.image.shape == (8, 8, 3) and e.image.dtype == np.uint8 for e in examples)


def test_splits_can_be_sliced_and_fingerprints_differ(digits):
    sliced = open_source(digits, "test[100:113]", 10)
    assert len(sliced) == 13
    whole = open_source(digits, "test", 10)
    np.testing.assert_array_equal(sliced.read([3])[0].image, whole.read([103])[0].image)
    assert sliced.fingerprint != whole.fingerprint
    assert whole.fingerprint == open_source(digits, "test", 10).fingerprint


def test_fake_images_are_a_function_of_split_and_index(fake):
    train, test = open_source(fake, "train", 10), open_source(fake, "test", 10)
    one, same = train.read([7])[0], open_source(fake, "train[7:]", 10).read([0])[0]
    np.testing.assert_array_equal(one.image, same.image)
    assert np.mean(one.image == test.read([7])[0].image) < 0.05
    labels = [example.label for example in train.read(range(64))]
    assert set(labels) <= set(range(10))
    assert len(set(labels)) > 5


def test_missing_data_says_how_to_make_it(digits, tmp_path):
    digits.data_dir = str(tmp_path)
    with pytest.raises(UserError, match=f"inception_jax.prepare digits --data_dir {tmp_path}"):
        open_source(digits, "train", 10)


def test_wrong_splits_and_class_counts_are_named(digits, fake):
    with pytest.raises(UsageError, match="it has train, test"):
        open_source(digits, "validation", 10)
    with pytest.raises(UsageError, match=r"set model\.num_classes=10"):
        open_source(digits, "train", 9)
    with pytest.raises(UsageError, match=r"set model\.num_classes=10"):
        open_source(digits, "train", 1000)
    for source in (fake, digits):
        with pytest.raises(UsageError, match="empty"):
            open_source(source, "train[5:5]", 10)


def test_damaged_data_says_what_to_do(digits, data_dir, tmp_path):
    shutil.copytree(data_dir / "digits", tmp_path / "digits")
    digits.data_dir = str(tmp_path)
    (shard,) = (tmp_path / "digits" / "1.0.0").glob("digits-train*")
    message = f"{tmp_path / 'digits'} is damaged, delete and prepare"
    content = shard.read_bytes()
    shard.write_bytes(content[:1000])
    with pytest.raises(UserError, match=message):
        open_source(digits, "train", 10)
    shard.write_bytes(content)
    assert len(open_source(digits, "train", 10)) == 1437
    (tmp_path / "digits" / "1.0.0" / "features.json").write_text("{")
    with pytest.raises(UserError, match=message):
        open_source(digits, "train", 10)


def test_labels_that_are_no_class_are_named(digits):
    source = open_source(digits, "test", 10)
    labels = [example.label for example in source.read(range(99))]
    wrong = next(index for index, label in enumerate(labels) if label > 4)
    source.class_names = tuple("01234")
    with pytest.raises(UserError, match=f"digits test: example {wrong} has the label"):
        source.read([wrong])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_decode_gives_rgb(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256)
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    elif mode == "L":
        image = Image.fromarray(pixels[:, :, 0])
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    elif mode == "RGBA":
        image = image.convert("RGBA")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "x"), pixels)


def test_decode_ignores_the_exif_orientation():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", exif=exif)
    assert decode(buffer.getvalue(), "x").shape == (6, 9, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_decode_names_what_is_no_image(content):
    with pytest.raises(UserError, match=r"photo\.jpg is not a readable image"):
        decode(content, "photo.jpg")


def test_a_truncated_file_is_never_a_crash():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    encoded = cv2.imencode(".png", pixels)[1].tobytes()
    with pytest.raises(UserError, match="not a readable image"):
        decode(encoded[:60], "short.png")


def test_training_batches_are_pure_and_split_over_processes(digits):
    source = open_source(digits, "train", 10)

    def read(step: int, part: slice):
        return pipeline.read_training_batch(source, digits, 0, step, part)

    whole, again = read(30, slice(0, 64)), read(30, slice(0, 64))
    halves = [read(30, slice(0, 32)), read(30, slice(32, 64))]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name])
        np.testing.assert_array_equal(array, np.concatenate([half[name] for half in halves]))
    assert whole["image"].shape == (64, 16, 16, 3)
    assert {k: v.dtype for k, v in whole.items()} == {
        "image": np.uint8,
        "label": np.int32,
        "index": np.int64,
    }
    labels = [example.label for example in source.read(whole["index"])]
    np.testing.assert_array_equal(whole["label"], labels)
    assert np.any(read(31, slice(0, 64))["image"] != whole["image"])


def test_the_number_of_threads_changes_nothing(fake):
    mesh = devices.make_mesh()
    source = open_source(fake, "train", 10)
    runs = []
    for threads in (1, 5):
        fake.threads = threads
        with pipeline.training_batches(source, fake, 0, 2, 9, mesh) as batches:
            runs.append([jax.device_get(batch) for batch in batches])
    assert len(runs[0]) == 7
    for one, other in zip(*runs, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize(("examples", "batch_size"), [(13, 8), (64, 8), (64, 100), (5, 5)])
def test_evaluation_batches_have_every_example_once(fake, examples, batch_size):
    fake.batch_size = batch_size
    source = open_source(fake, f"test[:{examples}]", 10)
    with pipeline.evaluation_batches(source, fake, 16, devices.make_mesh()) as batches:
        seen = [np.asarray(b["index"])[np.asarray(b["mask"])].tolist() for b in batches]
    assert list(itertools.chain(*seen)) == list(range(examples))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interpolations", ("linear",)),
        ("crop_area", (0.0, 1.0)),
        ("crop_aspect_ratio", (2.0, 1.0)),
        ("std", (1.0,)),
        ("std", (0.0, 1.0, 1.0)),
        ("crop_area", (8, 100)),
    ],
)
def test_wrong_fields_are_named(field, value):
    config = configuration.load("configs/smoke.py")
    pipeline.check_data(config)
    config.data[field] = value
    with pytest.raises(UsageError, match=f"data.{field}"):
        pipeline.check_data(config)
