"""Runs beside one another: what each changed, what it cost, how it ended."""

import dataclasses
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inception_jax.config import compatibility
from inception_jax.errors import UserError
from inception_jax.models.cost import NetworkCost, network_cost
from inception_jax.models.options import network_config
from inception_jax.storage import workdir
from inception_jax.tools.report import results, selection
from inception_jax.tools.report.results import number, one_line
from inception_jax.training import run_folder
from inception_jax.training.run_folder import RunFolder

# Runs that differ in these fields alone are one group.
_WITHIN_A_GROUP = ("seed", "name")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run; values that are not known (yet) are None.

    `changed` has the fields in which its config differs from the base's, without seed and name;
    runs of one `group` have one name and differ in the seed alone. `results` is what `evaluate`
    wrote, newest checkpoint last; `problems` names files that cannot be read.
    """

    name: str
    folder: RunFolder
    group: str
    changed: dict[str, Any]
    costs: NetworkCost | None
    results: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]

    @property
    def seed(self) -> int | None:
        """The config's random seed."""
        return self.folder.config.get("seed")

    @property
    def note(self) -> str:
        """Reasons for its state, and for values that are missing, in one line."""
        notes = [self.folder.note, *self.problems]
        if self.folder.evaluations and "top1" not in self.folder.evaluations[-1]:
            task = self.folder.config.get("task", "classification")
            notes.append(f"its evaluations have no top-1: the task is {task}")
        return one_line("; ".join(filter(None, notes)))

    @property
    def training(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl about training steps."""
        return [line for line in self.folder.metrics if "split" not in line]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of the first evaluation, with the epoch of their step where it can be known."""
        known = [line for line in self.training if line["step"] and line.get("epoch")]
        epochs_a_step = known[-1]["epoch"] / known[-1]["step"] if known else math.nan
        return [{"epoch": line["step"] * epochs_a_step} | line for line in self.folder.evaluations]

    @property
    def images_per_second(self) -> float | None:
        """The median over the lines about training steps."""
        rates = [number(line.get("images_per_second")) for line in self.training]
        known = [rate for rate in rates if rate]
        return statistics.median(known) if known else None

    @property
    def hours(self) -> float | None:
        """Time in training steps, by their rates; compiling, evaluating and saving do not count."""
        seconds, before = 0.0, 0
        for line in self.training:
            if rate := number(line.get("images_per_second")):
                batch_size = self.folder.config["data"]["batch_size"]
                seconds += (line["step"] - before) * batch_size / rate
                before = line["step"]
        return seconds / 3600 if seconds else None


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
    names = selection.short_names(folders)
    runs = [_complete(*parts) for parts in zip(names, found, groups, changed, strict=True)]
    base_group = groups[found.index(base_folder)] if base_folder else None
    return sorted(runs, key=lambda run: (not run.folder.config, run.group != base_group))


def groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """{group: its runs}, in order, of the runs that have a config."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.folder.config:
            found.setdefault(run.group, []).append(run)
    return found


def text_of(changed: dict[str, Any]) -> str:
    """Fields and values as flags have them: model.width=0.5, ..."""
    return _text(changed.items())


def _text(changed: Iterable[tuple[str, Any]]) -> str:
    return one_line(", ".join(f"{field}={value}" for field, value in changed))


def _find_base(found: Sequence[RunFolder], base: Path | None) -> RunFolder | None:
    if base is None:
        return next((one for one in found if one.config), None)
    (chosen,) = (one for one in found if os.path.realpath(one.folder) == os.path.realpath(base))
    if not chosen.config:
        raise UserError(f"{base} cannot be the base: {chosen.note}")
    return chosen


def _changed(base: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    if not config:
        return {}
    differing = compatibility.differences(base, config)
    return {field: new for field, (_, new) in differing.items() if field not in _WITHIN_A_GROUP}


def _group_names(found: Sequence[RunFolder], changed: Sequence[dict[str, Any]]) -> list[str]:
    """The name of each run's config, followed by what was changed where several share the name.

    Only the last parts of the fields' names are shown, if those tell all groups apart.
    """
    keys = [
        (
            one_line(one.config.get("name", "")),
            text_of(fields),
            _text((field.rpartition(".")[2], value) for field, value in fields.items()),
        )
        for one, fields in zip(found, changed, strict=True)
    ]
    of_name = Counter(name for name, _, _ in set(keys))
    of_short = Counter((name, short) for name, _, short in set(keys))
    names = []
    for name, full, short in keys:
        fields = short if of_short[name, short] == 1 else full
        names.append(f"{name}: {fields or 'base'}" if of_name[name] > 1 else name)
    return names


def _complete(name: str, folder: RunFolder, group: str, changed: dict[str, Any]) -> Run:
    """Adds costs and results; files that cannot be read become problems."""
    costs, problems, found = None, [], []
    try:
        if folder.config:
            costs = network_cost(network_config(compatibility.from_dict(folder.config)))
    except Exception as error:  # any config that passed the checks may come here
        problems.append(f"its network cannot be built: {error}")
    for path in sorted((folder.folder / workdir.RESULTS).glob("evaluate_*.json")):
        try:
            found.append(results.read(path))
        except Exception:  # a result may have anything in it
            problems.append(f"{path} is not what evaluate writes")
    found.sort(key=lambda one: one["step"] or 0)
    return Run(one_line(name), folder, group, changed, costs, tuple(found), tuple(problems))
