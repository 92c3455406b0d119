"""Checks of a run's folder: that it can be written, its run, and room for checkpoints."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inception_jax.checkpoints import store
from inception_jax.checkpoints.integrity import DamagedCheckpointError
from inception_jax.config import compatibility
from inception_jax.errors import UserError
from inception_jax.runtime import processes
from inception_jax.storage import disk, locks, workdir
from inception_jax.tools.doctor.check_result import CheckResult, Status
from inception_jax.tools.doctor.context import Context
from inception_jax.tools.doctor.run_checks import Check

LITTLE_ROOM = 1e9  # bytes


def access(context: Context) -> CheckResult:
    """Tries all that a run does with files there, and leaves nothing behind."""
    assert context.workdir is not None
    there = nearest(context.workdir)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as folder:
        write_rename_and_lock(Path(folder))
    free = shutil.disk_usage(there).free
    found = f"{context.workdir} can be {'written' if there == context.workdir else 'made'}"
    if free < LITTLE_ROOM:
        found += f", {disk.megabytes(free)} free"
        return CheckResult(Status.WARNING, found, "make room on this disk")
    return CheckResult(Status.OK, f"{found}, {free / 1e9:,.0f} GB free")


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists.

    Raises:
      DiskError: a file is in the way.
    """
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not there.is_dir():
        raise disk.DiskError(f"{there} is not a folder: give another --workdir")
    return there


def write_rename_and_lock(folder: Path) -> None:
    """Raises UserError if one of these, which it names, fails in an existing folder."""
    partial, whole = folder / "partial", folder / "whole"
    with _can_be("written"), partial.open("wb") as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())
    with _can_be("renamed"):
        whole.write_bytes(b"")
        os.replace(partial, whole)
        if whole.stat().st_size != 1 << 16:
            raise UserError("a renamed file has not its content: use another disk")
    with _can_be("locked"), whole.open() as first, whole.open() as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise UserError(
                "a file can be locked twice: two trainings in this folder would not notice one "
                "another; on NFS and Lustre, mount it with locks (flock)"
            )
    with _can_be("deleted"):
        whole.unlink()


@contextlib.contextmanager
def _can_be(done: str) -> Iterator[None]:
    """Turns an error of the file system into a UserError that says what was `done`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"files cannot be {done} there ({error.strerror}): use another disk"
        ) from None


def run(context: Context) -> CheckResult | None:
    """Checks the run in the folder, if there is one: its config and its newest checkpoint."""
    folder = context.workdir
    assert folder is not None
    if not processes.is_primary():  # it alone writes there
        return None
    if not (folder / workdir.CONFIG).exists():
        return CheckResult(Status.OK, "none yet")
    old = workdir.read_config(folder / workdir.CONFIG)
    if context.config_file:
        workdir.check_same(folder, old, compatibility.to_dict(context.resolved))
    found, damaged = newest_checkpoint(folder / workdir.CHECKPOINTS)
    if locks.is_held(folder):
        found += "; another process is training in it now"
    if damaged:
        found += f"; damaged: {'; '.join(damaged)}"
        remedy = f"none needed: training moves them to {workdir.DAMAGED_CHECKPOINTS}"
        return CheckResult(Status.WARNING, found, remedy)
    return CheckResult(Status.OK, found)


def newest_checkpoint(checkpoints: Path) -> tuple[str, list[str]]:
    """Describes the newest good checkpoint, and the damaged ones that are newer."""
    damaged: list[str] = []
    for step, path in reversed(store.checkpoints_in(checkpoints).items()):
        try:
            total = store.read_step(path).description.get("total_steps", "?")
            return f"step {step} of {total} is its newest good checkpoint", damaged
        except DamagedCheckpointError as error:
            damaged.append(f"checkpoint {step} ({error})")
    return "no good checkpoint: training would start over", damaged


def room(context: Context) -> CheckResult | None:
    """Checks that the checkpoints that a run keeps, and the one being written, have room."""
    assert context.workdir is not None
    if not processes.is_primary():
        return None
    one, keep = context.state_bytes, context.resolved.checkpoints
    count = keep.keep_last + keep.keep_best + 1
    taken = size(context.workdir / workdir.CHECKPOINTS)
    needed = max(count * one - taken, one)
    free = shutil.disk_usage(nearest(context.workdir)).free
    found = f"{count} checkpoints take up to {disk.megabytes(count * one)}"
    if taken:
        found += f", of which {disk.megabytes(taken)} are there"
    found += f"; {disk.megabytes(free)} free"
    if free < needed:
        remedy = "make room, use another disk or lower checkpoints.keep_last"
        return CheckResult(Status.FAILED, found, remedy)
    return CheckResult(Status.OK, found)


def size(folder: Path) -> int:
    """Bytes of all files below a folder, which a run may delete meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


CHECKS = (
    Check("workdir", access, given=("workdir",)),
    Check("run", run, needs=("data",), given=("workdir",)),
    Check("room", room, needs=("workdir", "network"), given=("config", "workdir")),
)
