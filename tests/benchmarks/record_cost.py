"""The cost of metrics and checkpoints: the time that the training loop waits for them.

Run: python tests/benchmarks/record_cost.py [--config configs/digits.py] [--config.FIELD=VALUE ...]

Trains the config in a temporary folder. Counts the calls that write metrics and begin to save, and
at the end the wait until everything is on disk. The work of a save that runs beside the next steps
is not in it: compare runs with more and fewer checkpoints for that.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

from inception_jax.config.load import load_config
from inception_jax.training import loop
from inception_jax.training.run_writer import RunWriter, open_run_writer

spent: dict[str, float] = {"metrics": 0.0, "checkpoints": 0.0, "the end": 0.0}
calls: Counter[str] = Counter()


@contextlib.contextmanager
def clock(what: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[what] += time.perf_counter() - start
        calls[what] += 1


class Timed(RunWriter):
    """A record that counts its calls and the time in them."""

    def __init__(self, writer: RunWriter):
        self._writer = writer

    def write(self, *values: Any, **named: Any) -> None:
        with clock("metrics"):
            self._writer.write(*values, **named)

    def save(self, *values: Any, **named: Any) -> None:
        with clock("checkpoints"):
            self._writer.save(*values, **named)


@contextlib.contextmanager
def open_timed(*values: Any, **named: Any) -> Iterator[RunWriter]:
    with contextlib.ExitStack() as stack:
        yield Timed(stack.enter_context(open_run_writer(*values, **named)))
        with clock("the end"):
            stack.close()


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/digits.py")
    flags, overrides = parser.parse_known_args()
    config = load_config(flags.config, overrides)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(loop, "open_run_writer", open_timed),
    ):
        start = time.perf_counter()
        loop.train(config, Path(folder) / "run")
        total = time.perf_counter() - start
    print(f"{total:.1f} s in all")
    for what, seconds in spent.items():
        print(f"{what}: {seconds:.2f} s, {seconds / total:.2%}, {calls[what]} calls")


if __name__ == "__main__":
    main()
