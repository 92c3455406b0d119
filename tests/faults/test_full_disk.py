"""Disks that fill up: one line, nothing lost, and the same command goes on when there is room."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT, read_metrics

from inception_jax.checkpoints import store
from inception_jax.data.preparing.conversion import _convert_shard, _Shard
from inception_jax.predict import logits_file
from inception_jax.storage import json_files
from inception_jax.storage.disk import DiskError
from inception_jax.training.metrics_log import MetricsLog, read_lines

KILOBYTE = 1000


def make_tree(value: int) -> dict:
    """100 kB that cannot be compressed."""
    return {"x": np.random.default_rng(value).random(25 * KILOBYTE, np.float32)}


def restore(directory: Path) -> store.Restored | None:
    target = {"x": jax.ShapeDtypeStruct((25 * KILOBYTE,), np.float32)}
    return store.repair_and_restore(directory, target, directory.with_name("aside"))


def test_a_save_without_room_costs_no_older_checkpoint(make_disk):
    disk = make_disk("400k")
    directory = disk.folder / "checkpoints"
    open_writer = functools.partial(
        store.CheckpointWriter, directory, keep_last=1, keep_best=0, ranked_by="top1"
    )
    with open_writer() as checkpoints:
        checkpoints.save(1, make_tree(1), {})
    disk.fill(leave=50 * KILOBYTE)
    with pytest.raises(DiskError) as error, open_writer() as checkpoints:
        checkpoints.save(2, make_tree(2), {})
    assert f"no room left in {directory} (checkpoint 2 takes up to 0.1 MB, 0." in str(error.value)
    assert "make room and give the same command again" in str(error.value)
    assert [path.name for path in directory.iterdir()] == ["1"]  # what was begun is cleared away
    disk.make_room()
    restored = restore(directory)
    assert restored is not None
    np.testing.assert_array_equal(restored.tree["x"], make_tree(1)["x"])
    with open_writer() as checkpoints:
        checkpoints.save(2, make_tree(2), {})
    assert store.steps(directory) == [2]


def test_a_failed_save_is_noticed_before_the_next_one(make_disk):
    disk = make_disk("50k")

    def run() -> None:
        with store.CheckpointWriter(
            disk.folder / "c", keep_last=1, keep_best=0, ranked_by="top1"
        ) as checkpoints:
            checkpoints.save(1, make_tree(1), {})
            while True:  # steps
                checkpoints.check()

    with pytest.raises(DiskError, match="checkpoint 1"):
        run()


def test_a_checkpoint_of_no_run_is_written_whole_or_not_at_all(make_disk):
    disk = make_disk("50k")
    with pytest.raises(DiskError, match=rf"no room left in {disk.folder} .*takes up to 0.1 MB"):
        store.write(disk.folder / "converted", make_tree(1), {})
    assert list(disk.folder.iterdir()) == []


def test_metrics_never_have_a_half_line_that_counts(make_disk):
    """Room for some of the lines; afterwards all are there once more, and those that were not."""
    disk = make_disk("80k")
    values = {f"value_{number}": number / 7 for number in range(40)}
    written = 0

    def run() -> None:
        nonlocal written
        with MetricsLog(disk.folder, resume_step=0) as log:
            disk.fill(leave=8 * KILOBYTE)
            for step in range(1, 1000):
                log.write(step, values)
                written = step

    with pytest.raises(DiskError, match=f"no room left in {disk.folder}"):
        run()
    assert written > 1
    path = disk.folder / "metrics.jsonl"
    steps = [line["step"] for line in read_lines(path)]
    assert steps[:written] == list(range(1, written + 1))
    before = path.read_bytes()
    with pytest.raises(DiskError):  # no room for a second copy either: the first one stays
        MetricsLog(disk.folder, resume_step=written)
    assert path.read_bytes() == before
    assert not path.with_name("metrics.jsonl.partial").exists()
    disk.make_room()
    with MetricsLog(disk.folder, resume_step=2) as log:
        log.write(3, {"loss": 1.0})
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3]


def test_a_file_that_cannot_be_replaced_stays(make_disk):
    disk = make_disk("50k")
    path = disk.folder / "result.json"
    json_files.replace(path, "old")
    disk.fill()
    with pytest.raises(DiskError, match=f"no room left in {disk.folder}"):
        json_files.replace(path, "new" * KILOBYTE)
    assert path.read_text() == "old"


def test_logits_without_room_are_an_error_and_no_crash(make_disk):
    """Mapped memory would end the process with SIGBUS."""
    disk = make_disk("50k")

    def write() -> None:
        with logits_file(disk.folder / "logits.npy", 1000) as save:
            for first in range(0, 1000, 100):
                save(np.arange(first, first + 100), np.zeros((100, 1, 1, 100), np.float32))

    with pytest.raises(DiskError):
        write()
    assert list(disk.folder.iterdir()) == []


def test_a_shard_without_room_is_not_taken_for_whole(make_disk, data_dir):
    disk = make_disk("50k")
    (source,) = data_dir.glob("digits/*/digits-train.array_record-*")
    target = disk.folder / "shard"
    with pytest.raises(Exception, match="No space left on device"):
        _convert_shard(_Shard(source, target, 1437), None)
    assert not target.exists()


def test_a_run_goes_on_when_there_is_room_and_ends_the_same(
    command, smoke_arguments, make_disk, tmp_path
):
    straight = tmp_path / "straight"
    command("train", *smoke_arguments(straight, total=12, every=2))
    disk = make_disk("9m")
    workdir = disk.folder / "run"
    arguments = smoke_arguments(workdir, total=12, every=2)
    # In turn: before the first checkpoint, in a save, and with no room for a line of metrics.
    needed = sum(path.stat().st_size for path in (straight / "checkpoints" / "12").rglob("*"))
    for leave, saved in ((needed // 2, []), (needed * 7 // 4, [2]), (KILOBYTE, [2])):
        disk.fill(leave=leave)
        line = command.fails("train", *arguments, exit_code=1)
        assert "error: no room left in " in line
        assert str(workdir) in line
        assert " MB free): make room and give the same command again" in line
        assert store.steps(workdir / "checkpoints") == saved
        for step in saved:
            store.read_step(workdir / "checkpoints" / str(step))
        disk.make_room()
    command("train", *arguments)
    described = [
        store.read_description(run / "checkpoints" / "12")["arrays"] for run in (straight, workdir)
    ]
    assert described[0] == described[1]
    assert read_metrics(workdir) == read_metrics(straight)
    result = json.loads(command("evaluate", "--workdir", workdir).stdout)
    assert result["examples"] == 64
    disk.fill()
    line = command(
        "evaluate", "--workdir", workdir, "--config.evaluation.short_side=40", exit_code=1
    ).stderr.splitlines()[-1]
    assert line.startswith(f"error: no room left in {workdir / 'results'} (0.0 MB free)")
    assert [path.suffix for path in (workdir / "results").iterdir()] == [".json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [  # a table, at once; and a short line, which Python writes when the process ends
        (
            ["--config", "configs/smoke.py"],
            "no room left where the output goes: make room and give the same command again",
        ),
        (
            ["--compare", "configs/smoke.py", "--json"],
            "standard output: No space left on device",
        ),
    ],
    ids=["at once", "at the end"],
)
def test_a_full_standard_output_is_one_line(command, arguments, message):
    environment = command.environment()
    environment.pop("PYTHONUNBUFFERED", None)  # with it every line is written at once
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "inception_jax.describe", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip
    assert process.returncode == 1
    assert process.stderr.splitlines() == [f"error: {message}"]


def test_a_preparation_without_room_leaves_nothing_that_passes_for_data(command, make_disk):
    disk = make_disk("200k")
    line = command.fails("prepare", "digits", "--data_dir", disk.folder / "data", exit_code=1)
    assert f"no room left in {disk.folder / 'data'} " in line
    assert [path.name for path in disk.folder.glob("data/digits/*")] == [".lock"]
    disk.remount("size=5m")
    command("prepare", "digits", "--data_dir", disk.folder / "data")
    assert (disk.folder / "data" / "digits" / "1.1.0").is_dir()
