"""Reads the state of a run from its folder, finished or not, damaged or not."""

import dataclasses
from pathlib import Path
from typing import Any

from inception_jax.config import compatibility, durations
from inception_jax.config.load import override_config
from inception_jax.errors import UserError
from inception_jax.storage import locks, workdir
from inception_jax.training.metrics_log import read_lines

_MOST_STEPS = 2**53  # above, floats skip whole numbers


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's status, config and metrics.

    `status` is done, running, stopped (it can go on), failed, empty (no run began) or broken (files
    that cannot be read); `note` says why.
    """

    folder: Path
    status: str
    note: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    total_steps: int | None = None

    @property
    def step(self) -> int:
        """The last step in metrics.jsonl; 0 before the first."""
        return max((line["step"] for line in self.metrics), default=0)

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of the first evaluation, which ranks checkpoints.

        Those of `config.evaluations` are of other splits or crops: they stay in `metrics`.
        """
        return [line for line in self.metrics if "split" in line and "evaluation" not in line]


def read(folder: Path) -> RunFolder:
    """Reads a folder; never raises: where files cannot be read, the status is broken."""
    found = RunFolder(folder, "broken")
    try:
        if not (folder / workdir.CONFIG).is_file():
            note = "no config.json" if folder.is_dir() else "no such folder"
            return dataclasses.replace(found, status="empty", note=note)
        config = workdir.read_config(folder / workdir.CONFIG)
        override_config(compatibility.from_dict(config), [])
        found = dataclasses.replace(found, config=config)
        metrics = _read_metrics(folder / workdir.METRICS)
        found = dataclasses.replace(found, metrics=metrics)
        found = dataclasses.replace(found, total_steps=_total_steps(config, metrics))
        status, note = _status(found)
        return dataclasses.replace(found, status=status, note=note)
    except Exception as error:  # one bad folder must not hide the other runs
        return dataclasses.replace(found, note=str(error) or type(error).__name__)


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file")
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        step, epoch = line.get("step"), line.get("epoch", 0)
        problem = None
        if type(step) is not int or not 0 <= step <= _MOST_STEPS:
            problem = "'step' is not a non-negative integer"
        elif type(epoch) not in (int, float) or not 0 <= epoch <= _MOST_STEPS:  # NaN is neither
            problem = "'epoch' is not a non-negative number"
        elif not isinstance(line.get("split", ""), str):
            problem = "'split' is not text"
        if problem:
            raise UserError(f"{path}, line {number}: {problem}")
    return lines


def _status(run: RunFolder) -> tuple[str, str]:
    if locks.is_held(run.folder):
        return "running", ""
    if run.total_steps in [line["step"] for line in run.evaluations]:
        return "done", ""
    if error := _last_error(run.folder):
        return "failed", error
    return "stopped", ""


def _total_steps(config: dict[str, Any], metrics: list[dict[str, Any]]) -> int | None:
    """The steps of the whole training; None if given in epochs of a length not yet known."""
    batch_size = config["data"]["batch_size"]
    known = [line for line in metrics if line.get("epoch") and line["step"]]
    examples = round(known[-1]["step"] * batch_size / known[-1]["epoch"]) if known else 0
    text = config["training"]["total"]
    if not known and "epoch" in text:
        return None
    return durations.to_steps("training.total", text, batch_size=batch_size, examples=examples)


def _last_error(folder: Path) -> str:
    """The error in the last line of the log, or \"\"."""
    path = folder / workdir.LOGS / "process_0.log"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    _, found, message = (lines or [""])[-1].partition(" ERROR error: ")
    return message if found else ""
