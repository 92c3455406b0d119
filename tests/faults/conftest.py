"""What faults need: disks that fill up or cannot be written, which only root can make."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, call

from inception_jax.checkpoints import store
from inception_jax.checkpoints.description import make_description
from inception_jax.config.load import load_config
from inception_jax.config.resolve import resolve
from inception_jax.models.network import build
from inception_jax.models.options import network_config


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of no run: an untrained network of ten classes."""
    overrides = [
        "--config.model.width=0.03125", "--config.model.auxiliary=False",
        "--config.training.average_decay=0.0",
    ]  # fmt: skip
    config = load_config(str(ROOT / "configs" / "smoke.py"), overrides)
    config = resolve(config)
    params, batch_stats = build(network_config(config)).initial(seed=1)
    directory = tmp_path_factory.mktemp("small") / "network"
    description = make_description(config, [str(digit) for digit in range(10)], None)
    store.write(directory, {"params": params, "batch_stats": batch_stats}, description)
    return directory


def refusal(name: str, *arguments: object) -> str:
    """Runs a command in this process that must fail; returns the one line that says why."""
    result = call(name, *arguments)
    assert result.returncode in (1, 2), result
    lines = result.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "Traceback" not in result.stderr
    assert "--debug" not in lines[-1], lines[-1]  # an error that nobody thought of
    assert lines[-1].isprintable()
    return lines[-1]


@pytest.fixture
def refused() -> Callable[..., str]:
    """Commands that must fail in one line."""
    return refusal


class Disk:
    """A file system of its own, of a few hundred kilobytes or more, in memory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fill(self, leave: int = 0) -> None:
        """Takes all room but `leave` bytes."""
        filling = os.open(self.folder / "filling", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(filling, bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        if leave:
            os.truncate(filling, max(0, os.fstat(filling).st_size - leave))
        os.close(filling)

    def make_room(self) -> None:
        (self.folder / "filling").unlink()

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Makes a disk of a size ("300k"); gone at the end of the test.

    Where there is no right to mount, the test is skipped; in CI as root that is a failure.
    """
    with contextlib.ExitStack() as stack:

        def make(size: str) -> Disk:
            folder = tmp_path / f"disk_{size}"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            try:
                result = subprocess.run(command, capture_output=True, text=True)
                problem = result.stderr.strip() if result.returncode else ""
            except FileNotFoundError:
                problem = "there is no mount command"
            if problem and os.environ.get("CI") == "true" and os.geteuid() == 0:
                pytest.fail(f"root in CI, and no small disk: {problem}")
            if problem:
                pytest.skip(f"a small disk needs the right to mount one: {problem}")
            # Lazily: what failed may still have a file open.
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return Disk(folder)

        yield make
