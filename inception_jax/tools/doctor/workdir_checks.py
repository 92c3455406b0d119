"""The folder of a run: whether it can be written, what is in it, and whether there is room."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inception_jax.checkpoints import store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.config import configuration
from inception_jax.errors import UserError
from inception_jax.runtime import processes
from inception_jax.storage import disk, locks, workdir
from inception_jax.tools.doctor.examination import Check
from inception_jax.tools.doctor.subject import Subject
from inception_jax.tools.doctor.verdict import Finding, Verdict

LITTLE_ROOM = 1e9  # bytes


def access(subject: Subject) -> Finding:
    """Whether all works there that a run does with files. Nothing of it stays."""
    assert subject.workdir is not None
    there = nearest(subject.workdir)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as folder:
        write_rename_and_lock(Path(folder))
    free = shutil.disk_usage(there).free
    found = f"{subject.workdir} can be {'written' if there == subject.workdir else 'made'}"
    room = f"{found}, {free / 1e9:,.0f} GB free"
    if free < LITTLE_ROOM:
        return Finding(
            Verdict.WARNING, f"{found}, {disk.megabytes(free)} free", "make room on this disk"
        )
    return Finding(Verdict.OK, room)


def nearest(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there.

    Raises:
      DiskError: a file is in the way.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise disk.DiskError(f"{there} is no folder: give another --workdir")
    return there


def write_rename_and_lock(folder: Path) -> None:
    """Raises UserError naming what does not work in an existing folder."""
    partial, whole = folder / "partial", folder / "whole"
    with _doing("written"), partial.open("wb") as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())
    with _doing("renamed"):
        whole.write_bytes(b"")
        os.replace(partial, whole)
        if whole.stat().st_size != 1 << 16:
            raise UserError("a renamed file has not its content: use another disk")
    with _doing("locked"), whole.open() as first, whole.open() as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise UserError(
                "a file can be locked twice: two trainings in this folder would not notice one "
                "another; on NFS and Lustre, mount it with locks (flock)"
            )
    with _doing("deleted"):
        whole.unlink()


@contextlib.contextmanager
def _doing(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"files cannot be {done} there ({error.strerror}): use another disk"
        ) from None


def run(subject: Subject) -> Finding | None:
    """The run in it, if there is one: whose config, how far it came. Process 0 alone writes it."""
    folder = subject.workdir
    assert folder is not None
    if not processes.is_primary():
        return None
    if not (folder / workdir.CONFIG).exists():
        return Finding(Verdict.OK, "none yet")
    old = workdir.read_config(folder / workdir.CONFIG)
    if subject.config_file:
        workdir.check_same(folder, old, configuration.to_dict(subject.resolved))
    found, damaged = _newest(folder / workdir.CHECKPOINTS)
    if locks.is_held(folder):
        found += "; another process is training in it now"
    if damaged:
        return Finding(
            Verdict.WARNING,
            f"{found}; damaged: {'; '.join(damaged)}",
            f"none needed: training moves them to {workdir.DAMAGED_CHECKPOINTS}",
        )
    return Finding(Verdict.OK, found)


def _newest(checkpoints: Path) -> tuple[str, list[str]]:
    """What is known of the newest good one, and of damaged ones that are newer."""
    damaged: list[str] = []
    for step, path in reversed(store.checkpoints_in(checkpoints).items()):
        try:
            total = store.read_step(path).description.get("total_steps", "?")
            return f"step {step} of {total} is its newest good checkpoint", damaged
        except DamagedCheckpointError as error:
            damaged.append(f"checkpoint {step} ({error})")
    return "no good checkpoint: training would start over", damaged


def room(subject: Subject) -> Finding | None:
    """Whether the checkpoints that a run keeps, and the one being written, have a place."""
    assert subject.workdir is not None
    if not processes.is_primary():
        return None
    one, keep = subject.state_bytes, subject.resolved.checkpoints
    count = keep.keep_last + keep.keep_best + 1
    taken = _size(subject.workdir / workdir.CHECKPOINTS)
    needed = max(count * one - taken, one)
    free = shutil.disk_usage(nearest(subject.workdir)).free
    found = f"{count} checkpoints take up to {disk.megabytes(count * one)}"
    if taken:
        found += f", of which {disk.megabytes(taken)} are there"
    found += f"; {disk.megabytes(free)} free"
    if free < needed:
        return Finding(
            Verdict.FAILED, found, "make room, use another disk or lower checkpoints.keep_last"
        )
    return Finding(Verdict.OK, found)


def _size(folder: Path) -> int:
    """Bytes; a run that goes on meanwhile may delete files."""
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += path.stat().st_size if path.is_file() else 0
    return size


CHECKS = (
    Check("workdir", access, given=("workdir",)),
    Check("run", run, needs=("data",), given=("workdir",)),
    Check("room", room, needs=("workdir", "network"), given=("config", "workdir")),
)
