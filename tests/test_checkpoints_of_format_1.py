"""Checkpoints of format 1, which a seal proves whole: written by version 1, kept as a file."""

import json
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from inception_jax.checkpoints import format_1, reading, store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError

# Results of before name these.
DIGESTS = {
    5: "635783f88d068bfe1bcda4883aff7e276ab012fbfc46667fc4c29d1f8e386165",
    7: "28cb06f5f66817385fd2a0d1e459b87afa61adb77e1bb47534ac94b6793fe869",
}


def make_tree(step: int) -> dict:
    """The state that was saved."""
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3) + step
    return {
        "params": {"kernel": kernel, "bias": np.full(5, step, np.float16)},
        "step": np.int32(step),
    }


TARGET = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), make_tree(0))


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """Checkpoints 5 and 7."""
    with tarfile.open(ROOT / "tests" / "oracles" / "checkpoints_of_format_1.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("step", [5, 7])
def test_it_is_read_and_has_the_digest_of_before(checkpoints, step):
    found = store.read_step(checkpoints / str(step))
    assert found.digest == DIGESTS[step]
    assert found.description["config"] == {"a": 1}
    jax.tree.map(np.testing.assert_array_equal, found.take(TARGET), make_tree(step))


def test_a_run_goes_on_from_it_and_keeps_the_best_of_both_formats(checkpoints, tmp_path):
    restored = store.repair_and_restore(checkpoints, TARGET, tmp_path / "aside")
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, restored.tree, make_tree(7))
    with store.CheckpointWriter(checkpoints, keep_last=1, keep_best=1, ranked_by="top1") as writer:
        writer.save(8, make_tree(8), {}, 0.4)
        writer.save(9, make_tree(9), {})
    assert store.steps(checkpoints) == [5, 9]  # 5 has a top-1 of 0.5
    assert not (tmp_path / "aside").exists()


def test_a_flipped_bit_in_any_file_is_found(checkpoints):
    rng = np.random.default_rng(0)
    files = [path for path in (checkpoints / "5").rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        if path.parent.name == "5" and path.name == "commit_success.txt":
            continue  # Orbax wrote it after the seal; nobody reads it
        for position in {0, len(content) - 1, *rng.integers(len(content), size=3).tolist()}:
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            try:
                found = store.read_step(checkpoints / "5")
            except DamagedCheckpointError:
                continue
            finally:
                path.write_bytes(content)
            assert path.name == "_CHECKPOINT_METADATA", path  # the time of the commit
            jax.tree.map(np.testing.assert_array_equal, found.take(TARGET), make_tree(5))


def test_a_time_of_the_commit_that_is_not_a_number_is_damage(checkpoints):
    """The seal does not know the time; Orbax reads it."""
    file = checkpoints / "5" / "_CHECKPOINT_METADATA"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps(metadata | {"commit_timestamp_nsecs": 1}))
    store.read_step(checkpoints / "5")
    for content in (json.dumps(metadata | {"commit_timestamp_nsecs": "x"}), "[]", "[" * 100_000):
        file.write_text(content)
        with pytest.raises(DamagedCheckpointError, match="_CHECKPOINT_METADATA has changed"):
            store.read_step(checkpoints / "5")


DAMAGES = {
    "no seal": (lambda d: (d / format_1.SEAL).unlink(), "its description has no checksum"),
    "no file": (lambda d: (d / "state" / "_METADATA").unlink(), "file state/_METADATA is missing"),
    "a foreign file": (
        lambda d: (d / "state" / "extra").write_text("x"),
        "file state/extra does not belong to it",
    ),
    "another seal": (
        lambda d: shutil.copyfile(d.with_name("5") / format_1.SEAL, d / format_1.SEAL),
        "is missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_moved_aside(damage, checkpoints, tmp_path, caplog):
    do, message = DAMAGES[damage]
    do(checkpoints / "7")
    with pytest.raises(DamagedCheckpointError, match=message):
        store.read(checkpoints / "7")
    found = store.read_newest(checkpoints)
    assert found is not None
    assert found.description["step"] == 5
    assert store.steps(checkpoints) == [5, 7]
    restored = store.repair_and_restore(checkpoints, TARGET, tmp_path / "aside")
    assert restored is not None
    assert restored.description["step"] == 5
    assert (tmp_path / "aside" / "7").is_dir()


@pytest.mark.parametrize(
    "content",
    ["[]", "{", "", "3", '"x"', "[1]", '[["a", "b"]]', '{"../../x": "00"}', '{"/dev/zero": ""}',
     "[" * 100_000, '{"state": 3}'],
    ids=lambda content: content[:16],
)  # fmt: skip
def test_a_seal_of_another_content_is_damage(content, checkpoints):
    (checkpoints / "7" / format_1.SEAL).write_text(content)
    with pytest.raises(DamagedCheckpointError):
        store.read(checkpoints / "7")


def test_an_intact_one_that_orbax_cannot_read_is_not_damaged(checkpoints, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a later version of Orbax reads no such files")

    monkeypatch.setattr(reading, "_nested", fail)
    with pytest.raises(UserError, match="cannot be read, but is not damaged: a later version"):
        store.repair_and_restore(checkpoints, TARGET, tmp_path / "aside")
    assert store.steps(checkpoints) == [5, 7]
