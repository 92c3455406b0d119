"""Starts other programs that do the same work, each in a process of its own, and measures them.

A peer is a Python program. It reads from standard input one JSON line that describes its work, and
for each example a JSON line `{"label": ..., "bytes": ...}` followed by so many bytes of the image
file. It prints `{"ready": {...}}` with its version. From then on it answers each line `measure`
with the fields of a `throughput.Speed`, and only after it has come to rest, so that it takes no CPU
from the next one that is measured. `{"error": ...}` may come at any time. It ends when its input
does.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from inception_jax.errors import UserError
from inception_jax.tools.benchmark.throughput import Speed

ROOT = Path(__file__).parents[4]
PLAIN = ROOT / "tests" / "benchmarks" / "plain_googlenet.py"

# By name: the arguments of Python.
PROGRAMS = {
    "tf.data": ("-m", "inception_jax.tools.benchmark.peers.tf_data"),
    "torchvision": ("-m", "inception_jax.tools.benchmark.peers.torchvision_googlenet"),
    "plain": (str(PLAIN),),
}


class Peer:
    """A running peer; `start` makes one."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: IO[str]):
        assert process.stdin is not None
        assert process.stdout is not None
        self._name, self._process, self._log = name, process, log
        self._stdin, self._stdout = process.stdin, process.stdout
        self.about: dict[str, Any] = {}  # the fields of its `ready`

    def prepare(self, spec: dict[str, Any], examples: Iterable[tuple[int, bytes]]) -> None:
        """Sends it its work and waits until it is ready."""
        self._send(_line(spec))
        for label, encoded in examples:
            self._send(_line({"label": label, "bytes": len(encoded)}) + encoded)
        self.about = self._answer()["ready"]

    def measure(self) -> Speed:
        """Measures once.

        Raises:
          UserError: it failed.
        """
        self._send(b"measure\n")
        return Speed(**self._answer())

    def end(self) -> None:
        """Ends it at once."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # what it had not read
            self._stdin.close()

    def _send(self, content: bytes) -> None:
        try:
            self._stdin.write(content)
            self._stdin.flush()
        except BrokenPipeError:
            self._answer()  # raises the reason
            raise

    def _answer(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            exit_code = self._process.wait()
            self._log.seek(0)
            last = (self._log.read().splitlines() or ["it wrote nothing"])[-1]
            raise UserError(f"{self._name} ended with exit code {exit_code}: {last}")
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"{self._name}: {answer['error']}")
        return answer


@contextlib.contextmanager
def start(
    name: str, spec: dict[str, Any], examples: Iterable[tuple[int, bytes]] = ()
) -> Iterator[Peer]:
    """Runs a peer, ready to measure, for the time of the block.

    Args:
      name: one of PROGRAMS.
      spec: its work, with the number of `examples` if there are any.
      examples: labels and image files, sent once, before anything is measured.

    Raises:
      UserError: it cannot be run, or not on these examples.
    """
    # Its warnings are not for the user, and it must not take the devices.
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    with (
        tempfile.TemporaryDirectory(prefix="inception_jax_") as folder,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, *PROGRAMS[name]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        ) as process,
    ):
        peer = Peer(name, process, log)
        try:
            peer.prepare(spec | {"folder": folder}, examples)
            yield peer
        finally:
            peer.end()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
