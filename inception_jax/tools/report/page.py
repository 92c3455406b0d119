"""Writes the report: one HTML file that has its scripts and pictures inside."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import itables.options
import jinja2
import plotly.graph_objects as go
import plotly.offline

from inception_jax.models.cost import NetworkCost
from inception_jax.tools.report import charts, classes, comparison, tables
from inception_jax.tools.report.runs import Run, groups

TEMPLATE = Path(__file__).with_name("page.html")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file and its caption."""

    png: bytes
    caption: str


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Pictures under a heading, with a text that explains them."""

    heading: str
    text: str
    pictures: tuple[Picture, ...]


def render(runs: Sequence[Run], galleries: Sequence[Gallery], written: str) -> str:
    """Returns the page.

    Args:
      runs: as `runs.read` gives them, the base's group first.
      galleries: pictures of networks.
      written: a line that says when and by which program the page was written.
    """
    of_runs = tables.of_runs(runs)
    compared = comparison.compare(of_runs.values)
    of_classes = classes.summarize(runs)
    styles = charts.styles(compared.index)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    bundle = Path(itables.options.dt_bundle)  # DataTables with its extensions
    return environment.get_template(TEMPLATE.name).render(
        written=written,
        base=next(iter(compared.index), None),
        confidence=f"{comparison.CONFIDENCE:.0%}",
        points=charts.POINTS,
        runs=of_runs,
        groups=tables.of_groups(compared),
        evaluations=tables.of_evaluations(runs),
        of_classes=of_classes,
        charts={
            "differences": _chart(charts.differences(compared)),
            "curves": _chart(charts.curves(runs, styles)),
            "classes": _chart(charts.classes(of_classes.accuracies, styles)),
            "shares": _chart(charts.shares(_by_network(runs))),
        },
        galleries=galleries,
        plotly=plotly.offline.get_plotlyjs(),
        data_tables=_data_url(bundle.read_bytes(), "text/javascript"),
        data_tables_style=bundle.with_suffix(".css").read_text(),
        data_url=_data_url,
    )


def _chart(figure: go.Figure | None) -> str | None:
    if figure is None:
        return None
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"responsive": True, "displayModeBar": False},
    )


def _by_network(runs: Sequence[Run]) -> dict[str, NetworkCost]:
    """The costs of each network, under the name of its first group and the number of others."""
    same: dict[NetworkCost, list[str]] = {}
    for group, members in groups(runs).items():
        if members[0].costs:
            same.setdefault(members[0].costs, []).append(group)
    return {
        names[0] + (f" and {len(names) - 1} more" if names[1:] else ""): costs
        for costs, names in same.items()
    }


def _data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
