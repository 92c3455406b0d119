"""A run as it lies on disk, finished or not, whole or not."""

import dataclasses
from pathlib import Path
from typing import Any

from inception_jax import configuration, locks, workdir
from inception_jax.errors import UserError
from inception_jax.reporting.metrics_log import read_lines
from inception_jax.training import durations


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What a folder says of its run.

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
        """The last one of which anything is written."""
        return max((line["step"] for line in self.metrics), default=0)


def read(folder: Path) -> RunFolder:
    """Never fails: what cannot be read is broken."""
    if not (folder / workdir.CONFIG).exists():
        note = "no config.json" if folder.is_dir() else "no such folder"
        return RunFolder(folder, "empty", note)
    try:
        config = workdir.read_config(folder / workdir.CONFIG)
        configuration.from_dict(config)
        metrics = read_lines(folder / workdir.METRICS)
        for line in metrics:
            if not isinstance(line.get("step"), int):
                raise UserError(f"{folder / workdir.METRICS} has a line without a step")
            if not isinstance(line.get("epoch", 0), int | float):
                raise UserError(f"{folder / workdir.METRICS} has an epoch that is no number")
        total = _total_steps(config, metrics)
    except (UserError, OSError, UnicodeDecodeError) as error:
        return RunFolder(folder, "broken", str(error))
    found = RunFolder(folder, "stopped", "", config, metrics, total)
    status, note = _status(found)
    return dataclasses.replace(found, status=status, note=note)


def _status(run: RunFolder) -> tuple[str, str]:
    evaluated = {line["step"] for line in run.metrics if "split" in line}
    if locks.is_held(run.folder):
        return "running", ""
    if run.total_steps in evaluated:
        return "done", ""
    if error := _last_error(run.folder):
        return "failed", error
    return "stopped", ""


def _total_steps(config: dict[str, Any], metrics: list[dict[str, Any]]) -> int | None:
    """None where it cannot be known yet: epochs, and no line that says how long one is."""
    batch_size = config["data"]["batch_size"]
    known = [line for line in metrics if line.get("epoch")]
    examples = round(known[-1]["step"] * batch_size / known[-1]["epoch"]) if known else 0
    text = config["training"]["total"]
    if not known and "epoch" in text:
        return None
    return durations.to_steps("training.total", text, batch_size=batch_size, examples=examples)


def _last_error(folder: Path) -> str:
    """The error with which the run ended last, if it did."""
    path = folder / workdir.LOGS / "process_0.log"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    _, found, message = (lines or [""])[-1].partition(" ERROR error: ")
    return message if found else ""
