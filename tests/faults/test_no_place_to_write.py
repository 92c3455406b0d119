"""Folders that cannot be written, and files where folders should be: one line, nothing elsewhere.

Permissions do not bind root, so the folders lie on a disk that is mounted read-only.
"""

from pathlib import Path

import pytest
from conftest import ROOT

TRAIN = (
    "--config", ROOT / "configs" / "smoke.py", "--config.training.total=1 steps",
    "--config.model.width=0.03125", "--config.model.auxiliary=False",
)  # fmt: skip


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A current folder that must stay empty."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert not everything_in(folder)


def test_a_disk_that_is_read_only(make_disk, refused, elsewhere, small_network):
    disk = make_disk("1m")
    for name in ("run", "data"):
        (disk.folder / name).mkdir()
    disk.remount("ro")
    before = everything_in(disk.folder)
    for workdir in (disk.folder / "run", disk.folder / "new" / "run"):
        line = refused("train", *TRAIN, "--workdir", workdir)
        assert str(disk.folder) in line
        assert "Read-only file system" in line
    for data_dir in (disk.folder / "data", disk.folder / "new"):
        line = refused("prepare", "digits", "--data_dir", data_dir)
        assert f"{data_dir}" in line
        assert "Read-only file system" in line
    out = disk.folder / "out"
    line = refused("export", "--checkpoint", small_network, "--to", "onnx", "--output", out)
    assert "Read-only file system" in line
    assert everything_in(disk.folder) == before


def test_files_where_folders_should_be(refused, elsewhere, tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    in_the_way = "cannot be a folder: a file is in the way"
    for workdir in (file, file / "below"):
        line = refused("train", *TRAIN, "--workdir", workdir)
        assert f"{workdir} {in_the_way}" in line
    line = refused("prepare", "digits", "--data_dir", file)
    assert f"{file / 'digits'} {in_the_way}" in line
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").write_text("precious")
    line = refused("train", *TRAIN, "--workdir", run)
    assert f"{run / 'checkpoints'} {in_the_way}" in line
    line = refused("evaluate", "--workdir", run)
    assert f"no good checkpoint in {run / 'checkpoints'}" in line
    assert file.read_text() == (run / "checkpoints").read_text() == "precious"
