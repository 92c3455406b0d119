"""Charts of runs, drawn with Plotly: for a page that needs no network.

A group of runs has one colour (Okabe & Ito's, which colour-blind people can tell apart) and one
dash in all charts; from the ninth group on the dashes make the difference, and from the 33rd on
they begin again. Plotly takes names for HTML: all of them go through `_label`.
"""

import html
import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from inception_jax.models.cost import NetworkCost
from inception_jax.tools.report.comparison import IMAGES
from inception_jax.tools.report.results import number
from inception_jax.tools.report.runs import Run, groups

COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999")
DASHES = ("solid", "dash", "dot", "dashdot")
POINTS = 200  # the most in a curve; of more lines, a point is the mean of several
CLASSES = 40  # the most in the chart; the table has all
_PANELS = {"loss": ("loss", 2), "top1": ("top-1", 2), "learning_rate": ("learning rate", 1)}
_LINE = 24  # characters of a name beside an axis: as many as a phone has room for


Style = dict[str, str]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour and dash of each group."""
    pairs = itertools.cycle(itertools.product(DASHES, COLORS))
    return {
        name: {"color": color, "dash": dash}
        for name, (dash, color) in zip(names, pairs, strict=False)
    }


def curves(runs: Sequence[Run], styles: dict[str, Style]) -> go.Figure | None:
    """Loss, top-1 and learning rate over epochs: training as lines, evaluations as marks.

    There is no panel for what no run has: runs of other tasks than classification have no top-1.
    """
    measured = {field for run in runs for line in run.folder.metrics for field in line}
    panels = {field: panel for field, panel in _PANELS.items() if field in measured}
    if not panels:
        return None
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.03,
        row_heights=[height for _, height in panels.values()],
    )  # fmt: skip
    drawn = False
    for name, members in groups(runs).items():
        style = styles[name]
        for row, field in enumerate(panels, 1):
            for run in members:
                lines = {"lines": run.training, "lines+markers": run.evaluations}
                for mode, found in lines.items():
                    x, y = _points(found, field)
                    if not len(x):
                        continue
                    phase = "training" if mode == "lines" else "evaluation"
                    figure.add_scatter(
                        x=x, y=y, mode=mode, row=row, col=1,
                        legendgroup=_label(name), showlegend=False,
                        line={**style, "width": 1 if mode == "lines" else 2},
                        opacity=0.55 if mode == "lines" else 1,
                        name=_label(f"{run.name}, {phase}"),
                    )  # fmt: skip
                    drawn = True
        # The legend's own line, so that a group is in it once, whatever it has.
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=_label(name), legendgroup=_label(name),
            line={**style, "width": 2}, row=1, col=1,
        )  # fmt: skip
    for row, (title, _) in enumerate(panels.values(), 1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    legend = sum(_label(name).count("<br>") + 1 for name in groups(runs))  # lines, on a phone
    return _styled(figure, height=760 + 16 * legend) if drawn else None


def differences(compared: pd.DataFrame) -> go.Figure | None:
    """Top-1 of each group less the base's, in points, with its interval.

    Args:
      compared: see `comparison.compare`.
    """
    known = compared.dropna(subset="difference")
    if known.empty:
        return None
    figure = go.Figure()
    for drawn, some in known.groupby("drawn", sort=False):
        figure.add_scatter(
            x=100 * some["difference"],
            y=list(map(_label, some.index)),
            error_x={
                "type": "data",
                "symmetric": False,
                "array": 100 * (some["high"] - some["difference"]),
                "arrayminus": 100 * (some["difference"] - some["low"]),
            },
            mode="markers",
            marker={
                "size": 9,
                "color": COLORS[4],
                "symbol": "circle-open" if drawn == IMAGES else "circle",
            },
            name=f"interval over {drawn}",
            showlegend=True,
        )
    figure.add_vline(x=0, line={"color": "#666666", "dash": "dot"})
    figure.update_xaxes(title_text="top-1 less the base's, points")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return _styled(figure, height=170 + 32 * len(known))


def classes(accuracies: pd.DataFrame, styles: dict[str, Style]) -> go.Figure | None:
    """Top-1 of the CLASSES classes that the first group knows least, a mark for each group.

    Args:
      accuracies: a row for each (label, name), a column for each group, the base's first.
      styles: of the groups.
    """
    if accuracies.empty:
        return None
    first = accuracies.iloc[:, 0].dropna()
    shown = accuracies.loc[first.sort_values(kind="stable").index[:CLASSES]]
    shared = accuracies.index.get_level_values("name").value_counts() > 1
    labels = [_label(f"{name} ({label})" if shared[name] else name) for label, name in shown.index]
    figure = go.Figure()
    symbols = itertools.cycle(("circle", "square", "diamond", "cross", "x", "triangle-up"))
    for (group, values), symbol in zip(shown.items(), symbols, strict=False):
        figure.add_scatter(
            x=values, y=labels, mode="markers", name=_label(group),
            marker={"color": styles[group]["color"], "symbol": symbol, "size": 8, "opacity": 0.8},
        )  # fmt: skip
    figure.update_xaxes(title_text="top-1 of the class")
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1)
    return _styled(figure, height=170 + 22 * len(shown))


def shares(costs: dict[str, NetworkCost]) -> go.Figure | None:
    """Each layer's share of parameters and multiply-adds; a menu chooses among the networks."""
    if not costs:
        return None
    figure = go.Figure()
    for number_of, description in enumerate(costs.values()):
        layers = [layer for layer in description.layers if layer.multiply_adds or layer.parameters]
        names = [_label(layer.name) for layer in layers]
        for title, field, color in (
            ("multiply-adds", "multiply_adds", COLORS[4]),
            ("parameters", "parameters", COLORS[1]),
        ):
            total = max(1, getattr(description, field))
            figure.add_bar(
                y=names, x=[100 * getattr(layer, field) / total for layer in layers], name=title,
                orientation="h", marker={"color": color}, visible=number_of == 0,
                hovertemplate="%{y}: %{x:.2f} %",
            )  # fmt: skip
    if len(costs) > 1:
        buttons = [
            {
                "label": html.escape(textwrap.shorten(name, 2 * _LINE, placeholder="…")),
                "method": "restyle",
                "args": ["visible", [place // 2 == chosen for place in range(2 * len(costs))]],
            }
            for chosen, name in enumerate(costs)
        ]
        place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 30}}
        figure.update_layout(updatemenus=[{"buttons": buttons, **place}])
    figure.update_xaxes(title_text="share, %")
    figure.update_yaxes(autorange="reversed", automargin=True)
    most = max(len(description.layers) for description in costs.values())
    return _styled(figure, height=220 + 28 * most)


def _points(lines: Sequence[dict[str, Any]], field: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, at most POINTS of them, as float32."""
    pairs = [(number(line.get("epoch")), number(line.get(field))) for line in lines]
    known = [pair for pair in pairs if None not in pair]
    points = np.array(known, np.float64).reshape(-1, 2)
    if len(points) > POINTS:
        points = np.array([part.mean(axis=0) for part in np.array_split(points, POINTS)])
    return points[:, 0].astype(np.float32), points[:, 1].astype(np.float32)


def _label(name: str) -> str:
    """A name in lines that are short enough, broken after its separators, as Plotly's HTML."""
    lines = [""]
    for part in re.findall(rf"[^_/=,\s]{{1,{_LINE - 1}}}[_/=,\s]?|[_/=,\s]", name):
        if len((lines[-1] + part).rstrip()) > _LINE:
            lines.append("")
        lines[-1] += part
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    """Sets the look that all charts share; the legend is above, as wide as the chart."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 40},
        font={"size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        hovermode="closest",
    )
