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
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from inception_jax.models.cost import NetworkCost
from inception_jax.tools.report.comparison import IMAGES, Group
from inception_jax.tools.report.runs import Run, groups, number

COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999")
DASHES = ("solid", "dash", "dot", "dashdot")
POINTS = 200  # of a curve; where there are more lines, a point is the mean of some
CLASSES = 40  # in the chart: those that the base knows least; the table has all
_LINE = 24  # characters of a name beside an axis: a phone has room for them


Style = dict[str, str]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour and dash of each group."""
    pairs = itertools.cycle(itertools.product(DASHES, COLORS))
    return {
        name: {"color": color, "dash": dash}
        for name, (dash, color) in zip(names, pairs, strict=False)
    }


def curves(runs: Sequence[Run], styles: dict[str, Style]) -> go.Figure | None:
    """Loss, top-1 and learning rate over epochs: training as lines, evaluations as marks."""
    panels = {"loss": "loss", "top1": "top-1", "learning_rate": "learning rate"}
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.03,
        row_heights=[0.4, 0.4, 0.2],
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
                    what = "training" if mode == "lines" else "evaluation"
                    figure.add_scatter(
                        x=x, y=y, mode=mode, row=row, col=1,
                        legendgroup=_label(name), showlegend=False,
                        line={**style, "width": 1 if mode == "lines" else 2},
                        opacity=0.55 if mode == "lines" else 1,
                        name=_label(f"{run.name}, {what}"),
                    )  # fmt: skip
                    drawn = True
        # The legend's own line, so that a group is in it once, whatever it has.
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=_label(name), legendgroup=_label(name),
            line={**style, "width": 2}, row=1, col=1,
        )  # fmt: skip
    for row, title in enumerate(panels.values(), 1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    legend = sum(_label(name).count("<br>") + 1 for name in groups(runs))  # lines, on a phone
    return _styled(figure, height=760 + 16 * legend) if drawn else None


def differences(compared: Sequence[Group]) -> go.Figure | None:
    """Top-1 of each group less the base's, in points, with its interval."""
    found = [(group, group.to_base) for group in compared if group.to_base]
    if not found:
        return None
    figure = go.Figure()
    for of in dict.fromkeys(interval.of for _, interval in found):
        some = [(group, interval) for group, interval in found if interval.of == of]
        estimates = np.array([100 * interval.difference for _, interval in some])
        figure.add_scatter(
            x=estimates,
            y=[_label(group.name) for group, _ in some],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.array([100 * interval.high for _, interval in some]) - estimates,
                "arrayminus": estimates - np.array([100 * interval.low for _, interval in some]),
            },
            mode="markers",
            marker={"size": 9, "color": COLORS[4], "symbol": _symbol(of)},
            name=f"interval over {of}",
            showlegend=True,
        )
    figure.add_vline(x=0, line={"color": "#666666", "dash": "dot"})
    figure.update_xaxes(title_text="top-1 less the base's, points")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return _styled(figure, height=170 + 32 * len(found))


def classes(accuracies: dict[str, dict[str, float]], styles: dict[str, Style]) -> go.Figure | None:
    """Accuracy in each class, a mark for each group.

    Args:
      accuracies: {group: {class: top-1}}, the base's first.
    """
    if not accuracies:
        return None
    first = next(iter(accuracies.values()))
    shown = sorted(first, key=lambda name: first[name])[:CLASSES]
    figure = go.Figure()
    symbols = itertools.cycle(("circle", "square", "diamond", "cross", "x", "triangle-up"))
    for (group, of), symbol in zip(accuracies.items(), symbols, strict=False):
        some = [name for name in shown if name in of]
        figure.add_scatter(
            x=[of[name] for name in some], y=list(map(_label, some)), mode="markers",
            name=_label(group),
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


def _symbol(of: str) -> str:
    return "circle-open" if of == IMAGES else "circle"


def _styled(figure: go.Figure, height: int) -> go.Figure:
    """What all charts share; the legend is above, as wide as the chart."""
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 40},
        font={"size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1, "x": 0},
        hovermode="closest",
    )
