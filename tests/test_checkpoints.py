"""Checkpoints: what is kept, what comes back, and that no damage passes unnoticed."""

import gc
import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from orbax.checkpoint._src.metadata import checkpoint as metadata

from inception_jax.checkpoints import integrity, store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError


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
            checkpoints.save(step, make_tree(step), {"config": {"a": 1}})
    return directory


def test_what_is_saved_comes_back_whole_or_in_part(saved):
    tree = make_tree(7)
    restored = store.restore(saved / "7", shapes(tree))
    jax.tree.map(np.testing.assert_array_equal, restored.tree, tree)
    assert restored.tree.keys() == tree.keys()  # empty parts too
    assert restored.description["config"] == {"a": 1}
    assert restored.description["step"] == 7
    part = {"params": {"conv1": shapes(tree)["params"]["conv1"]}}
    restored = store.restore(saved / "7", part)
    np.testing.assert_array_equal(restored.tree["params"]["conv1"]["7x7_s2"]["bias"], 7)


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
        restored = store.restore(tmp_path / str(step), target)
        np.testing.assert_array_equal(restored.tree["x"], 3 * step - 2)


def test_a_checkpoint_is_sealed_when_orbax_has_written_all_of_it(tmp_path, monkeypatch):
    """Its metadata come from another thread, here from one that the system does not let run."""
    update = metadata._MetadataStoreImpl.update

    def update_late(*arguments: Any, **more: Any) -> None:
        time.sleep(0.2)
        update(*arguments, **more)

    monkeypatch.setattr(metadata._MetadataStoreImpl, "update", update_late)
    with store.CheckpointWriter(
        tmp_path, keep_last=1, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(1, make_tree(1), {})
    store.verify(tmp_path / "1")


def test_a_flipped_bit_in_any_file_is_found(saved):
    target, rng = shapes(make_tree(7)), np.random.default_rng(0)
    files = [path for path in (saved / "7").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        if path.parent == saved / "7" and path.name == "commit_success.txt":
            continue  # a text that Orbax writes last and nobody reads
        for position in {0, len(content) - 1, *rng.integers(len(content), size=3).tolist()}:
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            try:
                restored = store.restore(saved / "7", target)
            except DamagedCheckpointError:
                continue
            finally:
                path.write_bytes(content)
            # The time of the commit, in Orbax's metadata, is entered after the seal.
            assert path.name == "_CHECKPOINT_METADATA", path
            jax.tree.map(np.testing.assert_array_equal, restored.tree, make_tree(7))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see cli.py
def test_what_is_deleted_while_it_is_read_is_damaged(saved, tmp_path, monkeypatch):
    """As a run deletes its older checkpoints: Orbax has an error of its own for each file."""
    verify, target = integrity.verify_seal, shapes(make_tree(7))
    files = [path.relative_to(saved) for path in (saved / "7").rglob("*") if path.is_file()]
    found = []
    for number, doomed in enumerate([Path("7"), *sorted(files)]):
        checkpoint = shutil.copytree(saved / "7", tmp_path / str(number) / "7")
        path = tmp_path / str(number) / doomed

        def verify_and_delete(directory: Path, path: Path = path) -> None:
            verify(directory)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            monkeypatch.setattr(integrity, "verify_seal", verify)

        monkeypatch.setattr(integrity, "verify_seal", verify_and_delete)
        try:
            store.restore(checkpoint, target)
        except DamagedCheckpointError as error:
            found.append(str(error))
    gc.collect()  # what Orbax left behind complains now, and not in another test
    assert all("is missing" in message for message in found)
    assert len(found) >= 4  # all of it, a description, a manifest, arrays; other files are not read


def test_a_wrong_array_is_found_behind_an_intact_seal(saved):
    """Damage before the seal was made: the files are as written, the values are not."""
    item = saved / "7" / "description" / "metadata"
    description = json.loads(item.read_text())
    name = "params/inception_3a/3x3_reduce/kernel"
    description["arrays"][name]["crc32"] = "00000000"
    item.write_text(json.dumps(description))
    (saved / "7" / integrity.SEAL).unlink()
    integrity.seal(saved / "7")
    with pytest.raises(DamagedCheckpointError, match=f"array {name}"):
        store.restore(saved / "7", shapes(make_tree(7)))


def test_array_checksums_see_values_shape_and_type():
    array = np.arange(6, dtype=np.float32)
    variants = [array, array.reshape(2, 3), array.view(np.int32), -array, array[::-1]]
    described = [integrity.describe_arrays({"x": variant})["x"] for variant in variants]
    assert all(one not in described[:i] for i, one in enumerate(described))
    assert described[0] == integrity.describe_arrays({"x": jax.numpy.asarray(array)})["x"]


# More, of each file: faults/test_damaged_checkpoints.py.
DAMAGES = {
    "an empty directory with a large number": lambda d: (d / "999999").mkdir(),
    "no seal": lambda d: (d / "7" / integrity.SEAL).unlink(),
    "no state": lambda d: shutil.rmtree(d / "7" / "state"),
    "a foreign file": lambda d: (d / "7" / "state" / "extra").write_text("x"),
    "a copy under another number": lambda d: shutil.copytree(d / "5", d / "99"),
    "an unfinished save": lambda d: shutil.move(d / "7", d / "7.orbax-checkpoint-tmp"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_restoring_falls_back_says_so_and_loses_nothing(damage, saved, tmp_path, caplog):
    DAMAGES[damage](saved)
    still_good = ("an empty directory with a large number", "a copy under another number")
    newest = 7 if damage in still_good else 5
    assert store.newest_good(saved) == saved / str(newest)
    before = {path.name for path in saved.iterdir()}
    caplog.clear()

    aside = tmp_path / "damaged_checkpoints"
    restored = store.restore_newest(saved, shapes(make_tree(0)), aside)

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
    restored = store.restore_newest(directory, shapes(make_tree(0)), aside)
    assert restored is not None
    assert restored.description["step"] == 3
    assert "checkpoint 1 is damaged (file metrics/metrics" in caplog.text
    with store.CheckpointWriter(
        directory, keep_last=3, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(4, make_tree(4), {}, score=0.1)
    assert {3, 4} <= set(store.steps(directory))


def test_what_is_saved_again_replaces_the_first_when_it_is_whole(tmp_path, monkeypatch):
    """A state that an interrupted run saved and the next one has evaluated."""
    directory = tmp_path / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=1, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(3, make_tree(3), {"evaluated": False})

    def fail(folder):
        assert (directory / "3.replaced" / integrity.SEAL).exists()  # nothing is lost so far
        raise OSError("the machine fails")

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "seal", fail)
        with (
            pytest.raises(OSError, match="the machine fails"),
            store.CheckpointWriter(
                directory, keep_last=1, keep_best=1, ranked_by="top1"
            ) as checkpoints,
        ):
            checkpoints.save(3, make_tree(3), {"evaluated": True}, score=0.5)
    assert store.steps(directory) == []
    restored = store.restore_newest(directory, shapes(make_tree(0)), tmp_path / "aside")
    assert restored is not None
    assert restored.description["evaluated"] is False

    with store.CheckpointWriter(
        directory, keep_last=1, keep_best=1, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(3, make_tree(3), {"evaluated": True}, score=0.5)
        checkpoints.save(4, make_tree(4), {}, score=0.4)
    assert {path.name for path in directory.iterdir()} == {"3", "4"}  # the best and the newest
    assert store.read_description(directory / "3")["evaluated"] is True


def test_an_error_while_saving_does_not_hide_the_first_one(tmp_path, monkeypatch, caplog):
    def fail(directory):
        raise OSError("no space")

    monkeypatch.setattr(integrity, "seal", fail)
    writer = store.CheckpointWriter(tmp_path, keep_last=1, keep_best=0, ranked_by="top1")
    with pytest.raises(OSError, match="no space"), writer as checkpoints:
        checkpoints.save(1, make_tree(1), {})

    def save_and_fail():
        with store.CheckpointWriter(
            tmp_path, keep_last=1, keep_best=0, ranked_by="top1"
        ) as checkpoints:
            checkpoints.save(1, make_tree(1), {})
            raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        save_and_fail()
    assert "the last checkpoint was not written" in caplog.text
    assert store.steps(tmp_path) == []


def test_no_good_checkpoint_at_all(saved, tmp_path, caplog):
    for step in ("5", "7"):
        (saved / step / integrity.SEAL).write_text("{")
    target = shapes(make_tree(0))
    assert store.restore_newest(saved, target, tmp_path / "aside") is None
    assert "starting from step 0" in caplog.text
    assert store.restore_newest(tmp_path / "nothing", target, tmp_path / "aside") is None


def test_another_models_checkpoint_is_refused(saved):
    target = shapes(make_tree(0))
    target["params"]["conv1"]["7x7_s2"]["kernel"] = jax.ShapeDtypeStruct((3,), np.float32)
    with pytest.raises(UserError, match=r"no array params/conv1/7x7_s2/kernel"):
        store.restore(saved / "7", target)
    target = shapes(make_tree(0))
    target["params"]["conv1"]["7x7_s2"]["bias"] = jax.ShapeDtypeStruct((4,), np.float32)
    with pytest.raises(UserError, match=r"bias of shape \[5\], the model needs \[4\]"):
        store.restore(saved / "7", target)
