"""Each file of a checkpoint, damaged in each way: a run falls back and says so, or what is read is
what was saved, to the bit.

Single bits, and deletions while it is read: tests/test_checkpoints.py.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from inception_jax.checkpoints import integrity, loaded_model, store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.errors import UserError
from inception_jax.runtime import devices


def tree(step: int) -> dict:
    values = np.random.default_rng(step).random(1000, np.float32)
    return {"params": {"kernel": values, "bias": values[:5]}, "step": np.int32(step)}


TARGET = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree(0))


@pytest.fixture(scope="module")
def mesh():
    return devices.make_mesh()


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Checkpoints 5 and 7."""
    directory = tmp_path_factory.mktemp("originals") / "checkpoints"
    with store.CheckpointWriter(
        directory, keep_last=2, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        for step in (5, 7):
            checkpoints.save(step, tree(step), {}, score=step / 10)
    return directory


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_pipe(file: Path) -> None:
    """Who opens it for reading waits for ever."""
    file.unlink()
    os.mkfifo(file)


def replace_by_endless_device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def replace_by_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def swap_with_other_step(file: Path) -> None:
    step = next(parent for parent in file.parents if parent.name == "7")
    same = step.with_name("5") / file.relative_to(step)
    if not same.exists():  # files of arrays have random names
        same = max((step.with_name("5") / "state").rglob("d/*"), key=lambda p: p.stat().st_size)
    shutil.copyfile(same, file)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "deleted": Path.unlink,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
    "an endless device": replace_by_endless_device,
    "a link to itself": replace_by_loop,
    "of another step": swap_with_other_step,
}


def kinds(checkpoint: Path) -> dict[str, Path]:
    """A file of each kind that is read: what it is, and where."""
    arrays = max((checkpoint / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    return {
        "a description": checkpoint / "description" / "metadata",
        "the accuracy": checkpoint / "metrics" / "metrics",
        "arrays": arrays,
        "where arrays lie": checkpoint / "state" / "manifest.ocdbt",
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_falls_back_from_a_damaged_file_of_each_kind(damage, originals, tmp_path, caplog):
    for number, file in enumerate(kinds(originals / "7").values()):
        name = file.relative_to(originals)
        found = falls_back(damage, name, originals, tmp_path / str(number), caplog)
        assert found or (damage, name.parent.name) == ("longer", "d")  # arrays have their length


@pytest.mark.breadth
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_any_other_file_is_found_or_changes_nothing(damage, originals, tmp_path, caplog):
    files = {path for path in (originals / "7").rglob("*") if path.is_file()}
    assert len(files) > 8
    others = files - set(kinds(originals / "7").values())
    for number, file in enumerate(sorted(others)):
        folder, name = tmp_path / str(number), file.relative_to(originals)
        if not falls_back(damage, name, originals, folder, caplog):
            with store.CheckpointWriter(
                folder / "checkpoints", keep_last=2, keep_best=1, ranked_by="top1"
            ) as checkpoints:
                checkpoints.save(9, tree(9), {}, score=0.1)
            assert store.steps(folder / "checkpoints") == [7, 9], name  # the best and the newest


def falls_back(damage: str, file: Path, originals: Path, folder: Path, caplog) -> bool:
    """Damages a file of checkpoint 7 in a copy, and resumes from there.

    Returns:
      False where checkpoint 7 was read nevertheless, without a difference.
    """
    directory = shutil.copytree(originals, folder / "checkpoints")
    path, original = directory / file, store.read_step(originals / "7")
    DAMAGES[damage](path)
    caplog.clear()
    damaged = None
    try:
        found = store.read_step(directory / "7")
        assert found.description == original.description
        jax.tree.map(np.testing.assert_array_equal, found.arrays, original.arrays)
    except DamagedCheckpointError as error:
        damaged = error
    aside = folder / "aside"
    restored = store.repair_and_restore(directory, TARGET, aside)
    assert restored is not None
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and record.name != "absl"  # commands leave out Orbax's
    ]
    if damaged is None:
        assert restored.description["step"] == 7
        assert warnings == []
        return False
    assert restored.description["step"] == 5, file
    jax.tree.map(np.testing.assert_array_equal, restored.tree, tree(5))
    (warning,) = warnings
    assert "checkpoint 7 is damaged" in warning
    assert [path.name for path in aside.iterdir()] == ["7"]
    return True


# JSON that is whole and not what Orbax writes: it reads this file of every checkpoint of a run.
METADATA = {
    "a list": "[]",
    "a number": "3",
    "deep": "[" * 100_000,
    "a number of 5000 digits": "9" * 5000,
    "a handler that is a number": '{"item_handlers": 3}',
    "a time that is a text": '{"commit_timestamp_nsecs": "x"}',
    "a time beyond all years": f'{{"commit_timestamp_nsecs": {10**30}}}',
    "a foreign measurement": '{"performance_metrics": {"x": 1.5}}',
}


@pytest.mark.parametrize("step", [5, 7])
@pytest.mark.parametrize("content", METADATA)
def test_a_run_goes_on_without_a_checkpoint_whose_metadata_orbax_refuses(
    content, step, originals, tmp_path, caplog
):
    directory = shutil.copytree(originals, tmp_path / "checkpoints")
    (directory / str(step) / "_CHECKPOINT_METADATA").write_text(METADATA[content])
    aside, other = tmp_path / "aside", 12 - step
    restored = store.repair_and_restore(directory, TARGET, aside)
    assert restored is not None
    assert restored.description["step"] == other
    assert [path.name for path in aside.iterdir()] == [str(step)]
    assert f"checkpoint {step} is damaged" in caplog.text
    with store.CheckpointWriter(
        directory, keep_last=2, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(9, tree(9), {})
    assert store.steps(directory) == [other, 9]


@pytest.mark.parametrize("content", [None, "", "{", "{}", "null"])
def test_metadata_that_orbax_does_without_is_no_damage(content, originals, tmp_path):
    """The commit then has the time of the folder, which nobody asks for."""
    directory = shutil.copytree(originals, tmp_path / "checkpoints")
    file = directory / "7" / "_CHECKPOINT_METADATA"
    file.unlink() if content is None else file.write_text(content)
    restored = store.repair_and_restore(directory, TARGET, tmp_path / "aside")
    assert restored is not None
    assert restored.description["step"] == 7
    with store.CheckpointWriter(directory, keep_last=2, keep_best=0, ranked_by="top1"):
        assert store.steps(directory) == [5, 7]


STRANGERS: dict[str, Callable[[Path], Any]] = {
    "an empty folder": lambda d: (d / "9").mkdir(),
    "a file": lambda d: (d / "9").write_text("x"),
    "a pipe": lambda d: os.mkfifo(d / "9"),
    "a dangling link": lambda d: (d / "9").symlink_to("nowhere"),
    "a link to itself": lambda d: (d / "9").symlink_to("9"),
    "a huge number": lambda d: (d / ("9" * 200)).mkdir(),
    "another step under this name": lambda d: shutil.copytree(d / "5", d / "9"),
    "an unfinished save": lambda d: shutil.copytree(d / "5", d / "9.orbax-checkpoint-tmp"),
    "an unfinished item": lambda d: (d / "9" / "state.orbax-checkpoint-tmp").mkdir(parents=True),
    "zeros before the number": lambda d: shutil.copytree(d / "5", d / "0009"),
    "a sign before the number": lambda d: shutil.copytree(d / "5", d / "-9"),
    "a number of another script": lambda d: shutil.copytree(d / "5", d / "٩"),
    "notes": lambda d: (d / "notes.txt").write_text("x"),
}


def newest(directory: Path) -> Path | None:
    found = store.read_newest(directory)
    return found.path if found else None


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_no_checkpoint_is_passed_over_and_kept(stranger, originals, tmp_path):
    directory = shutil.copytree(originals, tmp_path / "checkpoints")
    STRANGERS[stranger](directory)
    assert newest(directory) == directory / "7"
    aside = tmp_path / "aside"
    restored = store.repair_and_restore(directory, TARGET, aside)
    assert restored is not None
    assert restored.description["step"] == 7
    with store.CheckpointWriter(
        directory, keep_last=2, keep_best=0, ranked_by="top1"
    ) as checkpoints:
        checkpoints.save(9, tree(9), {})
    assert newest(directory) == directory / "9"
    assert {7, 9} <= set(store.steps(directory))


# ---- Descriptions, intact and wrong: of a newer version, or from somebody who means harm.


def edited(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        file = checkpoint / "description" / "metadata"
        description = json.loads(file.read_text())
        changed = change(description)
        file.write_text(json.dumps(description if changed is None else changed))

    return damage


def with_field(path: str, value: Any) -> Callable[[Path], None]:
    def change(description: dict) -> None:
        *sections, name = path.split(".")
        for section in sections:
            description = description[section]
        description[name] = value

    return edited(change)


def without(path: str) -> Callable[[Path], None]:
    def change(description: dict) -> None:
        *sections, name = path.split(".")
        for section in sections:
            description = description[section]
        del description[name]

    return edited(change)


def as_bytes(content: bytes) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        (checkpoint / "description" / "metadata").write_bytes(content)

    return damage


OTHERS = (None, True, -1, 1e300, "\x1b[31m\n", [1], {"a": 1})

WRONG: dict[str, Callable[[Path], None]] = {
    "no JSON": as_bytes(b"{"),
    "nothing": as_bytes(b""),
    "binary": as_bytes(bytes(range(256))),
    "deep": as_bytes(b"[" * 100_000 + b"]" * 100_000),
    "huge": as_bytes(b'{"a": "' + b"x" * 20_000_000 + b'"}'),
    "a list": edited(lambda description: [description]),
    "an unknown section": with_field("config.evil", {"a": 1}),
    "an unknown field": with_field("config.model.evil", 1),
    "a newer format": with_field("format", 3),
    "fewer names": edited(lambda description: description["class_names"].pop() and None),
    "names that are numbers": with_field("class_names", list(range(10))),
    "no shape": edited(lambda d: d["arrays"]["params/loss3/classifier/bias"].pop("shape") and None),
    "shape of no numbers": with_field("arrays.params/loss3/classifier/bias", {"shape": None}),
    "a model beyond reason": with_field("config.model.width", 1e300),
    "classes beyond reason": with_field("config.model.num_classes", 2**62),
}
for _field in ("config", "class_names", "arrays", "step", "format"):
    WRONG[f"no {_field}"] = without(_field)
    WRONG |= {f"{_field} is {v!r}": with_field(_field, v) for v in OTHERS}
for _field in (
    "model", "model.width", "model.norm", "model.num_classes", "model.auxiliary", "data",
    "data.image_size", "data.mean", "evaluation", "training.average_decay", "seed",
):  # fmt: skip
    if _field not in ("evaluation", "seed"):
        WRONG[f"no {_field}"] = without(f"config.{_field}")
    WRONG |= {f"{_field} is {v!r}": with_field(f"config.{_field}", v) for v in OTHERS}


@pytest.fixture(scope="module")
def network(small_network, tmp_path_factory) -> Path:
    return shutil.copytree(small_network, tmp_path_factory.mktemp("network") / "network")


def test_a_description_that_cannot_be_is_refused_in_words(network, mesh, tmp_path):
    """With a new checksum each time, so that it says nothing; each error is one of ours."""
    loaded_model.load(network, mesh)
    file = network / "description" / "metadata"
    original, accepted = file.read_bytes(), []
    for name, damage in WRONG.items():
        file.write_bytes(original)
        damage(network)
        with_new_digest(file)
        try:
            loaded_model.load(network, mesh)
        except UserError:
            continue
        accepted.append(name)
    assert accepted == []


def with_new_digest(file: Path) -> None:
    """Where it is still an object: else there is nothing to have a checksum."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        file.write_text(json.dumps(integrity.with_digest(json.loads(file.read_text()))))


def test_evaluate_and_predict_say_it_in_one_line(originals, refused, tmp_path):
    damaged = shutil.copytree(originals / "7", tmp_path / "7")
    shutil.rmtree(damaged / "description")
    for name, *others in (["evaluate"], ["predict", "--images", __file__]):  # is not opened
        line = refused(name, "--checkpoint", damaged, *others)
        assert f"{damaged} is not a good checkpoint: it has no description" in line
