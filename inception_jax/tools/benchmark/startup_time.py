"""Time of `train` to the end of its first step, with an empty compilation cache and a full one.

Each start is the command itself in a process of its own, on random images, in a new workdir, with
JAX's default compilation cache. A cold start has an empty cache folder, and a warm start has what
the cold one left in it. `prepared` is the time until the step begins to compile: imports, the
network, its initial state, the first batch. The rest is compiling and the step. The files of Python
and of libraries are in the system's cache after the first start, which does not count.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.table import Table

from inception_jax.errors import UserError
from inception_jax.runtime import progress
from inception_jax.tools.benchmark import environment, throughput

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")

# Parts of the log lines of `train`.
_PREPARED, _FIRST_STEP = "compiling the training step", "step 1/"

Result = dict[str, Any]


def measure(config: ConfigDict, file: str, overrides: Sequence[str], repeats: int) -> Result:
    """Starts `train` by turns, cold and warm.

    Args:
      config: the loaded config, for its name.
      file: the config's file, as `train` takes it.
      overrides: changed fields of the config.
      repeats: starts of each kind.

    Returns:
      The fields of --json. Times and the ratio are {"median", "min", "max", "repeats": [...]}.

    Raises:
      UserError: `train` fails.
    """
    found: dict[str, list[float]] = {
        f"{kind}_{what}_seconds": [] for kind in ("cold", "warm") for what in ("prepared", "start")
    }
    with tempfile.TemporaryDirectory(prefix="inception_jax_") as folder:
        _start(file, overrides, Path(folder), Path(folder) / "first")
        for repeat in progress.track(range(repeats), "repeat", repeats):
            cache = Path(folder) / f"cache_{repeat}"
            for kind in ("cold", "warm"):
                prepared, start = _start(file, overrides, Path(folder), cache)
                found[f"{kind}_prepared_seconds"].append(prepared)
                found[f"{kind}_start_seconds"].append(start)
    ratios = [
        warm / cold
        for cold, warm in zip(found["cold_start_seconds"], found["warm_start_seconds"], strict=True)
    ]
    return {
        "machine": environment.environment_of(LIBRARIES),
        "config_name": config.name,
        "batch_size": config.data.batch_size,
        **{name: throughput.spread(seconds) for name, seconds in found.items()},
        "warm_to_cold": throughput.spread(ratios),
    }


def _start(file: str, overrides: Sequence[str], folder: Path, cache: Path) -> tuple[float, float]:
    """Starts `train` and ends it after its first step.

    Returns:
      Seconds until the step begins to compile, and until it is done.
    """
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [
            sys.executable, "-m", "inception_jax.train", "--config", file, "--workdir", workdir,
            *overrides, "--config.data.source=fake", "--config.training.total=1000 steps",
            "--config.training.log_every=1 steps",
        ]  # fmt: skip
        environment = {
            name: value
            for name, value in os.environ.items()
            if "COMPILATION_CACHE" not in name and "PERSISTENT_CACHE" not in name
        } | {"XDG_CACHE_HOME": str(cache)}
        begin, prepared, last_line = time.perf_counter(), 0.0, "it wrote nothing"
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    passed = time.perf_counter() - begin
                    last_line = line.strip() or last_line
                    if _PREPARED in line:
                        prepared = passed
                    if _FIRST_STEP in line:
                        return prepared, passed
            finally:
                process.kill()
    raise UserError(f"train ended before its first step: {last_line}")


def result_table(result: Result) -> Table:
    """A table of the times to the first step."""
    lines = Table(title=f"start of {result['config_name']}, batches of {result['batch_size']}")
    lines.add_column("what")
    for heading in ("median", "min..max"):
        lines.add_column(heading, justify="right", no_wrap=True)
    for kind, words in (("cold", "nothing compiled"), ("warm", "compiled before")):
        for what, part in (("start", "to the end of step 1"), ("prepared", "  of it, before")):
            value = result[f"{kind}_{what}_seconds"]
            name = f"seconds {part}, {words}" if what == "start" else f"{part} compiling"
            lines.add_row(name, *throughput.cells(value, 1))
    lines.add_row("warm to cold", *throughput.cells(result["warm_to_cold"], 2))
    return lines


def summary(result: Result) -> list[str]:
    """The machine with which it was measured."""
    return environment.summary(result["machine"])
