"""The numbers of a run: WORKDIR/metrics.jsonl, the source of truth, and TensorBoard beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from inception_jax import json_files, workdir
from inception_jax.errors import UserError


class MetricsLog:
    """Appends one JSON object a log step; evaluations carry "split".

    A run that resumes at a step drops what an interrupted one had written of later steps, so that
    the file is the one of a run never interrupted (but for rates and times).
    """

    def __init__(self, folder: Path, resume_step: int):
        self._path = folder / workdir.METRICS
        kept = [line for line in read_lines(self._path) if line["step"] <= resume_step]
        json_files.replace(self._path, "".join(json_files.to_text(line) + "\n" for line in kept))
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(folder / workdir.TENSORBOARD), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, Any], split: str | None = None) -> None:
        """Appends the values of one step, and sends the numbers to TensorBoard."""
        line = {"step": step, **values} | ({} if split is None else {"split": split})
        self._file.write(json_files.to_text(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{split or 'training'}/{name}", value, step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; an interrupted last one is left out.

    Raises:
      UserError: a line before the last is no JSON object; nothing is dropped.
    """
    if not path.exists():
        return []
    complete, _, _ = path.read_text().rpartition("\n")
    lines = []
    for number, text in enumerate(complete.splitlines(), 1):
        try:
            lines.append(dict(json.loads(text)))
        except (ValueError, TypeError):
            raise UserError(f"{path}, line {number}, is no JSON object: mend or move it") from None
    return lines
