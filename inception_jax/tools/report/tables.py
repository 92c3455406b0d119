"""Tables about runs: one list of columns each, shown as HTML, Markdown or CSV."""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from inception_jax.storage import markdown
from inception_jax.tools.report.comparison import Group, finished
from inception_jax.tools.report.runs import Run, groups, number, text_of


class Column(NamedTuple):
    """A field of the rows, its heading, and how a value is written for a person (format's)."""

    field: str
    heading: str
    form: str = ""


class Table(NamedTuple):
    """Rows of values as they are; None where there is none."""

    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]

    def cells(self, row: dict[str, Any]) -> list[str]:
        """A row as a person reads it."""
        return [_text(row.get(column.field), column.form) for column in self.columns]

    def csv(self) -> str:
        """All digits, and the names of the fields as headings."""
        text = io.StringIO()
        names = [column.field for column in self.columns]
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: _in_one_line(value) for name, value in row.items()})
        return text.getvalue()

    def markdown(self) -> str:
        """As a person reads it; numbers to the right."""
        headings = [column.heading for column in self.columns]
        right = [bool(column.form) for column in self.columns]
        return markdown.table(headings, map(self.cells, self.rows), right)


RUNS = (
    Column("run", "run"),
    Column("group", "group"),
    Column("status", "status"),
    Column("changed", "changed fields"),
    Column("seed", "seed", "d"),
    Column("step", "step", ",d"),
    Column("total_steps", "steps in all", ",d"),
    Column("parameters", "parameters", ",d"),
    Column("multiply_adds", "multiply-adds", ",d"),
    Column("split", "split"),
    Column("top1", "top-1", ".4f"),
    Column("top5", "top-5", ".4f"),
    Column("loss", "loss", ".4f"),
    Column("calibration_error", "calibration", ".4f"),
    Column("images_per_second", "images/s", ",.1f"),
    Column("hours", "hours", ",.2f"),
    Column("note", "note"),
)

GROUPS = (
    Column("group", "group"),
    Column("changed", "changed fields"),
    Column("runs", "runs", "d"),
    Column("done", "done, by seed", "d"),
    Column("parameters", "parameters", ",d"),
    Column("multiply_adds", "multiply-adds", ",d"),
    Column("top1", "top-1, mean", ".4f"),
    Column("top1_deviation", "standard deviation", ".4f"),
    Column("top5", "top-5, mean", ".4f"),
    Column("difference", "top-1 less the base's", "+.4f"),
    Column("low", "from (95 %)", "+.4f"),
    Column("high", "to", "+.4f"),
    Column("interval_of", "interval over"),
)

EVALUATIONS = (
    Column("run", "run"),
    Column("step", "step", ",d"),
    Column("split", "split"),
    Column("crops", "crops", "d"),
    Column("models", "models", "d"),
    Column("weights", "weights"),
    Column("average", "average"),
    Column("overrides", "overrides"),
    Column("top1", "top-1", ".4f"),
    Column("top5", "top-5", ".4f"),
    Column("loss", "loss", ".4f"),
    Column("calibration_error", "calibration", ".4f"),
    Column("examples", "images", ",d"),
    Column("images_per_second", "images/s", ",.1f"),
    Column("checkpoints", "checkpoints"),
)

CONFUSIONS = (
    Column("group", "group"),
    Column("name", "class"),
    Column("predicted", "taken for"),
    Column("examples", "images", ",d"),
    Column("share", "share of the class", ".4f"),
    Column("runs", "runs that list it", "d"),
)


def of_runs(runs: Sequence[Run]) -> Table:
    """One row a run, also of those that cannot be read."""
    return Table(RUNS, [_run(run) for run in runs])


def _run(run: Run) -> dict[str, Any]:
    measured = ("top1", "top5", "loss", "calibration_error")
    return {
        "run": run.name,
        "group": run.group if run.folder.config else None,
        "status": run.status,
        "changed": text_of(run.changed),
        "seed": run.seed,
        "step": run.folder.step if run.folder.config else None,
        "total_steps": run.folder.total_steps,
        "parameters": run.costs and run.costs.parameters,
        "multiply_adds": run.costs and run.costs.multiply_adds,
        "split": run.evaluations[-1]["split"] if run.evaluations else None,
        "images_per_second": run.images_per_second,
        "hours": run.hours,
        "note": "; ".join(filter(None, (run.folder.note, *run.problems))),
    } | {name: run.last(name) for name in measured}


def of_groups(compared: Sequence[Group]) -> Table:
    """One row a group; the base is the first."""
    rows = []
    for group in compared:
        first, interval = group.runs[0], group.to_base
        rows.append(
            {
                "group": group.name,
                "changed": text_of(first.changed),
                "done": group.done,
                "runs": len(group.runs),
                "parameters": first.costs and first.costs.parameters,
                "multiply_adds": first.costs and first.costs.multiply_adds,
                "top1": group.top1,
                "top1_deviation": group.top1_deviation,
                "top5": group.top5,
                "difference": interval and interval.difference,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "interval_of": interval and interval.of,
            }
        )
    return Table(GROUPS, rows)


def of_evaluations(runs: Sequence[Run]) -> Table:
    """One row a file in results/."""
    rows = []
    for run in runs:
        for result in run.results:
            overrides = result.get("overrides")
            own = {
                "run": run.name,
                "checkpoints": ", ".join(result["checkpoints"]),
                "overrides": " ".join(map(str, overrides)) if isinstance(overrides, list) else "",
            }
            rows.append(result | own)
    return Table(EVALUATIONS, rows)


@dataclasses.dataclass(frozen=True)
class OfClasses:
    """Classes and confusions of each group, by the results that were measured alike.

    `protocol` says how, and `runs` of how many runs of each group; `accuracies` are {group: {class:
    mean top-1}}.
    """

    protocol: str
    runs: dict[str, int]
    classes: Table
    confusions: Table
    accuracies: dict[str, dict[str, float]]


def of_classes(runs: Sequence[Run]) -> OfClasses:
    """From the `detailed_result` of each group's finished runs, or of all where none is finished.

    The first result fixes the protocol; those of another are left out.
    """
    of_groups: dict[str, list[dict[str, Any]]] = {}
    chosen = ""
    for group, members in groups(runs).items():
        results = filter(None, map(detailed_result, finished(members) or members))
        for result in results:
            chosen = chosen or _protocol(result)
            if _protocol(result) == chosen:
                of_groups.setdefault(group, []).append(result)
    means: dict[str, dict[tuple[int, str], float]] = {}
    confusions: list[dict[str, Any]] = []
    for group, some in of_groups.items():
        lists: dict[tuple[int, str], list[float]] = {}
        for one in (row for result in some for row in result["classes"]):
            lists.setdefault((one["label"], one["name"]), []).append(one["top1"])
        means[group] = {key: sum(all) / len(all) for key, all in lists.items()}
        confusions += _confusions(group, some)
    known = sorted({key for of in means.values() for key in of})
    fields = {group: f"group{place}" for place, group in enumerate(means)}
    columns = (
        Column("label", "number", "d"),
        Column("name", "class"),
        *(Column(field, group, ".4f") for group, field in fields.items()),
    )
    rows = [
        {"label": key[0], "name": key[1]}
        | {fields[group]: of.get(key) for group, of in means.items()}
        for key in known
    ]
    twice = Counter(name for _, name in known)
    accuracies = {
        group: {
            name if twice[name] == 1 else f"{name} ({label})": value
            for (label, name), value in of.items()
        }
        for group, of in means.items()
    }
    counts = {group: len(some) for group, some in of_groups.items()}
    return OfClasses(
        chosen, counts, Table(columns, rows), Table(CONFUSIONS, confusions), accuracies
    )


def _confusions(group: str, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst pairs. A result has its most frequent ones: means are over those that have it."""
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for result in results:
        images = {row["name"]: row["examples"] for row in result["classes"]}
        for row in result["confusions"]:
            if images.get(row["name"]):
                found = row["examples"], images[row["name"]]
                pairs.setdefault((row["name"], row["predicted"]), []).append(found)
    rows = [
        {
            "group": group,
            "name": name,
            "predicted": predicted,
            "examples": sum(wrong for wrong, _ in found),
            "share": sum(wrong for wrong, _ in found) / sum(all for _, all in found),
            "runs": len(found),
        }
        for (name, predicted), found in pairs.items()
    ]
    return sorted(rows, key=lambda row: -row["examples"])


def detailed_result(run: Run) -> dict[str, Any] | None:
    """The result that classes and confusions are taken from.

    On the split that training evaluates, if there is one, of the newest checkpoint that `evaluate`
    tested alone, as the config has it, with the fewest crops.
    """
    split = run.folder.config.get("evaluation", {}).get("split")

    def preference(result: dict[str, Any]) -> tuple:
        crops = number(result.get("crops")) or 0
        return result["split"] == split, result["step"] or 0, not result.get("overrides"), -crops

    alone = [one for one in run.results if len(one["checkpoints"]) == 1 and one["classes"]]
    return max(alone, key=preference, default=None)


def _protocol(result: dict[str, Any]) -> str:
    """How it was measured, in words."""
    words = [
        str(result["split"]),
        f"{result.get('crops')} crops",
        f"{result.get('examples')} images",
    ]
    overrides = result.get("overrides")
    return ", ".join(words + (list(map(str, overrides)) if isinstance(overrides, list) else []))


def _in_one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _text(value: Any, form: str) -> str:
    if value is None:
        return ""
    known = number(value)
    if not form or known is None:
        return str(_in_one_line(value))
    return format(int(known) if form.endswith("d") else known, form)
