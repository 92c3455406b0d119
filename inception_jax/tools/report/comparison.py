"""Groups of runs against the base: means, spreads and differences with confidence intervals."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from scipy import stats

from inception_jax.tools.report.runs import Run, groups

CONFIDENCE = 0.95

SEEDS, IMAGES = "seeds", "test images"  # what an interval takes to be drawn at random


@dataclasses.dataclass(frozen=True)
class Interval:
    """A difference to the base with its confidence interval (CONFIDENCE).

    `of` is SEEDS (Welch's t, over runs) or IMAGES, where one side has a single run or no side has a
    spread: that one says nothing about other seeds.
    """

    difference: float
    low: float
    high: float
    of: str


@dataclasses.dataclass(frozen=True)
class Group:
    """The finished runs of a group: their number, mean and standard deviation of top-1 and top-5.

    Those are of the last evaluations, 0..1. A single run has no deviation. There is no difference
    where the base is not finished, or the runs were evaluated on another split or number of images
    than the base's.
    """

    name: str
    runs: tuple[Run, ...]
    done: int
    top1: float | None = None
    top1_deviation: float | None = None
    top5: float | None = None
    to_base: Interval | None = None


def compare(runs: Sequence[Run]) -> list[Group]:
    """The groups in the order of the runs; the first one is the base."""
    found: list[Group] = []
    for name, members in groups(runs).items():
        done = finished(members)
        group = Group(name, tuple(members), len(done))
        if done:
            top1, top5 = values(done, "top1"), values(done, "top5")
            group = dataclasses.replace(
                group,
                top1=statistics.mean(top1),
                top1_deviation=statistics.stdev(top1) if len(top1) > 1 else None,
                top5=statistics.mean(top5) if top5 else None,
                to_base=_to_base(done, found[0]) if found else None,
            )
        found.append(group)
    return found


def finished(runs: Sequence[Run]) -> list[Run]:
    """Those that are done and measured; of several with one seed, which are one run, the first."""
    done: dict[int | None, Run] = {}
    for run in runs:
        if run.status == "done" and _is_share(run.last("top1")):
            done.setdefault(run.seed, run)
    return list(done.values())


def _is_share(value: float | None) -> bool:
    return value is not None and 0 <= value <= 1


def values(runs: Sequence[Run], name: str) -> list[float]:
    """A number of the last evaluations, where there is one."""
    return [value for run in runs if (value := run.last(name)) is not None]


def welch(ours: Sequence[float], base: Sequence[float]) -> Interval:
    """The difference of two means, each of at least two values, without assuming equal spreads."""
    difference = statistics.mean(ours) - statistics.mean(base)
    errors = [statistics.variance(some) / len(some) for some in (ours, base)]  # of the means
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(some) - 1) for error, some in zip(errors, (ours, base), strict=True)
    )
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(sum(errors))
    return Interval(difference, difference - half, difference + half, SEEDS)


def binomial(ours: float, base: float, examples: int) -> Interval:
    """The difference of two accuracies, each measured once on as many images.

    Newcombe's (1998) hybrid of two Wilson intervals, for independent samples. The networks saw the
    same images, so that it is wider than it need be.
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


def _to_base(done: Sequence[Run], base: Group) -> Interval | None:
    base_done = finished(base.runs)
    measured = {(run.evaluations[-1]["split"], run.last("examples")) for run in (*done, *base_done)}
    if not base_done or len(measured) != 1:
        return None
    ours, theirs = values(done, "top1"), values(base_done, "top1")
    if min(len(ours), len(theirs)) > 1 and len({*ours}) + len({*theirs}) > 2:
        return welch(ours, theirs)
    ((_, examples),) = measured
    if not examples or examples < 1:
        return None
    return binomial(statistics.mean(ours), statistics.mean(theirs), int(examples))
