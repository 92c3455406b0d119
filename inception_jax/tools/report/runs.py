"""Runs beside one another: what each changed, what it cost, how it ended."""

import dataclasses
import json
import math
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inception_jax.config import compatibility
from inception_jax.errors import UserError
from inception_jax.models.cost import LayerCost, NetworkCost, network_cost
from inception_jax.models.options import network_config
from inception_jax.storage import workdir
from inception_jax.tools.report import run_folder
from inception_jax.tools.report.run_folder import RunFolder

# Fields in which the runs of one question may differ.
_NOT_THE_QUESTION = ("seed", "name")

_DETAILS = {  # of a result, and what is in each of their rows
    "classes": {"label": int, "name": str, "examples": int, "top1": float},
    "confusions": {"name": str, "predicted": str, "examples": int},
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run. What it has not got (yet) is None.

    `changed` are the fields in which its config differs from the base's, without seed and name;
    runs of one `group` have one name and differ in nothing but the seed.
    """

    name: str
    folder: RunFolder
    group: str
    changed: dict[str, Any]
    costs: NetworkCost | None
    results: tuple[dict[str, Any], ...]  # of `evaluate`, newest checkpoint last
    problems: tuple[str, ...]  # files of it that cannot be read

    @property
    def status(self) -> str:
        """See `RunFolder`."""
        return self.folder.status

    @property
    def seed(self) -> int | None:
        """Of its config."""
        return self.folder.config.get("seed")

    @property
    def training(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl about steps."""
        return [line for line in self.folder.metrics if "split" not in line]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines about evaluations, with the epoch of their step where one can be known."""
        known = [line for line in self.training if line["step"] and line.get("epoch")]
        epochs_a_step = known[-1]["epoch"] / known[-1]["step"] if known else math.nan
        return [
            {"epoch": line["step"] * epochs_a_step} | line
            for line in self.folder.metrics
            if "split" in line
        ]

    def last(self, name: str) -> float | None:
        """A number of the last evaluation in metrics.jsonl."""
        return number(self.evaluations[-1].get(name)) if self.evaluations else None

    @property
    def images_per_second(self) -> float | None:
        """Median over the lines about steps."""
        rates = [number(line.get("images_per_second")) for line in self.training]
        known = [rate for rate in rates if rate]
        return statistics.median(known) if known else None

    @property
    def hours(self) -> float | None:
        """Spent in steps, by their rates; compiling, evaluating and saving do not count."""
        seconds, before = 0.0, 0
        for line in self.training:
            if rate := number(line.get("images_per_second")):
                batch_size = self.folder.config["data"]["batch_size"]
                seconds += (line["step"] - before) * batch_size / rate
                before = line["step"]
        return seconds / 3600 if seconds else None


def number(value: Any) -> float | None:
    """A finite number, or None; JSON has null where one was not finite."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def find(folders: Sequence[Path]) -> list[Path]:
    """The runs that are meant: a folder of runs or sweeps stands for all folders in it.

    Raises:
      UserError: there is no such folder.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        found += _runs_in(folder) or [folder]
    unique = {os.path.realpath(path): path for path in found}
    return list(unique.values())


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself, those of a sweep, or those below it if one of them has runs."""
    if os.path.lexists(folder / workdir.CONFIG):
        return [folder]
    if os.path.lexists(folder / workdir.SWEEP):
        return [folder / name for name in _names(folder / workdir.SWEEP)]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    runs = {path: _runs_in(path) for path in inside if not path.is_symlink()}
    if not any(runs.values()):
        return []
    return [one for path in inside for one in runs.get(path) or [path]]


def read(folders: Sequence[Path], base: Path | None = None) -> list[Run]:
    """Reads runs; those that cannot be read are among them, with a status that says so.

    Args:
      folders: of the runs.
      base: the run to which the others are compared; by default the first that can be read.

    Returns:
      The runs, those of the base's group first.

    Raises:
      UserError: the base cannot be read.
    """
    if base is not None and os.path.realpath(base) not in map(os.path.realpath, folders):
        folders = [base, *folders]
    found = [run_folder.read(path) for path in folders]
    base_folder = _find_base(found, base)
    base_config = base_folder.config if base_folder else {}
    changed = [_changed(base_config, one.config) for one in found]
    groups = _group_names(found, changed)
    names = _short_names(folders)
    runs = [_complete(*parts) for parts in zip(names, found, groups, changed, strict=True)]
    base_group = groups[found.index(base_folder)] if base_folder else None
    return sorted(runs, key=lambda run: (not run.folder.config, run.group != base_group))


def groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """{group: its runs}, in order; runs without a config have none."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.folder.config:
            found.setdefault(run.group, []).append(run)
    return found


def _find_base(found: Sequence[RunFolder], base: Path | None) -> RunFolder | None:
    if base is None:
        return next((one for one in found if one.config), None)
    (chosen,) = (one for one in found if os.path.realpath(one.folder) == os.path.realpath(base))
    if not chosen.config:
        raise UserError(f"{base} cannot be the base: {chosen.note}")
    return chosen


def _names(path: Path) -> list[str]:
    try:
        names = [run["name"] for run in json.loads(path.read_text())["runs"]]
        if all(Path(name).name == name for name in names):
            return names
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{path} is not what a sweep writes: name the runs themselves")


def _short_names(folders: Sequence[Path]) -> list[str]:
    """As much of the ends of the paths as tells them apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _changed(base: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    if not config:
        return {}
    differing = compatibility.differences(base, config)
    return {field: new for field, (_, new) in differing.items() if field not in _NOT_THE_QUESTION}


def _group_names(found: Sequence[RunFolder], changed: Sequence[dict[str, Any]]) -> list[str]:
    """Of each run: the name of its config, and where that names several, what was changed, too.

    With the last parts of the fields' names, if those tell all groups apart.
    """
    keys = [
        (one.config.get("name", ""), text_of(fields), _in_short(fields))
        for one, fields in zip(found, changed, strict=True)
    ]
    of_name = Counter(name for name, _, _ in set(keys))
    of_short = Counter((name, short) for name, _, short in set(keys))
    names = []
    for name, full, short in keys:
        fields = short if of_short[name, short] == 1 else full
        names.append(f"{name}: {fields or 'base'}" if of_name[name] > 1 else name)
    return names


def text_of(changed: dict[str, Any]) -> str:
    """As flags have it: model.width=0.5, ..."""
    return ", ".join(f"{field}={value}" for field, value in changed.items())


def _in_short(changed: dict[str, Any]) -> str:
    return ", ".join(f"{field.rpartition('.')[2]}={value}" for field, value in changed.items())


def _complete(name: str, folder: RunFolder, group: str, changed: dict[str, Any]) -> Run:
    """With costs and results; whatever keeps them from being read is among the problems."""
    costs, problems, results = None, [], []
    try:
        costs = _costs(folder)
    except Exception as error:  # of any config that got so far
        problems.append(f"its network cannot be built: {error}")
    for path in sorted((folder.folder / workdir.RESULTS).glob("evaluate_*.json")):
        try:
            results.append(_result(path))
        except Exception:  # a result may have anything in it
            problems.append(f"{path} is not what evaluate writes")
    results.sort(key=lambda one: one["step"] or 0)
    return Run(name, folder, group, changed, costs, tuple(results), tuple(problems))


def _result(path: Path) -> dict[str, Any]:
    """What `evaluate` wrote; raises whatever its content makes Python raise."""
    if not path.is_file():
        raise ValueError("no file")
    result = dict(json.loads(path.read_text()))
    for name, columns in _DETAILS.items():
        result[name] = [
            {column: _typed(row[column], kind) for column, kind in columns.items()}
            for row in result.get(name, [])
        ]
    return result | {
        "split": _typed(result["split"], str),
        "checkpoints": [_typed(one, str) for one in result["checkpoints"]],
        "step": None if result.get("step") is None else _typed(result["step"], int),
    }


def _typed(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is not str and number(value) is None):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


def _costs(folder: RunFolder) -> NetworkCost | None:
    """Reads the costs that the run wrote, or works them out: older versions wrote none."""
    if not folder.config:
        return None
    path = folder.folder / workdir.MODEL
    if path.is_file():
        try:
            return _written_costs(json.loads(path.read_text()))
        except Exception:  # it may have anything in it
            pass
    return network_cost(network_config(compatibility.from_dict(folder.config)))


def _written_costs(values: dict[str, Any]) -> NetworkCost:
    layers = [
        LayerCost(
            name=_typed(layer["name"], str),
            output=tuple(layer["output"]),
            parameters=_count(layer["parameters"]),
            multiply_adds=_count(layer["multiply_adds"]),
        )
        for layer in values["layers"]
    ]
    return NetworkCost(
        parameters=_count(values["parameters"]),
        training_parameters=_count(values["training_parameters"]),
        multiply_adds=_count(values["multiply_adds"]),
        convolutions=_count(values["convolutions"]),
        layers=tuple(layers),
    )


def _count(value: Any) -> int:
    if _typed(value, int) < 0:
        raise ValueError(f"{value} counts nothing")
    return value
