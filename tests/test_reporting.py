"""Progress, curves, and pictures whose texts stay in their places."""

import logging
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from inception_jax.runtime import pictures, progress
from inception_jax.tools.report import charts
from inception_jax.training.metrics_log import MetricsLog, read_lines


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Collects pictures instead of writing them."""
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: drawn.append(figure))
    return drawn


def test_answers_to_long_names_stay_beside_their_images(figures):
    """The probability is seen whatever the name is, and no title runs over the next image."""
    name = "hammerhead, hammerhead shark, Sphyrna zygaena of the $x_1$ sea"
    answer = [{"name": name, "probability": share} for share in (0.5, 0.25)]
    images = [np.zeros((height, width, 3), np.uint8) for height, width in ((1, 1), (9, 90), (8, 8))]
    titles = ["ILSVRC2012_val_00000001.JPEG", "very" * 40 + "_long.jpeg", "$x$.png"]
    pictures.predictions(images, titles, [answer] * 3, Path("x.png"))
    (figure,) = figures
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[1].texts] == [f"50% {name}", f"25% {name}"]
    shown = [axis.get_title() for axis in figure.axes[::2]]
    assert (shown[0], shown[2]) == (titles[0], titles[2])
    assert shown[1].startswith("veryvery")
    assert shown[1].endswith("_long.jpeg")
    for axis, beside in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        assert axis.title.get_window_extent().x1 < beside.get_window_extent().x1
        assert axis.title.get_window_extent().x0 > -20


def test_the_picture_of_a_table_has_a_line_for_each_number_of_models(figures):
    rows = [
        {"models": models, "crops": crops, "cost": models * crops, "top5_error": 0.1 / models,
         "networks": list(range(1, models + 1))}
        for models in (1, 7) for crops in (1, 10, 144)
    ]  # fmt: skip
    pictures.errors_by_cost(rows, "name on $split$", Path("x.png"))
    (figure,) = figures
    one, seven = figure.axes[0].lines
    assert np.asarray(one.get_xdata()).tolist() == [1, 10, 144]
    np.testing.assert_allclose(one.get_ydata(), 10)
    assert np.asarray(seven.get_xdata()).tolist() == [7, 70, 1008]
    np.testing.assert_allclose(seven.get_ydata(), 10 / 7)
    assert (one.get_label(), seven.get_label()) == ("model 1", "7 models averaged")


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("inception_jax"), "propagate", True)
    caplog.set_level(logging.INFO, "inception_jax")
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen = []
    for thing in progress.track("abcdefgh", "reading", 8):
        seen.append(thing)
        now[0] += 11
    assert "".join(seen) == "abcdefgh"
    assert caplog.messages == ["reading 3/8 (38%)", "reading 6/8 (75%)"]
    assert list(progress.track([], "reading", 0)) == []


def test_an_evaluation_that_is_done_again_is_not_in_the_metrics_twice(tmp_path):
    """Its line is on disk, but the run was killed before the evaluated state was saved."""
    with MetricsLog(tmp_path, resume_step=0) as metrics:
        for step in (1, 2):
            metrics.write(step, {"loss": 1.0})
            metrics.write(step, {"loss": 2.0}, split="test")
    MetricsLog(tmp_path, resume_step=2).__exit__(None, None, None)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 4
    MetricsLog(tmp_path, resume_step=2, evaluated=False).__exit__(None, None, None)
    kept = [(line["step"], "split" in line) for line in read_lines(tmp_path / "metrics.jsonl")]
    assert kept == [(1, False), (1, True), (2, False)]


def test_a_long_curve_is_drawn_by_the_means_of_its_parts():
    lines = [{"epoch": number / 10, "loss": float(number)} for number in range(1000)]
    epochs, losses = charts._points(lines, "loss")
    np.testing.assert_allclose(losses, np.arange(2, 1000, 5))
    np.testing.assert_allclose(epochs, losses / 10, rtol=1e-6)
    epochs, losses = charts._points(lines[:200], "loss")
    np.testing.assert_array_equal(losses, np.arange(200))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("", [""]),
        ("fashion_mnist_fully_connected", ["fashion_mnist_fully_", "connected"]),
        ("width=0.25, dropout=0.0 and more", ["width=0.25, dropout=0.0 ", "and more"]),
        ("x" * 50, ["x" * 23, "x" * 23, "xxxx"]),
        ("<b>_" + "y" * 22, ["&lt;b&gt;_", "y" * 22]),
    ],
)
def test_long_names_in_charts_break_after_separators(name, lines):
    assert charts._label(name).split("<br>") == lines
