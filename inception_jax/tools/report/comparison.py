"""Groups of runs against the base: means, spreads and differences with confidence intervals."""

import math
from typing import NamedTuple

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95

SEEDS, IMAGES = "seeds", "test images"  # what an interval takes to be drawn at random


class Interval(NamedTuple):
    """A difference to the base with its confidence interval (CONFIDENCE).

    `drawn` is SEEDS (Welch's t, over runs) or, where one side has a single run or neither side has
    a spread, IMAGES, which says nothing about other seeds.
    """

    difference: float
    low: float
    high: float
    drawn: str


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarises each group of runs; the first group is the base.

    Means and deviations are over finished runs; a single one has no deviation. There is no interval
    where the base is not finished, or the runs were evaluated on another split or number of images
    than the base's.

    Args:
      runs: one row a run, see `tables.of_runs`.

    Returns:
      A row a group, its name as the index: changed, runs, done, parameters, multiply_adds,
      top1_mean, top1_deviation, top5_mean (0..1) and the fields of Interval; NaN where there is no
      value.
    """
    done = finished(runs)
    compared = runs.groupby("group", sort=False).agg(
        changed=("changed", "first"),
        runs=("run", "size"),
        parameters=("parameters", "first"),
        multiply_adds=("multiply_adds", "first"),
    )
    means = done.groupby("group").agg(
        done=("run", "size"),
        top1_mean=("top1", "mean"),
        top1_deviation=("top1", "std"),
        top5_mean=("top5", "mean"),
    )
    compared = compared.join(means)
    compared["done"] = compared["done"].fillna(0).astype(int)
    members = dict(list(done.groupby("group")))
    intervals = {
        group: interval
        for group in compared.index[1:]
        if {group, compared.index[0]} <= members.keys()
        and (interval := _interval(members[group], members[compared.index[0]]))
    }
    return compared.join(
        pd.DataFrame.from_dict(intervals, orient="index", columns=list(Interval._fields))
    )


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are done and measured; several of a group with one seed count as the first."""
    done = runs[(runs["status"] == "done") & runs["top1"].between(0, 1)]
    return done.dropna(subset="group").drop_duplicates(["group", "seed"])


def welch(ours: pd.Series, base: pd.Series) -> Interval:
    """The difference of two means, each of at least two values, without assuming equal spreads."""
    difference = ours.mean() - base.mean()
    errors = [some.var() / len(some) for some in (ours, base)]  # squared, of the means
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(some) - 1) for error, some in zip(errors, (ours, base), strict=True)
    )
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(sum(errors))
    return Interval(difference, difference - half, difference + half, SEEDS)


def binomial(ours: float, base: float, examples: int) -> Interval:
    """The difference of two accuracies, each measured once on as many images.

    Newcombe's (1998) hybrid of two Wilson intervals, for independent samples. Both networks saw
    the same images, so the interval is wider than it need be.
    """
    difference = ours - base
    (low, high), (base_low, base_high) = (_wilson(share, examples) for share in (ours, base))
    return Interval(
        difference,
        difference - math.hypot(ours - low, base_high - base),
        difference + math.hypot(high - ours, base - base_low),
        IMAGES,
    )


def _wilson(share: float, examples: int) -> tuple[float, float]:
    test = stats.binomtest(round(share * examples), examples)
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return interval.low, interval.high


def _interval(ours: pd.DataFrame, base: pd.DataFrame) -> Interval | None:
    measured = pd.concat([ours, base])[["split", "examples"]].drop_duplicates()
    examples = measured["examples"].iloc[0]
    if len(measured) > 1:
        return None
    if min(len(ours), len(base)) > 1 and ours["top1"].nunique() + base["top1"].nunique() > 2:
        return welch(ours["top1"], base["top1"])
    if not examples >= 1:  # NaN where the evaluation does not say
        return None
    return binomial(ours["top1"].mean(), base["top1"].mean(), int(examples))
