"""Sources, decoding and batches."""

import dataclasses
import itertools
import logging
import shutil
import threading

import cv2
import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from inception_jax.config import configuration
from inception_jax.data import order, read_ahead
from inception_jax.data.decode import decode
from inception_jax.data.read_ahead import BufferPool
from inception_jax.data.sources import open_source
from inception_jax.errors import UsageError, UserError
from inception_jax.runtime import devices
from inception_jax.tasks.classification.batches import (
    EvaluationInput,
    check_data,
    evaluation_batches,
    evaluation_memory,
    read_evaluation_batch,
    read_training_batch,
    training_batches,
)
from inception_jax.tasks.classification.evaluation_crops import PROTOCOLS, Geometry


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
    images = [decode(e.encoded, e.name) for e in test.read(range(360))]
    labels = [e.label for e in test.read(range(360))]
    found = [(k, image[:, :, 0].tobytes()) for k, image in zip(labels, images, strict=True)]
    assert sorted(found) == expected
    assert all(image.shape == (8, 8, 3) and image.dtype == np.uint8 for image in images)


def test_splits_can_be_sliced_and_fingerprints_differ(digits):
    sliced = open_source(digits, "test[100:113]", 10)
    assert len(sliced) == 13
    whole = open_source(digits, "test", 10)
    assert sliced.read([3])[0].encoded == whole.read([103])[0].encoded
    assert sliced.fingerprint != whole.fingerprint
    assert whole.fingerprint == open_source(digits, "test", 10).fingerprint


def test_fake_images_are_a_function_of_split_and_index(fake):
    train, test = open_source(fake, "train", 10), open_source(fake, "test", 10)
    one, same = train.read([7])[0], open_source(fake, "train[7:]", 10).read([0])[0]
    assert one.encoded == same.encoded
    pixels, others = (decode(e.encoded, e.name) for e in (one, test.read([7])[0]))
    assert pixels.shape == (18, 18, 3)
    assert np.mean(pixels == others) < 0.05
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


def test_random_images_leave_nothing_open(fake):
    with pytest.raises(UsageError, match=r"needs model\.num_classes and data\.image_size"):
        open_source(fake, "train", 0)
    fake.image_size = 0
    with pytest.raises(UsageError, match=r"needs model\.num_classes and data\.image_size"):
        open_source(fake, "train", 10)


def test_damaged_data_says_what_to_do(digits, data_dir, tmp_path):
    shutil.copytree(data_dir / "digits", tmp_path / "digits")
    digits.data_dir = str(tmp_path)
    (shard,) = (tmp_path / "digits" / "1.1.0").glob("digits-train*")
    message = f"{tmp_path / 'digits'} is damaged, delete and prepare"
    content = shard.read_bytes()
    shard.write_bytes(content[:1000])
    with pytest.raises(UserError, match=message):
        open_source(digits, "train", 10)
    shard.write_bytes(content)
    assert len(open_source(digits, "train", 10)) == 1437
    (tmp_path / "digits" / "1.1.0" / "features.json").write_text("{")
    with pytest.raises(UserError, match=message):
        open_source(digits, "train", 10)


def test_labels_that_are_no_class_are_named(digits):
    source = open_source(digits, "test", 10)
    labels = [example.label for example in source.read(range(99))]
    wrong = next(index for index, label in enumerate(labels) if label > 4)
    source.class_names = tuple("01234")
    with pytest.raises(
        UserError, match=rf"digits/1.1.0 test: example {wrong} \(digit_\d+.png\) has the label"
    ):
        source.read([wrong])


@pytest.mark.parametrize(
    "processes",
    [1, 3, pytest.param(2, marks=pytest.mark.breadth), pytest.param(8, marks=pytest.mark.breadth)],
)
def test_in_an_epoch_every_index_occurs_once_over_all_processes(digits, processes):
    source = open_source(digits, "train[:480]", 10)
    digits.batch_size = 24
    share = 24 // processes
    seen = []
    for step in range(20):
        parts = [slice(p * share, (p + 1) * share) for p in range(processes)]
        batches = [read_training_batch(source, digits, 5, step, p) for p in parts]
        whole = read_training_batch(source, digits, 5, step, slice(0, 24))
        for name, array in whole.items():
            union = np.concatenate([batch[name] for batch in batches])
            np.testing.assert_array_equal(union, array)
        seen += [index for batch in batches for index in batch["index"].tolist()]
    assert sorted(seen) == list(range(480))
    other_seed = read_training_batch(source, digits, 6, 0, slice(0, 24))
    assert seen[:24] != other_seed["index"].tolist()


def test_a_run_that_changes_its_processes_keeps_the_order(digits, monkeypatch):
    """Two processes for ten steps, then one, then four: what each reads is put together."""
    source = open_source(digits, "train", 10)
    digits.batch_size = 16
    mesh = devices.make_mesh()

    def read(processes: int, start: int, stop: int) -> list[list[int]]:
        parts = []
        for process in range(processes):
            monkeypatch.setattr(jax, "process_count", lambda processes=processes: processes)
            monkeypatch.setattr(jax, "process_index", lambda process=process: process)
            monkeypatch.setattr(read_ahead, "to_devices", lambda batch, mesh: batch)
            with training_batches(source, digits, 0, start, stop, mesh) as batches:
                parts.append([batch["index"].tolist() for batch in batches])
        return [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]

    assert read(2, 0, 10) + read(1, 10, 20) + read(4, 20, 30) == read(1, 0, 30)


def test_no_thread_outlives_the_batches(fake):
    fake.threads = 3
    source, before = open_source(fake, "train", 10), set(threading.enumerate())
    with training_batches(source, fake, 0, 0, 10**6, devices.make_mesh()) as batches:
        next(batches)
        started = set(threading.enumerate()) - before
    assert started
    for thread in started:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_memory_comes_back_only_when_nobody_holds_it():
    memory = BufferPool((4, 2))
    first = memory.take()
    first[:] = 7
    row, address = first[1], first.ctypes.data
    del first
    second = memory.take()  # a view of the first is still held
    second[:] = 9
    assert row.tolist() == [7, 7]
    assert second.ctypes.data != address
    del row
    assert memory.take().ctypes.data == address


def test_batches_do_not_share_memory_while_they_are_held(fake):
    """Recycled memory must not show through in a batch that somebody still has."""
    source = open_source(fake, "train", 10)
    with training_batches(source, fake, 0, 0, 30, devices.make_mesh()) as batches:
        held = list(batches)
    for step, batch in enumerate(held):
        expected = read_training_batch(source, fake, 0, step, slice(0, 16))
        np.testing.assert_array_equal(batch["image"], expected["image"])


class Broken:
    """A source whose chosen examples are not images."""

    def __init__(self, source, bad):
        self._source, self._bad = source, set(bad)
        self.class_names, self.fingerprint = source.class_names, source.fingerprint

    def __len__(self):
        return len(self._source)

    def read(self, indices):
        return [
            dataclasses.replace(example, encoded=b"junk") if index in self._bad else example
            for index, example in zip(indices, self._source.read(indices), strict=True)
        ]


def test_bad_training_images_are_named_and_replaced_by_the_next(digits, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("inception_jax"), "propagate", True)
    good = open_source(digits, "train", 10)
    _, indices = order.batch_order(0, 0, 64, len(good))
    bad = {int(indices[3]), int(indices[3]) + 1, int(indices[9])}
    source = Broken(good, bad)
    batch = read_training_batch(source, digits, 0, 0, slice(0, 64))
    again = read_training_batch(source, digits, 0, 0, slice(0, 64))
    clean = read_training_batch(good, digits, 0, 0, slice(0, 64))
    for name in batch:
        np.testing.assert_array_equal(batch[name], again[name])
    replaced = np.isin(indices, sorted(bad))
    np.testing.assert_array_equal(batch["replaced"], replaced)
    np.testing.assert_array_equal(batch["index"], indices)
    np.testing.assert_array_equal(batch["image"][~replaced], clean["image"][~replaced])
    (instead,) = good.read([indices[3] + 2])
    assert batch["label"][3] == instead.label
    assert any(f"example {indices[3]} (digit_" in message for message in caplog.messages)


def test_a_stretch_of_bad_images_is_an_error(digits):
    source = Broken(open_source(digits, "train[:50]", 10), range(50))
    with pytest.raises(UserError, match="cannot be read"):
        read_training_batch(source, digits, 0, 0, slice(0, 8))


def evaluation_input(config, **changes) -> EvaluationInput:
    """One crop of each image, all classes, of a config."""
    classes = config.model.num_classes
    fields = {
        "geometries": (Geometry.from_config(config),), "crops": PROTOCOLS[1].crops,
        "classes": np.arange(classes), "num_classes": classes,
        "batch_size": config.data.batch_size, "threads": 2, "bad_images": "error",
    }  # fmt: skip
    return EvaluationInput(**(fields | changes))


def test_an_evaluation_stops_at_a_bad_image_or_counts_it_as_wrong(digits):
    good, config = open_source(digits, "test", 10), configuration.load("configs/digits.py")
    source = Broken(good, [5])
    with pytest.raises(UserError, match=r"example 5 \(digit_\d+.png\) is not a readable image"):
        read_evaluation_batch(source, evaluation_input(config), 0, slice(0, 64))
    wanted = evaluation_input(config, bad_images="wrong")
    memory = evaluation_memory(wanted, 64)
    memory[0].take()[:] = 255  # what lies in memory must not be taken for an image
    batch = read_evaluation_batch(source, wanted, 0, slice(0, 64), memory)
    assert np.flatnonzero(batch["bad"]).tolist() == [5]
    assert np.all(batch["mask"])
    assert not batch["image"][0][5].any()
    expected = [example.label for example in good.read(range(64))]
    np.testing.assert_array_equal(batch["labels"], np.eye(10)[expected])


def test_an_evaluation_batch_has_all_crops_for_each_network_and_its_classes(digits):
    """Two networks take images of different sizes; the last batch is filled up."""
    source, config = open_source(digits, "test[:5]", 10), configuration.load("configs/digits.py")
    geometries = (Geometry(14, 16, "short_side", "area"), Geometry(12, 12, "squeeze", "bilinear"))
    wanted = evaluation_input(
        config, geometries=geometries, crops=PROTOCOLS[10].crops, batch_size=4, num_classes=12,
        classes=np.arange(10)[::-1] + 2,
    )  # fmt: skip
    memory = evaluation_memory(wanted, 2)
    for one in memory:
        one.take()[:] = 255
    halves = [
        read_evaluation_batch(source, wanted, 1, part, memory)
        for part in (slice(0, 2), slice(2, 4))
    ]
    for batch in halves:
        assert [one.shape for one in batch["image"]] == [(2, 5, 14, 14, 3), (2, 5, 12, 12, 3)]
        assert batch["labels"].shape == (2, 12)
    masks = [batch["mask"].tolist() for batch in halves]
    assert masks == [[True, False], [False, False]]
    (example,) = source.read([4])
    assert np.flatnonzero(halves[0]["labels"][0]).tolist() == [11 - example.label]
    assert not halves[0]["labels"][1].any()
    enlarged = cv2.resize(decode(example.encoded, ""), (16, 16), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(halves[0]["image"][0][0, 0], enlarged[:14, :14])
    np.testing.assert_array_equal(halves[0]["image"][0][0, 4], enlarged[1:15, 1:15])
    for images in (*(one[1] for one in halves[0]["image"]), *halves[1]["image"]):
        assert not images.any()


def test_training_batches_are_pure_and_split_over_processes(digits):
    source = open_source(digits, "train", 10)

    def read(step: int, part: slice):
        return read_training_batch(source, digits, 0, step, part)

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
        "epoch": np.int32,
        "replaced": bool,
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
        with training_batches(source, fake, 0, 2, 9, mesh) as batches:
            runs.append([jax.device_get(batch) for batch in batches])
    assert len(runs[0]) == 7
    for one, other in zip(*runs, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize(("examples", "batch_size"), [(13, 8), (64, 8), (64, 100), (5, 5)])
def test_evaluation_batches_have_every_example_once(fake, examples, batch_size):
    source = open_source(fake, f"test[:{examples}]", 10)
    wanted = evaluation_input(configuration.load("configs/smoke.py"), batch_size=batch_size)
    with evaluation_batches(source, wanted, devices.make_mesh()) as batches:
        seen = [np.asarray(b["index"])[np.asarray(b["mask"])].tolist() for b in batches]
    assert list(itertools.chain(*seen)) == list(range(examples))


@pytest.mark.parametrize("labels", [(), (3, 7)])
def test_training_on_images_with_several_labels_or_none_is_refused(fake, labels, monkeypatch):
    source = open_source(fake, "train", 10)
    found = [dataclasses.replace(example, labels=labels) for example in source.read(range(4))]
    monkeypatch.setattr(source, "read", lambda indices: found)
    message = rf"fake train: example \d+ has {len(labels)} labels: such data is for evaluation"
    with pytest.raises(UserError, match=message):
        read_training_batch(source, fake, 0, 0, slice(0, 4))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interpolations", ("linear",)),
        ("crop_area", (0.0, 1.0)),
        ("crop_aspect_ratio", (2.0, 1.0)),
        ("std", (1.0,)),
        ("std", (0.0, 1.0, 1.0)),
        ("crop_area", (8, 100)),
        ("crop", "alexnet"),
        ("crop_aspect_ratio", (1.0, float("inf"))),
    ],
)
def test_wrong_fields_are_named(field, value):
    config = configuration.load("configs/smoke.py")
    check_data(config)
    config.data[field] = value
    with pytest.raises(UsageError, match=f"data.{field}"):
        check_data(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("resize", "crop"), ("interpolation", "cubic"), ("bad_images", "skip"), ("short_side", 15)],
)
def test_wrong_fields_of_the_evaluation_are_named(field, value):
    config = configuration.load("configs/smoke.py")
    config.evaluation[field] = value
    with pytest.raises(UsageError, match=rf"evaluation\.{field} (is '?)?{value}"):
        check_data(config)
