"""What is counted, against loops in float64."""

import collections
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.tasks.classification.metrics import Tally, calibration_error, hits


def test_hits_equal_a_sort():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (200, 10)).astype(np.float32)  # many ties
    labels = rng.integers(0, 10, 200)
    ranked = np.argsort(-logits, axis=1, kind="stable")
    for k in (1, 5, 10, 20):
        expected = (ranked[:, :k] == labels[:, None]).any(1)
        np.testing.assert_array_equal(hits(jnp.asarray(logits), jnp.asarray(labels), k), expected)
    assert not hits(jnp.full((1, 10), jnp.nan), jnp.zeros(1, jnp.int32), 1).any()


def one_label(labels: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=bool)[labels]


def logs(scores: Any) -> np.ndarray:
    """Log-probabilities in float32."""
    scores = np.asarray(scores, np.float64)
    return np.log(scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def test_a_known_case():
    """Three images: right, wrong with the label in sixth place, and wrong in second place."""
    probabilities = [
        [0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04],
        [0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04],
        [0.1, 0.5, 0.3, 0.02, 0.02, 0.03, 0.03],
    ]
    tally = Tally(7)
    tally.add(logs(probabilities), one_label([0, 5, 2], 7), np.zeros(3, bool))
    summary = tally.summary()
    assert (summary["examples"], summary["bad_images"]) == (3, 0)
    assert (summary["top1"], summary["top5"]) == (1 / 3, 2 / 3)
    expected = -(math.log(0.4) + math.log(0.06) + math.log(0.3)) / 3
    assert summary["loss"] == pytest.approx(expected, rel=1e-6)
    # Of confidence 0.4, (5/15, 6/15], one of two is right; of 0.5, (7/15, 8/15], none of one.
    assert summary["calibration_error"] == pytest.approx((0.2 + 0.5) / 3, rel=1e-6)
    assert tally.of_each_class() == [
        {"label": 0, "examples": 1, "top1": 1.0},
        {"label": 2, "examples": 1, "top1": 0.0},
        {"label": 5, "examples": 1, "top1": 0.0},
    ]
    assert tally.confusions() == [
        {"label": 2, "prediction": 1, "examples": 1},
        {"label": 5, "prediction": 0, "examples": 1},
    ]


def by_hand(
    scores: np.ndarray, labels: np.ndarray, bad: np.ndarray, choices: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Summary, classes and confusions, one image at a time."""
    losses, confidences, right, in_five = [], [], [], []
    of_class: dict[int, list[bool]] = collections.defaultdict(list)
    confusions: collections.Counter[tuple[int, int]] = collections.Counter()
    for row, row_labels, row_bad in zip(scores.astype(np.float64), labels, bad, strict=True):
        ranking = np.argsort(-row, kind="stable").tolist()
        known = [number for number in ranking if row_labels[number]]
        if not known:
            continue
        label = known[0]
        right.append(label == ranking[0] and not row_bad)
        in_five.append(label in ranking[:5] and not row_bad)
        losses.append(math.log(choices) if row_bad else -row[label])
        confidences.append(0.0 if row_bad else math.exp(row[ranking[0]]))
        of_class[label].append(right[-1])
        if not right[-1] and not row_bad:
            confusions[label, ranking[0]] += 1
    calibration = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [
            place
            for place, confidence in enumerate(confidences)
            if low < confidence <= high or (number == 0 and confidence == 0)
        ]
        if inside:
            accuracy = sum(right[place] for place in inside) / len(inside)
            confidence = sum(confidences[place] for place in inside) / len(inside)
            calibration += len(inside) / len(right) * abs(accuracy - confidence)
    summary = {
        "top1": sum(right) / len(right),
        "top5": sum(in_five) / len(right),
        "loss": sum(losses) / len(right),
        "calibration_error": calibration,
        "examples": len(right),
        "bad_images": sum(bad[labels.any(axis=1)]),
    }
    classes = [
        {"label": label, "examples": len(found), "top1": sum(found) / len(found)}
        for label, found in sorted(of_class.items())
    ]
    most = sorted(confusions.items(), key=lambda entry: (-entry[1], entry[0]))[:20]
    return summary, classes, [{"label": a, "prediction": b, "examples": n} for (a, b), n in most]


@pytest.mark.parametrize("classes", [3, 5, 12])
@pytest.mark.parametrize("several", [False, True])
def test_counts_equal_a_loop(classes, several):
    """Ties, several labels or none, bad images and classes that cannot be chosen."""
    rng = np.random.default_rng(classes)
    count = 600
    allowed = np.arange(classes) != 1
    scores = logs(rng.integers(1, 6, (count, classes)) ** 2 * allowed.clip(1e-30))
    scores[:, 1] = -np.inf
    labels = one_label(list(rng.integers(0, classes, count)), classes)
    if several:
        labels |= rng.random((count, classes)) < 0.2
        labels[rng.random(count) < 0.2] = False
    labels &= allowed
    bad = rng.random(count) < 0.05
    summary, of_class, confusions = by_hand(scores, labels, bad, classes - 1)
    assert 0 < summary["bad_images"] < summary["examples"] < count
    whole = Tally(classes - 1)
    whole.add(scores, labels, bad)
    assert whole.summary() == pytest.approx(summary, rel=1e-9)
    assert whole.of_each_class() == of_class
    assert whole.confusions() == confusions
    for size in (1, 7, 64):
        parts = Tally(classes - 1)
        for start in range(0, count, size):
            part = slice(start, start + size)
            parts.add(scores[part], labels[part], bad[part])
        assert parts.summary() == whole.summary()  # to the bit
        assert parts.confusions() == confusions


def test_the_best_of_several_labels_counts():
    scores = logs([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
    labels = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0]], bool)
    tally = Tally(4)
    tally.add(scores, labels, np.zeros(3, bool))
    assert tally.summary()["top1"] == 1 / 3
    assert tally.summary()["loss"] == pytest.approx(-np.log([0.4, 0.2, 0.25]).mean(), rel=1e-6)
    assert [one["label"] for one in tally.of_each_class()] == [1, 3]


def test_images_without_a_label_are_left_out():
    scores = logs([[0.9, 0.1], [0.9, 0.1]])
    tally = Tally(2)
    tally.add(scores, np.array([[True, False], [False, False]]), np.array([False, True]))
    summary = tally.summary()
    assert (summary["examples"], summary["top1"], summary["bad_images"]) == (1, 1.0, 0)
    nothing = Tally(2)
    nothing.add(scores, np.zeros((2, 2), bool), np.zeros(2, bool))
    with pytest.raises(UserError, match="no example has a label"):
        nothing.summary()


def test_bad_images_are_wrong_answers_with_the_loss_of_chance():
    """Also of a network with fewer than five classes."""
    scores = logs([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05]])
    tally = Tally(3)
    tally.add(scores, one_label([0, 0], 3), np.array([False, True]))
    summary = tally.summary()
    assert {name: summary[name] for name in ("examples", "top1", "top5", "bad_images")} == {
        "examples": 2, "top1": 0.5, "top5": 0.5, "bad_images": 1,
    }  # fmt: skip
    assert summary["loss"] == pytest.approx((-np.log(0.6) + np.log(3)) / 2, rel=1e-6)
    assert summary["calibration_error"] == pytest.approx((0.4 + 0) / 2, rel=1e-6)
    assert tally.confusions() == []


def test_answers_that_are_no_numbers_are_wrong():
    nan = np.float32(np.nan)
    scores = np.concatenate([logs([[0.6, 0.3, 0.1]]), [[nan, nan, nan], [0, nan, -5]]])
    tally = Tally(3)
    tally.add(scores, np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0]], bool), np.zeros(3, bool))
    summary = tally.summary()
    assert (summary["top1"], summary["top5"], summary["examples"]) == (1 / 3, 1 / 3, 3)
    assert math.isnan(summary["loss"])
    assert math.isfinite(summary["calibration_error"])
    assert tally.confusions() == []
    assert tally.of_each_class() == [{"label": 0, "examples": 3, "top1": 1 / 3}]


def test_a_label_that_cannot_be_chosen_is_never_right():
    scores = np.array([[0.0, -np.inf, -np.inf]], np.float32)
    tally = Tally(1)
    tally.add(scores, np.array([[False, True, True]]), np.zeros(1, bool))
    summary = tally.summary()
    assert (summary["top1"], summary["top5"], summary["loss"]) == (0, 0, math.inf)


def test_the_calibration_error_of_sure_and_of_honest_answers():
    sure = np.ones(100)
    assert calibration_error(sure, np.ones(100, bool)) == 0
    assert calibration_error(sure, np.arange(100) < 75) == 0.25
    assert calibration_error(np.full(100, 0.75), np.arange(100) < 75) == 0
    assert calibration_error(np.zeros(10), np.zeros(10, bool)) == 0
    # In different bins gaps do not cancel out: 0.1 too low in one, 0.1 too high in the other.
    confidence, right = np.repeat([0.5, 0.9], 10), np.tile(np.arange(10) < 6, 2)
    right[10:] = np.arange(10) < 8
    assert calibration_error(confidence, right) == pytest.approx(0.1)
