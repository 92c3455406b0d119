"""Writes the metrics of a run: metrics.jsonl, the source of truth, and TensorBoard's files."""

import contextlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from inception_jax.errors import UserError
from inception_jax.storage import disk, json_files, workdir

SECONDS_BETWEEN_FLUSHES = 30  # of TensorBoard's file
_FILE = re.compile(r"events\.out\.tfevents\.(\d+)")


class MetricsLog:
    """Appends one JSON object for each log step; evaluations carry "split".

    A run that resumes at a step drops what an interrupted one had written of later steps, so that
    the file is the one of a run never interrupted (but for rates and times).
    """

    def __init__(self, folder: Path, resume_step: int, *, evaluated: bool = True):
        """Opens the files.

        Args:
          folder: of the run.
          resume_step: the last finished step.
          evaluated: False drops evaluations at `resume_step`, which are made again.
        """
        self._path = folder / workdir.METRICS
        kept = [
            line
            for line in read_lines(self._path)
            if line["step"] < resume_step
            or (line["step"] == resume_step and (evaluated or "split" not in line))
        ]
        json_files.replace(self._path, "".join(json_files.to_text(line) + "\n" for line in kept))
        with disk.writing(folder):
            self._file = self._path.open("a")
            self._board = _Board(folder / workdir.TENSORBOARD, first_step=resume_step + 1)

    def write(
        self, step: int, values: Mapping[str, Any], split: str | None = None, evaluation: str = ""
    ) -> None:
        """Appends the values of one step, and writes the numbers for TensorBoard.

        Args:
          step: finished steps.
          values: numbers by name.
          split: of an evaluation; None for training.
          evaluation: its name in `config.evaluations`; "" for the first.

        Raises:
          UserError: there is no room.
        """
        line = {"step": step, **values} | ({} if split is None else {"split": split})
        line |= {"evaluation": evaluation} if evaluation else {}
        with disk.writing(self._path.parent):
            self._file.write(json_files.to_text(line) + "\n")
            self._file.flush()
            kind = f"evaluations/{evaluation}" if evaluation else split or "training"
            self._board.write(step, {f"{kind}/{name}": values[name] for name in values})

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What could not be written is tried again now; the first error is the one to report.
        with disk.writing(self._path.parent) if kind is None else contextlib.suppress(OSError):
            self._file.close()
        with disk.writing(self._path.parent) if kind is None else contextlib.suppress(OSError):
            self._board.close()


class _Board:
    """Writes scalars for TensorBoard, in the calling thread.

    tensorboardX's SummaryWriter has another thread for it. When that one dies, of a full disk, say,
    the next scalars wait for ever.
    """

    def __init__(self, folder: Path, first_step: int):
        """Starts a file that makes TensorBoard forget `first_step` and all later steps."""
        folder.mkdir(exist_ok=True)
        # TensorBoard reads files in the order of their names: by time, also where the clock is set.
        before = [int(match[1]) for path in folder.iterdir() if (match := _FILE.match(path.name))]
        number = max(int(time.time()), *(one + 1 for one in before), 0)
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{number:010}"))
        self._add(Event(file_version="brain.Event:2", wall_time=time.time()))
        started = SessionLog(status=SessionLog.START)
        self._add(Event(step=first_step, session_log=started, wall_time=time.time()))
        self._flushed = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, wall_time=time.time(), summary=Summary(value=scalars)))
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._writer.flush()
            self._flushed = time.monotonic()

    def _add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        self._writer.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a metrics.jsonl; an incomplete last one is left out.

    Raises:
      UserError: a line before the last is not a JSON object; nothing is dropped.
    """
    if not path.exists():
        return []
    complete, _, _ = path.read_text().rpartition("\n")
    lines = []
    for number, text in enumerate(complete.splitlines(), 1):
        try:
            lines.append(dict(json.loads(text)))
        except (ValueError, TypeError):
            raise UserError(
                f"{path}, line {number}, is not a JSON object: mend or move it"
            ) from None
    return lines
