"""Jobs of several processes on this machine, for tests that disturb them."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


class Job:
    """`python -m inception_jax.NAME` in several processes; the output of each goes to a file."""

    def __init__(self, environment: dict[str, str], folder: Path, processes: int):
        self.folder, self._environment, self._count = folder, environment, processes
        self.processes: list[subprocess.Popen] = []
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *arguments: object, own: dict[int, list[str]] | None = None) -> None:
        """Starts all; `own` has arguments that only some get."""
        self.outputs = [self.folder / f"stderr_{index}" for index in range(self._count)]
        together = ["--coordinator", f"127.0.0.1:{free_port()}", "--num_processes", self._count]
        for index, output in enumerate(self.outputs):
            extra = [*together, "--process_id", index] if self._count > 1 else []
            extra += (own or {}).get(index, [])
            with output.open("w") as stderr, (self.folder / f"stdout_{index}").open("w") as stdout:
                command = [sys.executable, "-m", f"inception_jax.{name}", *arguments, *extra]
                self.processes.append(
                    subprocess.Popen(
                        [str(argument) for argument in command],
                        cwd=ROOT,
                        env=self._environment,
                        stdout=stdout,
                        stderr=stderr,
                    )
                )

    def said(self, index: int) -> str:
        """What a process wrote to standard error."""
        return self.outputs[index].read_text()

    def wait(self, seconds: float = 900) -> list[int]:
        """The exit codes of all."""
        deadline = time.monotonic() + seconds
        return [one.wait(max(deadline - time.monotonic(), 0.1)) for one in self.processes]

    def running(self) -> bool:
        """Whether none has ended."""
        return all(one.poll() is None for one in self.processes)

    def wait_until(self, happened: Callable[[], bool], seconds: float = 900) -> bool:
        """Waits for something; False if a process ended before."""
        deadline = time.monotonic() + seconds
        while not happened():
            if not self.running():
                return False
            assert time.monotonic() < deadline, self.said(0)
            time.sleep(0.02)
        return True

    def signal_all(self, number: signal.Signals) -> None:
        """As a launcher does."""
        for one in self.processes:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(number)


@contextlib.contextmanager
def job(environment: dict[str, str], folder: Path, processes: int) -> Iterator[Job]:
    """A job of which nothing is left after the block."""
    one = Job(environment, folder, processes)
    try:
        yield one
    finally:
        for process in one.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
