"""Sweeps: many runs as named overrides of configs, put together from grids, lists and seeds.

A sweep is a Python file with a function `sweep` that yields runs; `configs/sweeps/` has examples:

    def sweep():
        widths = grid({"model.width": (0.5, 1.0)})
        yield from product(config("configs/digits.py"), widths, seeds(3))

These are six runs, `digits_width=0.5_seed=0` and so on. Parts can be joined with + and nested.
"""

import dataclasses
import itertools
import os
import re
import runpy
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inception_jax import paths
from inception_jax.config.load import load_config
from inception_jax.errors import UsageError

# Names become names of folders, and commands take lists of folders with commas between them.
_NAME = re.compile(r"[\w.=+-]+", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, or a part of one: its name, its config file, and the changed fields.

    `overrides` is as {"model.width": 0.5}. `config` may have arguments; a part without one has "".
    """

    name: str
    config: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def flags(self, workdir: Path) -> list[str]:
        """The arguments of `python -m inception_jax.train`."""
        changed = [f"--config.{field}={value}" for field, value in self.overrides.items()]
        return ["--config", self.config, "--workdir", str(workdir), *changed]


def config(file: str, name: str = "") -> list[Run]:
    """Yields a run of a config file, `configs/x.py[:name=value]`; `name` replaces its name."""
    return [Run(name or Path(file.partition(":")[0]).stem, file)]


def named(overrides: Mapping[str, Mapping[str, Any]]) -> list[Run]:
    """Parts by name, with their fields: {"wide": {"model.width": 1.25}, "base": {}}."""
    return [Run(name, overrides=changed) for name, changed in overrides.items()]


def grid(fields: Mapping[str, Sequence[Any]]) -> list[Run]:
    """Combines values: {"model.width": (0.5, 1.0), "model.norm": ("lrn", "batch")} is four runs."""
    return [
        Run(
            "_".join(f"{field.rpartition('.')[2]}={value}" for field, value in chosen),
            overrides=dict(chosen),
        )
        for chosen in itertools.product(
            *([(field, value) for value in values] for field, values in fields.items())
        )
    ]


def seeds(count: int) -> list[Run]:
    """Parts with the seeds 0 to `count` - 1."""
    return grid({"seed": range(count)})


def product(*parts: Iterable[Run]) -> list[Run]:
    """Combines each run of a part with each of the others; the last part varies fastest.

    Raises:
      UsageError: two parts name a config, or change the same field.
    """
    return [_join(chosen) for chosen in itertools.product(*parts)]


def _join(parts: Sequence[Run]) -> Run:
    files = [part.config for part in parts if part.config]
    if len(files) > 1:
        raise UsageError(f"a run has one config, not {' and '.join(files)}")
    overrides: dict[str, Any] = {}
    for part in parts:
        if twice := overrides.keys() & part.overrides.keys():
            raise UsageError(f"two parts of a run change {min(twice)}")
        overrides |= part.overrides
    return Run("_".join(part.name for part in parts if part.name), "".join(files), overrides)


def read_sweep(file: str, overrides: Sequence[str] = ()) -> list[Run]:
    """Reads the runs of a sweep file, and every config once, so that no run fails at its start.

    Args:
      file: a Python file with a function `sweep`.
      overrides: changed fields of all runs, as --config.data.data_dir=/data.

    Raises:
      UsageError: no such file, an error in it, no runs, two of a name, a wrong name or config.
    """
    file = str(paths.to_path(file))
    if not os.path.isfile(file):
        raise UsageError(f"no sweep file {file!r} (looked from {os.getcwd()})")
    try:
        runs = list(runpy.run_path(file)["sweep"]())
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a sweep is code
        text = " ".join(str(error).split())
        raise UsageError(f"{file}: {type(error).__name__}: {text}") from error
    if not runs:
        raise UsageError(f"{file} has no runs")
    names: set[str] = set()
    for run in runs:
        if not isinstance(run, Run):
            raise UsageError(f"{file}: sweep yields a {type(run).__name__}, not a run")
        if not _NAME.fullmatch(run.name) or run.name.startswith("."):
            raise UsageError(f"{file}: {run.name!r} cannot be the name of a folder")
        if run.name in names:
            raise UsageError(f"{file}: two runs are called {run.name}")
        names.add(run.name)
        if not run.config:
            raise UsageError(f"{file}: {run.name} has no config")
        changed = [flag for flag in run.flags(Path()) if flag.startswith("--config.")]
        try:
            load_config(run.config, [*changed, *overrides])
        except UsageError as error:
            raise UsageError(f"{file}, {run.name}: {error}") from None
    return runs


def flags_file(runs: Iterable[Run], output: Path, overrides: Sequence[str]) -> str:
    """Flags for launch/slurm/sweep.sbatch: a line for each run, quoted as in a shell."""
    return "".join(shlex.join([*run.flags(output / run.name), *overrides]) + "\n" for run in runs)
