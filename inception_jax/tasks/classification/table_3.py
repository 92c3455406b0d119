"""Accuracy by number of networks and crops, in the form of the paper's Table 3."""

from collections.abc import Sequence
from typing import Any

from inception_jax.storage.markdown import table as to_markdown
from inception_jax.tasks.classification.averaging import Combination

COLUMNS = (
    "number of models",
    "number of crops",
    "cost",
    "top-5 error",
    "compared to base",
    "top-1 error",
    "which models",
)

Row = dict[str, Any]


def rows(combinations: Sequence[Combination], summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """Makes the rows: `models`, `crops`, `cost`, errors, `difference` and `networks`.

    `cost` is in passes through a network, `top5_error` and `top1_error` are shares (0..1),
    `difference` is that of the top-5 error to the first network's with the fewest crops, and
    `networks` are the numbers (from 1) of the networks averaged. The first network comes first,
    then all together, then the others.
    """
    base = summaries[0]["top5"]
    found = [
        {
            "models": len(networks),
            "crops": crops,
            "cost": len(networks) * crops,
            "top5_error": 1 - summary["top5"],
            "difference": base - summary["top5"],
            "top1_error": 1 - summary["top1"],
            "networks": [network + 1 for network in networks],
        }
        for (networks, crops), summary in zip(combinations, summaries, strict=True)
    ]
    return sorted(found, key=lambda row: len(row["networks"]) == 1 and row["networks"] != [1])


def cells(row: Row, base: Row) -> tuple[str, ...]:
    """Formats a row in the order of COLUMNS; `base` is the first row."""
    return (
        str(row["models"]),
        str(row["crops"]),
        str(row["cost"]),
        f"{row['top5_error']:.2%}",
        "base" if row is base else f"{100 * row['difference']:+.2f}",
        f"{row['top1_error']:.2%}",
        "+".join(map(str, row["networks"])),
    )


def markdown(found: Sequence[Row], checkpoints: Sequence[str], caption: str) -> str:
    """Formats the rows as Markdown, with the caption above and the list of networks below."""
    rows = (cells(row, found[0]) for row in found)
    networks = "".join(f"{number}. `{name}`\n" for number, name in enumerate(checkpoints, 1))
    return f"{caption}\n\n{to_markdown(COLUMNS, rows)}\n{networks}"
