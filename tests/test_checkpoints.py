"""Checkpoints: what is kept, what comes back, and that no damage passes unnoticed."""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from orbax.checkpoint._src.metadata import checkpoint as metadata

from inception_jax.checkpoints import integrity, reading, store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError
from inception_jax.storage import workdir


def make_tree(value: float) -> dict:
    rng = np.random.default_rng(0)
    return {
        "step": np.int32(3),
        "params": {
            "inception_3a": {"3x3_reduce": {"kernel": rng.random((1, 1, 8, 300), np.float32)}},
            "conv1": {"7x7_s2": {"bias": np.full(5, value, np.float32)}},
        },
        "batch_stats": {},
        "opt_state": {"0": {}, "1": {"count": np.int32(2)}},
    }


def shapes(tree: dict) -> dict:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints 5 and 7."""
    directory = tmp_path / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=2, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        for step in (5, 7):
            checkpoints.save(step, make_tree(step), {"config": {"a": 1}}, score=0.5)
    return directory


def test_what_is_saved_comes_back_whole_or_in_part(saved):
    tree = make_tree(7)
    found = store.read(saved / "7")
    taken = found.take(shapes(tree))
    jax.tree.map(np.testing.assert_array_equal, taken, tree)
    assert taken.keys() == tree.keys()  # empty parts too
    assert found.description["config"] == {"a": 1}
    assert found.description["step"] == 7
    part = {"params": {"conv1": shapes(tree)["params"]["conv1"]}}
    np.testing.assert_array_equal(found.take(part)["params"]["conv1"]["7x7_s2"]["bias"], 7)


def test_the_newest_and_the_best_are_kept(tmp_path):
    accuracies = {1: 0.5, 2: None, 3: 0.9, 4: float("nan"), 5: 0.1, 6: None, 7: None}
    with store.CheckpointWriter(
        tmp_path, keep_last=2, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        for step, top1 in accuracies.items():
            checkpoints.save(step, make_tree(step), {}, top1)
    assert store.steps(tmp_path) == [3, 6, 7]
    with store.CheckpointWriter(
        tmp_path, keep_last=2, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(8, make_tree(8), {}, 0.95)
        checkpoints.save(9, make_tree(9), {}, 0.2)
        checkpoints.save(10, make_tree(10), {}, 0.3)
    assert store.steps(tmp_path) == [8, 9, 10]


def test_saving_does_not_follow_later_changes_of_the_state(tmp_path):
    add = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = jax.device_put({"x": np.zeros(1_000_000, np.float32)})
    with store.CheckpointWriter(
        tmp_path, keep_last=9, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        for step in range(1, 6):
            tree = add(tree)
            checkpoints.save(step, tree, {})
            tree = add(add(tree))
    for step in range(1, 6):
        target = {"x": jax.ShapeDtypeStruct((1_000_000,), np.float32)}
        taken = store.read(tmp_path / str(step)).take(target)
        np.testing.assert_array_equal(taken["x"], 3 * step - 2)


def test_orbax_gives_a_checkpoint_its_name_when_all_is_written(tmp_path, monkeypatch):
    """Nothing else says that it is complete. Here one thread of Orbax is late."""
    update, rename = metadata._MetadataStoreImpl.update, os.rename

    def update_late(*arguments: Any, **more: Any) -> None:
        time.sleep(0.2)
        update(*arguments, **more)

    def copy_and_rename(unfinished: Path, name: Path) -> None:
        if Path(name) == tmp_path / "checkpoints" / "1":
            shutil.copytree(unfinished, tmp_path / "copy" / "1")
        rename(unfinished, name)

    monkeypatch.setattr(metadata._MetadataStoreImpl, "update", update_late)
    monkeypatch.setattr(os, "rename", copy_and_rename)
    with store.CheckpointWriter(
        tmp_path / "checkpoints", keep_last=1, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(1, make_tree(1), {}, score=0.5)
    before, after = (store.read_step(tmp_path / name / "1") for name in ("copy", "checkpoints"))
    assert before.digest == after.digest
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in one if path.is_file()}
        for name in ("copy", "checkpoints")
        for one in [(tmp_path / name).rglob("*")]
    ]
    assert files[0] == files[1]


def test_a_flipped_bit_in_any_file_is_found_or_changes_nothing(saved):
    rng = np.random.default_rng(0)
    original = store.read_step(saved / "7")
    files = [path for path in (saved / "7").rglob("*") if path.is_file()]
    assert len(files) > 5
    found = set()
    for path in files:
        content = path.read_bytes()
        for position in {0, len(content) - 1, *rng.integers(len(content), size=9).tolist()}:
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            try:
                restored = store.read_step(saved / "7")
            except DamagedCheckpointError:
                found.add(path.parent.name)
                continue
            finally:
                path.write_bytes(content)
            assert restored.description == original.description
            assert restored.digest == original.digest
            assert restored.arrays.keys() == original.arrays.keys()
            jax.tree.map(np.testing.assert_array_equal, restored.arrays, original.arrays)
    assert found >= {"description", "metrics", "state", "d"}


def test_what_is_deleted_while_it_is_read_is_damaged(saved, tmp_path, monkeypatch):
    """As a run deletes its older checkpoints: Orbax has an error of its own for each file."""
    look = integrity.check_files
    files = [path.relative_to(saved) for path in (saved / "7").rglob("*") if path.is_file()]
    found = 0
    for number, doomed in enumerate([Path("7"), *sorted(files)]):
        checkpoint = shutil.copytree(saved / "7", tmp_path / str(number) / "7")
        path = tmp_path / str(number) / doomed

        def look_and_delete(directory: Path, path: Path = path) -> None:
            look(directory)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            monkeypatch.setattr(integrity, "check_files", look)

        monkeypatch.setattr(integrity, "check_files", look_and_delete)
        try:
            store.read(checkpoint)
        except DamagedCheckpointError:
            found += 1
    assert found >= 4  # all of it, a description, a manifest, arrays; other files are not read


def test_a_wrong_array_is_found(saved):
    """Damage before Orbax had it: the files are as written, the values are not."""
    item = saved / "7" / "description" / "metadata"
    description = json.loads(item.read_text())
    name = "params/inception_3a/3x3_reduce/kernel"
    description["arrays"][name]["sha256"] = "0" * 64
    item.write_text(json.dumps(description))
    with pytest.raises(DamagedCheckpointError, match="its description does not match its checksum"):
        store.read(saved / "7")
    item.write_text(json.dumps(integrity.with_digest(description)))
    with pytest.raises(DamagedCheckpointError, match=f"array {name}"):
        store.read(saved / "7")


def test_the_digest_is_of_the_values_and_the_description(tmp_path):
    digests = []
    for number, (value, note) in enumerate([(1, "a"), (1, "a"), (2, "a"), (1, "b")]):
        store.write(tmp_path / str(number), make_tree(value), {"note": note})
        digests.append(store.read(tmp_path / str(number)).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.fixture
def as_nobody() -> Callable[[], Any]:
    """A context in which this process has no right to files of others; needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")

    @contextlib.contextmanager
    def become() -> Iterator[None]:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return become


def test_what_may_not_be_read_is_not_damaged_and_stays(saved, as_nobody, tmp_path_factory):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is of one user only
        Path(folder).chmod(0o755)
        directory = shutil.copytree(saved, Path(folder) / "checkpoints")
        for path in directory.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        arrays = max((directory / "7").rglob("d/*"), key=lambda path: path.stat().st_size)
        for secret in (arrays, directory / "7" / "state", directory / "7" / "description"):
            mode = secret.stat().st_mode
            secret.chmod(0)
            with as_nobody():
                for read in (
                    lambda: store.read_newest(directory),
                    lambda: store.repair_and_restore(
                        directory, shapes(make_tree(0)), Path(folder) / "aside"
                    ),
                ):
                    with pytest.raises(UserError, match="cannot be read: Permission denied; mend"):
                        read()
            secret.chmod(mode)
        assert store.steps(directory) == [5, 7]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(5, "Input/output error"), "cannot be read, but is not damaged: .*Input/output"),
        (OSError(24, "Too many open files"), "is not damaged: .*Too many open files"),
        (MemoryError(), "is not damaged: MemoryError"),
    ],
)
def test_an_error_of_the_system_is_not_damage(saved, tmp_path, monkeypatch, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(reading, "_nested", fail)
    with pytest.raises(UserError, match=message):
        store.repair_and_restore(saved, shapes(make_tree(0)), tmp_path / "aside")
    assert store.steps(saved) == [5, 7]


def test_another_version_of_orbax_is_named_before_anything_is_moved(tmp_path, monkeypatch):
    """If it can read no checkpoint, all would be moved, and the run would start again."""
    directory = tmp_path / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=1, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(1, make_tree(1), {"versions": {"orbax-checkpoint": "99.1"}})
    store.read_step(directory / "1")  # as long as it can be read, the version does not matter

    def fail(*_):
        raise ValueError("unknown driver")

    monkeypatch.setattr(reading, "_nested", fail)
    with pytest.raises(UserError, match=r"written with orbax-checkpoint 99\.1 .*unknown driver"):
        store.repair_and_restore(directory, shapes(make_tree(0)), tmp_path / "aside")
    assert store.steps(directory) == [1]


def test_array_checksums_see_values_shape_and_type():
    array = np.arange(6, dtype=np.float32)
    variants = [array, array.reshape(2, 3), array.view(np.int32), -array, array[::-1]]
    described = [integrity.describe_arrays({"x": variant})["x"] for variant in variants]
    assert all(one not in described[:i] for i, one in enumerate(described))
    assert described[0] == integrity.describe_arrays({"x": jax.numpy.asarray(array)})["x"]


# More, of each file: faults/test_damaged_checkpoints.py.
DAMAGES = {
    "an empty directory with a large number": lambda d: (d / "999999").mkdir(),
    "no description": lambda d: shutil.rmtree(d / "7" / "description"),
    "no state": lambda d: shutil.rmtree(d / "7" / "state"),
    "another top-1": lambda d: (d / "7" / "metrics" / "metrics").write_text('{"top1": 0.9}'),
    "no top-1": lambda d: shutil.rmtree(d / "7" / "metrics"),
    "a copy under another number": lambda d: shutil.copytree(d / "5", d / "99"),
    "an unfinished save": lambda d: shutil.move(d / "7", d / "7.orbax-checkpoint-tmp"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_restoring_falls_back_says_so_and_loses_nothing(damage, saved, tmp_path, caplog):
    DAMAGES[damage](saved)
    still_good = ("an empty directory with a large number", "a copy under another number")
    newest = 7 if damage in still_good else 5
    found = store.read_newest(saved)
    assert found is not None
    assert found.path == saved / str(newest)
    before = {path.name for path in saved.iterdir()}
    caplog.clear()

    aside = tmp_path / "damaged_checkpoints"
    restored = store.repair_and_restore(saved, shapes(make_tree(0)), aside)

    assert restored is not None
    assert restored.description["step"] == newest
    np.testing.assert_array_equal(restored.tree["params"]["conv1"]["7x7_s2"]["bias"], newest)
    moved = {path.name for path in aside.iterdir()} if aside.exists() else set()
    assert before == moved | {path.name for path in saved.iterdir()}
    if damage != "an unfinished save":  # that one is Orbax's to clean up
        (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert "is damaged" in warning
        assert str(aside) in warning
    # The run goes on: the step that was damaged can be written again.
    with store.CheckpointWriter(saved, keep_last=3, keep_best=0, ranked_by="top1") as checkpoints:
        checkpoints.save(7 if newest == 5 else 9, make_tree(1), {})


def test_damage_in_an_older_checkpoint_does_not_stop_a_run(tmp_path, caplog):
    directory = tmp_path / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=3, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, make_tree(step), {}, score=0.5)
    (directory / "1" / "metrics" / "metrics").write_text("{")
    aside = tmp_path / "aside"
    restored = store.repair_and_restore(directory, shapes(make_tree(0)), aside)
    assert restored is not None
    assert restored.description["step"] == 3
    assert "checkpoint 1 is damaged (" in caplog.text
    with store.CheckpointWriter(
        directory, keep_last=3, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(4, make_tree(4), {}, score=0.1)
    assert {3, 4} <= set(store.steps(directory))


def test_of_a_checkpoint_and_the_one_that_it_replaces_the_new_one_counts(saved):
    shutil.copytree(saved / "5", saved / "7.replaced")  # not yet deleted
    found = store.read_newest(saved)
    assert found is not None
    assert found.path == saved / "7"
    assert store.steps(saved) == [5, 7]


def test_a_replaced_one_that_is_deleted_while_it_is_read_leads_to_the_new_one(saved, monkeypatch):
    (saved / "7").rename(saved / "7.replaced")
    look = integrity.check_files

    def look_and_replace(directory: Path) -> None:
        if directory.name == "7.replaced":
            directory.rename(saved / "7")
        look(directory)

    monkeypatch.setattr(integrity, "check_files", look_and_replace)
    found = store.read_newest(saved)
    assert found is not None
    assert found.path == saved / "7"


@contextlib.contextmanager
def failing_rename(monkeypatch) -> Iterator[None]:
    """Saves fail when all is written but the name."""
    rename = os.rename

    def fail(path, name):
        if ".orbax-checkpoint-tmp" in str(path) and Path(name).name.isdecimal():
            raise OSError("the machine fails")
        rename(path, name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        yield


def test_what_is_saved_again_replaces_the_first_when_it_is_whole(tmp_path, monkeypatch):
    """A state that an interrupted run saved and the next one has evaluated."""
    directory = tmp_path / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=1, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(3, make_tree(3), {"evaluated": False})

    with (
        failing_rename(monkeypatch),
        pytest.raises(OSError, match="the machine fails"),
        store.CheckpointWriter(
            directory, keep_last=1, keep_best=1, ranked_by="top1"
        ) as checkpoints,
    ):
        checkpoints.save(3, make_tree(3), {"evaluated": True}, score=0.5)
    assert [path.name for path in directory.iterdir()] == ["3.replaced"]

    found = store.read_newest(directory)  # who only reads finds it, and moves nothing
    assert found is not None
    assert (found.path, found.description["evaluated"]) == (directory / "3.replaced", False)
    assert store.steps(directory) == [3]
    assert workdir.of_checkpoint(found.path) == tmp_path
    assert [path.name for path in directory.iterdir()] == ["3.replaced"]

    restored = store.repair_and_restore(directory, shapes(make_tree(0)), tmp_path / "aside")
    assert restored is not None
    assert restored.description["evaluated"] is False
    assert [path.name for path in directory.iterdir()] == ["3"]

    with store.CheckpointWriter(
        directory, keep_last=1, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(3, make_tree(3), {"evaluated": True}, score=0.5)
        checkpoints.save(4, make_tree(4), {}, score=0.4)
    assert {path.name for path in directory.iterdir()} == {"3", "4"}  # the best and the newest
    assert store.read_description(directory / "3")["evaluated"] is True


def test_an_error_while_saving_does_not_hide_the_first_one(tmp_path, monkeypatch, caplog):
    writer = store.CheckpointWriter(tmp_path, keep_last=1, keep_best=0, ranked_by="top1")
    with (
        failing_rename(monkeypatch),
        pytest.raises(OSError, match="the machine fails"),
        writer as checkpoints,
    ):
        checkpoints.save(1, make_tree(1), {})

    def save_and_fail():
        with store.CheckpointWriter(
            tmp_path, keep_last=1, keep_best=0, ranked_by="top1"
        ) as checkpoints:
            checkpoints.save(1, make_tree(1), {})
            raise KeyError("first")

    with failing_rename(monkeypatch), pytest.raises(KeyError, match="first"):
        save_and_fail()
    assert "the last checkpoint was not written" in caplog.text
    assert store.steps(tmp_path) == []


def test_no_good_checkpoint_at_all(saved, tmp_path, caplog):
    for step in ("5", "7"):
        (saved / step / "description" / "metadata").write_text("{")
    target = shapes(make_tree(0))
    assert store.repair_and_restore(saved, target, tmp_path / "aside") is None
    assert "starting from step 0" in caplog.text
    assert store.repair_and_restore(tmp_path / "nothing", target, tmp_path / "aside") is None


def test_another_models_checkpoint_is_refused(saved):
    found, target = store.read(saved / "7"), shapes(make_tree(0))
    target["params"]["conv1"]["7x7_s2"]["kernel"] = jax.ShapeDtypeStruct((3,), np.float32)
    with pytest.raises(UserError, match=r"no array params/conv1/7x7_s2/kernel"):
        found.take(target)
    target = shapes(make_tree(0))
    target["params"]["conv1"]["7x7_s2"]["bias"] = jax.ShapeDtypeStruct((4,), np.float32)
    with pytest.raises(UserError, match=r"bias of shape \[5\] .* the model needs \[4\]"):
        found.take(target)
    target["params"]["conv1"]["7x7_s2"] = {"bias": jax.ShapeDtypeStruct((5,), np.int32)}
    with pytest.raises(UserError, match=r"of shape \[5\] and float32, the model needs .* int32"):
        found.take(target)
