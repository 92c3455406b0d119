"""Tables about runs: values in a data frame, written as CSV, Markdown or HTML."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from inception_jax.storage import markdown
from inception_jax.tools.report.results import number
from inception_jax.tools.report.runs import Run, text_of


class Column(NamedTuple):
    """A heading, and the format of the numbers below it (as `format` takes it; "" for text)."""

    heading: str
    form: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Values, and {field: its column} of those that are shown."""

    values: pd.DataFrame
    columns: dict[str, Column]

    def csv(self) -> str:
        """The table with all digits, under the names of the fields."""
        return self.values.to_csv(columns=list(self.columns), index=False, lineterminator="\n")

    def markdown(self) -> str:
        """Numbers in short and aligned to the right."""
        texts = self._texts()
        right = [bool(column.form) for column in self.columns.values()]
        return markdown.table(texts.columns, texts.values, right)

    def html(self, name: str) -> str:
        """A table element of the classes `name` and `sortable`, numbers in short."""
        with pd.option_context("display.max_colwidth", None):
            classes = [name, "sortable", "display", "compact"]
            return self._texts().to_html(index=False, border=0, classes=classes)

    def _texts(self) -> pd.DataFrame:
        texts = {
            field: ["" if pd.isna(one) else format(one, column.form) for one in self.values[field]]
            for field, column in self.columns.items()
        }
        headings = [column.heading for column in self.columns.values()]
        return pd.DataFrame(texts).set_axis(headings, axis=1)


COLUMNS = {
    "run": Column("run"),
    "group": Column("group"),
    "status": Column("status"),
    "changed": Column("changed fields"),
    "seed": Column("seed", "d"),
    "step": Column("step", ",d"),
    "total_steps": Column("steps in all", ",d"),
    "parameters": Column("parameters", ",d"),
    "multiply_adds": Column("multiply-adds", ",d"),
    "split": Column("split"),
    "top1": Column("top-1", ".4f"),
    "top5": Column("top-5", ".4f"),
    "loss": Column("loss", ".4f"),
    "calibration_error": Column("calibration", ".4f"),
    "images_per_second": Column("images/s", ",.1f"),
    "hours": Column("hours", ",.2f"),
    "note": Column("note"),
    # of groups
    "runs": Column("runs", "d"),
    "done": Column("done, by seed", "d"),
    "top1_mean": Column("top-1, mean", ".4f"),
    "top1_deviation": Column("standard deviation", ".4f"),
    "top5_mean": Column("top-5, mean", ".4f"),
    "difference": Column("top-1 less the base's", "+.4f"),
    "low": Column("from (95 %)", "+.4f"),
    "high": Column("to", "+.4f"),
    "drawn": Column("interval over"),
    # of evaluations
    "crops": Column("crops", "d"),
    "models": Column("models", "d"),
    "weights": Column("weights"),
    "average": Column("average"),
    "overrides": Column("overrides"),
    "examples": Column("images", ",d"),
    "checkpoints": Column("checkpoints"),
    # of classes and confusions
    "label": Column("number", "d"),
    "name": Column("class"),
    "predicted": Column("taken for"),
    "share": Column("share of the class", ".4f"),
    "listed": Column("runs that list it", "d"),
}


def columns(names: str) -> dict[str, Column]:
    """The columns of these fields, which have spaces between them."""
    return {name: COLUMNS[name] for name in names.split()}


_MEASURED = "top1 top5 loss calibration_error"
RUNS = columns(
    "run group status changed seed step total_steps parameters multiply_adds split "
    f"{_MEASURED} images_per_second hours note"
)
GROUPS = columns(
    "group changed runs done parameters multiply_adds top1_mean top1_deviation top5_mean "
    "difference low high drawn"
)
EVALUATIONS = columns(
    f"run step split crops models weights average overrides {_MEASURED} examples "
    "images_per_second checkpoints"
)


def of_runs(runs: Sequence[Run]) -> Table:
    """Makes a row for each run, numbered as `runs`, also for those that cannot be read.

    A run without a config has no group. `examples`, the images of the last evaluation, is not
    shown.
    """
    measured = [*columns(_MEASURED), "examples"]
    rows = []
    for run in runs:
        configured, last = bool(run.folder.config), (run.evaluations or [{}])[-1]
        row = {
            "run": run.name,
            "group": run.group if configured else None,
            "status": run.folder.status,
            "changed": text_of(run.changed),
            "seed": run.seed,
            "step": run.folder.step if configured else None,
            "total_steps": run.folder.total_steps,
            "parameters": run.costs and run.costs.parameters,
            "multiply_adds": run.costs and run.costs.multiply_adds,
            "split": last.get("split"),
            "images_per_second": run.images_per_second,
            "hours": run.hours,
            "note": run.note,
        }
        rows.append(row | {name: number(last.get(name)) for name in measured})
    # As objects, or pandas would make floats of whole numbers where one is missing.
    frame = pd.DataFrame(rows, columns=[*RUNS, "examples"], dtype=object)
    return Table(frame.astype(dict.fromkeys(measured, float)), RUNS)


def of_groups(compared: pd.DataFrame) -> Table:
    """Makes a row for each group, as `comparison.compare` gives them."""
    return Table(compared.reset_index(), GROUPS)


def of_evaluations(runs: Sequence[Run]) -> Table:
    """Makes a row for each file that `evaluate` wrote."""
    rows = [
        result
        | {
            "run": run.name,
            "checkpoints": ", ".join(result["checkpoints"]),
            "overrides": " ".join(result["overrides"]),
        }
        for run in runs
        for result in run.results
    ]
    return Table(pd.DataFrame(rows, columns=list(EVALUATIONS), dtype=object), EVALUATIONS)
