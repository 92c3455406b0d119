"""Accuracies of classes and the worst confusions, by the results that were measured alike."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from inception_jax.tools.report import comparison, tables
from inception_jax.tools.report.runs import Run
from inception_jax.tools.report.tables import Column, Table, columns

_CONFUSIONS = columns("group name predicted examples share listed")


@dataclasses.dataclass(frozen=True)
class Classes:
    """Mean top-1 of each class and the confusions, for each group of runs.

    `protocol` says in words how all of it was measured, and `runs` over how many runs of each
    group. `accuracies` has a row for each (label, name) and a column for each group, 0..1.
    """

    protocol: str
    runs: dict[str, int]
    accuracies: pd.DataFrame
    confusions: Table

    @property
    def table(self) -> Table:
        """The accuracies; the field of the first group is group0."""
        fields = [f"group{place}" for place in range(len(self.runs))]
        groups = {
            field: Column(group, ".4f") for field, group in zip(fields, self.runs, strict=True)
        }
        return Table(
            self.accuracies.set_axis(fields, axis=1).reset_index(), columns("label name") | groups
        )


def summarize(runs: Sequence[Run]) -> Classes:
    """Takes the `detailed_result` of each group's finished runs, or of all if none is finished.

    The first result fixes the protocol; results measured in another way are left out.
    """
    frame = tables.of_runs(runs).values
    done = comparison.finished(frame).index
    chosen = [
        (group, result)
        for group, members in frame.groupby("group", sort=False)
        for number in [one for one in members.index if one in done] or members.index
        if (result := detailed_result(runs[number]))
    ]
    protocol = _protocol(chosen[0][1]) if chosen else ""
    chosen = [(group, result) for group, result in chosen if _protocol(result) == protocol]
    order = list(dict.fromkeys(group for group, _ in chosen))
    classes, confusions = _rows(chosen, "classes"), _rows(chosen, "confusions")
    accuracies = classes.astype({"top1": float}).pivot_table(
        index=["label", "name"], columns="group", values="top1", aggfunc="mean"
    )
    return Classes(
        protocol=protocol,
        runs={group: sum(one == group for one, _ in chosen) for group in order},
        accuracies=accuracies.reindex(columns=order),
        confusions=Table(_worst(confusions, classes, order), _CONFUSIONS),
    )


def _rows(chosen: Sequence[tuple[str, dict[str, Any]]], table: str) -> pd.DataFrame:
    """The rows of a table of all results, each with its group and the number of its result."""
    columns = ["group", "result", "label", "name", "predicted", "examples", "top1"]
    rows = [
        {"group": group, "result": number, **row}
        for number, (group, result) in enumerate(chosen)
        for row in result[table]
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _worst(confusions: pd.DataFrame, classes: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Sums over the results that list a pair: each lists its most frequent pairs alone."""
    sizes = classes.drop_duplicates(["result", "name"], keep="last")
    sizes = sizes[sizes["examples"] > 0][["result", "name", "examples"]]
    listed = confusions.merge(sizes, on=["result", "name"], suffixes=("", "_of_class"))
    pairs = listed.groupby(["group", "name", "predicted"], sort=False, as_index=False).agg(
        examples=("examples", "sum"),
        of_class=("examples_of_class", "sum"),
        listed=("result", "size"),
    )
    pairs["share"] = pairs["examples"] / pairs["of_class"]
    pairs["place"] = pairs["group"].map(order.index)
    return pairs.sort_values(["place", "examples"], ascending=[True, False], kind="stable")


def detailed_result(run: Run) -> dict[str, Any] | None:
    """The result that classes and confusions are taken from.

    It is of one checkpoint alone. Preferred are the split that training evaluates, then the newest
    checkpoint, then a test as the config has it, then the fewest crops.
    """
    split = run.folder.config.get("evaluation", {}).get("split")

    def preference(result: dict[str, Any]) -> tuple:
        crops = result["crops"] or 0
        return result["split"] == split, result["step"] or 0, not result["overrides"], -crops

    alone = [one for one in run.results if len(one["checkpoints"]) == 1 and one["classes"]]
    return max(alone, key=preference, default=None)


def _protocol(result: dict[str, Any]) -> str:
    """The split, the crops, the number of images and the overrides, in words."""
    words = [result["split"], f"{result['crops']} crops", f"{result['examples']} images"]
    return ", ".join(words + result["overrides"])
