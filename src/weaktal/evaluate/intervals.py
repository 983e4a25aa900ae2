"""How sure a mean average precision is: intervals by resampling videos, and differences between runs.

The bootstrap (Efron, 1979) over videos, which are what was sampled: instances of one video stand or fall
together. Matching is done once; a resample only weighs each video by how often it was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from weaktal.core import Annotations, Detections, InputError
from weaktal.evaluate.detection import Matched, evaluate, matched
from weaktal.evaluate.matching import FloatArray, IntArray, average_precision
from weaktal.evaluate.protocols import Protocol

RESAMPLES = 1000
CHUNK = 4_000_000  # weights (resamples x detections) held at once


@dataclass(frozen=True, eq=False)
class Interval:
    """A measured value and where it might have been with other videos of the same kind.

    Attributes:
        value: measured, in [0, 1] (a difference in [-1, 1]).
        low, high: the central share `level` of the resampled values.
        level: such as 0.95.
        resamples: (R,) the values themselves.
    """

    value: float
    low: float
    high: float
    level: float
    resamples: FloatArray

    @classmethod
    def of(cls, value: float, resamples: FloatArray, level: float) -> Interval:
        low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
        return cls(float(value), float(low), float(high), level, resamples)

    @property
    def p_value(self) -> float:
        """Two-sided: how often the resampled values lie on the other side of 0 (at least 2 / (R + 1))."""
        r = self.resamples
        tail = min(int((r <= 0).sum()), int((r >= 0).sum())) + 1
        return min(1.0, 2 * tail / (len(r) + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the resamples."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "level": self.level,
            "n": len(self.resamples),
        }


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of mean average precision.

    Attributes:
        tiou: H thresholds.
        average: of the mean over thresholds.
        at: of each threshold.
    """

    tiou: tuple[float, ...]
    average: Interval
    at: tuple[Interval, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tiou": list(self.tiou),
            "average": self.average.to_dict(),
            "at": [i.to_dict() for i in self.at],
        }


def draws(videos: int, resamples: int, seed: int) -> IntArray:
    """(R, V) how often each video is in each resample; rows add up to V. The same for the same arguments."""
    rng = np.random.default_rng([0xB007, seed])
    return rng.multinomial(videos, np.full(videos, 1 / videos), size=resamples)


def intervals(
    detections: Detections,
    annotations: Annotations,
    protocol: Protocol | str = "activitynet",
    *,
    subset: str | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> Intervals:
    """Intervals of every mAP, by a bootstrap over the annotated videos.

    Args:
        detections, annotations, protocol, subset, options: see `weaktal.evaluate.evaluate`.
        resamples: R.
        level: share of the resampled values that an interval holds.
        seed: of the resampling.

    Raises:
        InputError: see `weaktal.evaluate.evaluate`; fewer than two videos with instances.
    """
    run = matched(detections, annotations, protocol, subset=subset, **options)
    measured = evaluate(detections, annotations, protocol, subset=subset, **options)
    values = _resampled(run, draws(_videos(run), resamples, seed))
    return _intervals(measured.tiou, measured.mean_ap, values, level)


def differences(
    first: Sequence[Detections],
    second: Sequence[Detections],
    annotations: Annotations,
    protocol: Protocol | str = "activitynet",
    *,
    subset: str | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> Intervals:
    """Intervals of "second minus first" in mean average precision; `Interval.p_value` tests for none.

    Both sides are evaluated on the same resamples of videos (a paired test). A side is one run or several
    that differ in their seed: then their mean counts, and the runs are resampled, too.

    Args:
        first, second: detections of the runs of either side.
        others: see `intervals`.
    """
    found = compare_groups(
        (first, second),
        annotations,
        protocol,
        subset=subset,
        resamples=resamples,
        level=level,
        seed=seed,
        **options,
    )
    return found.differences[0, 1]


@dataclass(frozen=True, eq=False)
class GroupIntervals:
    """Groups of runs, measured on the same resamples of the videos.

    Attributes:
        means: of each group, the mean of its runs.
        differences: (i, j) with i < j -> group j minus group i.
    """

    means: tuple[Intervals, ...]
    differences: Mapping[tuple[int, int], Intervals]


def compare_groups(
    groups: Sequence[Sequence[Detections]],
    annotations: Annotations,
    protocol: Protocol | str = "activitynet",
    *,
    subset: str | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> GroupIntervals:
    """`differences` between all groups of runs, and the interval of each; every run is matched once.

    The runs of a group differ in their seed: their mean counts, and the runs are resampled as the videos are.

    Args:
        groups: detections of the runs of each.
        others: see `intervals`.

    Raises:
        InputError: see `intervals`.
    """
    if not (groups and all(groups)):
        raise ValueError("every group needs at least one run")
    values, measured = [], []
    tiou: tuple[float, ...] = ()
    drawn: IntArray | None = None
    for group in groups:
        runs = [matched(d, annotations, protocol, subset=subset, **options) for d in group]
        tiou = runs[0].protocol.tiou
        drawn = draws(_videos(runs[0]), resamples, seed) if drawn is None else drawn
        values.append(np.stack([_resampled(run, drawn) for run in runs]))  # (S, R, H)
        measured.append(np.mean([_mean_ap(run) for run in runs], axis=0))

    def mean(group: int, rng: np.random.Generator) -> FloatArray:
        runs = len(values[group])
        pick = rng.integers(runs, size=(runs, resamples))
        found: FloatArray = values[group][pick, np.arange(resamples)].mean(axis=0)
        return found

    means = [
        _intervals(tiou, measured[i], mean(i, np.random.default_rng([0x5EED, seed])), level)
        for i in range(len(groups))
    ]
    moved = {}
    for i, j in combinations(range(len(groups)), 2):
        rng = np.random.default_rng([0x5EED, seed])
        first, second = mean(i, rng), mean(j, rng)
        moved[i, j] = _intervals(tiou, measured[j] - measured[i], second - first, level)
    return GroupIntervals(tuple(means), moved)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that one below a level is rare even if nothing differs.

    Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    out, most = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = most
    return out


def _mean_ap(run: Matched) -> FloatArray:
    """(H,) as `evaluate` gives it."""
    mean: FloatArray = average_precision(run.matches, interpolated=run.protocol.interpolated).mean(axis=1)
    return np.zeros_like(mean) if run.zeroed else mean


def _videos(run: Matched) -> int:
    if run.videos < 2:
        raise InputError("an interval needs at least two annotated videos", found=run.videos)
    return run.videos


def _intervals(tiou: Sequence[float], value: FloatArray, resamples: FloatArray, level: float) -> Intervals:
    if not 0 < level < 1:
        raise ValueError(f"a level lies in (0, 1), got {level}")
    at = tuple(Interval.of(v, r, level) for v, r in zip(value, resamples.T, strict=True))
    return Intervals(tuple(tiou), Interval.of(float(np.mean(value)), resamples.mean(axis=1), level), at)


def _resampled(run: Matched, drawn: IntArray) -> FloatArray:
    """(R, H) mean average precision of each resample, over the classes with instances in it."""
    if run.zeroed:
        return np.zeros((len(drawn), len(run.protocol.tiou)))
    step = max(1, CHUNK // max(1, len(run.matches.order)))
    parts = [_weighted_map(run, drawn[i : i + step]) for i in range(0, len(drawn), step)]
    return np.concatenate(parts)


def _weighted_map(run: Matched, drawn: IntArray) -> FloatArray:
    """Mean average precision with every video counted as often as it was drawn, (R, H).

    Precision at a hit is (weight of hits so far) / (weight of detections so far), its share of recall the
    weight of its video over that of its class's instances.
    """
    matches, c = run.matches, len(run.matches.positives)
    r, extra = len(drawn), run.unannotated
    # detections in videos that nobody annotated are false positives in every resample
    weight = np.concatenate([drawn, np.ones((r, extra), drawn.dtype)], axis=1).astype(np.float64)
    video = run.found.video[matches.order]
    positives = np.zeros((r, c))
    for k in range(c):
        mine = run.truth.video[run.truth.label == k]
        positives[:, k] = weight[:, mine].sum(axis=1)
    begin = np.searchsorted(matches.label, np.arange(c))
    total = _cumulative(weight[:, video])
    out = np.empty((r, len(matches.instance)))
    for h, instance in enumerate(matches.instance):
        at = np.flatnonzero(instance >= 0)
        label = matches.label[at]
        hits = _cumulative(weight[:, video[at]])
        first = np.searchsorted(label, np.arange(c))[label]
        right = hits[:, 1:] - hits[:, first]
        seen = total[:, at + 1] - total[:, begin[label]]
        precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
        if run.protocol.interpolated:
            step = 2.0 * (c - label)  # a maximum from the right that starts anew in every class
            precision = np.maximum.accumulate((precision + step)[:, ::-1], axis=1)[:, ::-1] - step
        gained = precision * weight[:, video[at]]
        ap = np.zeros((r, c))
        starts = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]])) if len(at) else at
        if len(at):
            ap[:, label[starts]] = np.add.reduceat(gained, starts, axis=1)
        ap = np.divide(ap, positives, out=np.full_like(ap, np.nan), where=positives > 0)
        there = ~np.isnan(ap)
        out[:, h] = np.nansum(ap, axis=1) / np.maximum(there.sum(axis=1), 1)
    return out


def _cumulative(weight: FloatArray) -> FloatArray:
    """(R, N) to (R, N + 1) sums of the columns before."""
    out = np.zeros((weight.shape[0], weight.shape[1] + 1))
    np.cumsum(weight, axis=1, out=out[:, 1:])
    return out
