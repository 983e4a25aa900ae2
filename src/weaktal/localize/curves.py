"""From activation curves to scored runs: up-sampling, many thresholds at once, outer-inner contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Grid = tuple[float, float, float]
"""Evenly spaced thresholds: start, stop and step of `numpy.arange`, as published settings write them."""


def upsample(curves: ArrayLike, factor: int, *, extrapolate: bool = True) -> FloatArray:
    """Linear interpolation at positions 0, 1/factor, 2/factor, ..., below T.

    Beyond the last snippet the last slope is continued, as the published code of the field does, so values
    may leave the range of the input. A single snippet is repeated.

    Args:
        curves: (..., T).
        factor: values per snippet, at least 1.
        extrapolate: false holds the last value beyond the last snippet.

    Returns:
        (..., T * factor), float64.

    >>> upsample([0.0, 1.0, 3.0], 2).tolist()
    [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
    """
    x = np.asarray(curves, dtype=np.float64)
    length = x.shape[-1]
    if length == 1:
        return np.repeat(x, factor, axis=-1)
    steps = np.diff(x, axis=-1)
    steps = np.concatenate([steps, steps[..., -1:] * extrapolate], axis=-1)
    fraction = np.arange(factor) / factor
    return (x[..., None] + steps[..., None] * fraction).reshape(*x.shape[:-1], length * factor)


@dataclass(frozen=True, eq=False)
class Runs:
    """Maximal stretches of curves above thresholds, ordered by (curve, threshold, start). (M,) each.

    Attributes:
        curve, threshold: which curve and which threshold a run belongs to.
        start, end: its positions [start, end).
    """

    curve: IntArray
    threshold: IntArray
    start: IntArray
    end: IntArray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def length(self) -> IntArray:
        return self.end - self.start

    def __getitem__(self, rows: NDArray[np.bool_] | IntArray) -> Runs:
        return Runs(self.curve[rows], self.threshold[rows], self.start[rows], self.end[rows])

    def for_each(self, count: int) -> Runs:
        """The runs of one curve, such as a foreground, for each of `count` curves, one after another."""
        curve = np.repeat(np.arange(count), len(self))
        return Runs(curve, *(np.tile(x, count) for x in (self.threshold, self.start, self.end)))

    @classmethod
    def concatenate(cls, parts: Sequence[Runs]) -> Runs:
        """All runs of at least one part, in order."""
        columns = ("curve", "threshold", "start", "end")
        return cls(*(np.concatenate([getattr(p, c) for p in parts]) for c in columns))


def find_runs(
    curves: ArrayLike,
    thresholds: ArrayLike,
    *,
    strict: bool = False,
    min_length: int = 1,
    drop_lone_first: bool = False,
) -> Runs:
    """All runs of all curves at all thresholds.

    Args:
        curves: (K, N).
        thresholds: (H,).
        strict: a run needs value > threshold in place of >=.
        min_length: shorter runs are left out.
        drop_lone_first: leave out the run of a curve and threshold where only position 0 passes, as the
            published code of ASM-Loc, LAC, SAL and STCL-Net does (a truth test of an index array).
    """
    x = np.atleast_2d(np.asarray(curves, dtype=np.float64))
    h = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    k, n = x.shape
    by_height = np.argsort(h, kind="stable")
    # the number of thresholds passed at each position, 0 beyond the ends: where it rises from a to b, runs
    # of the thresholds a..b-1 start, and where it falls they end; nothing happens at all other positions
    passed = np.zeros((k, n + 2), dtype=np.int32)
    passed[:, 1:-1] = np.searchsorted(h[by_height], x, side="left" if strict else "right")
    passed[:, 1:-1][np.isnan(x)] = 0
    change = np.diff(passed, axis=1)
    start_group, start = _crossings(np.flatnonzero(change > 0), passed, change, by_height)
    end_group, end = _crossings(np.flatnonzero(change < 0), passed, change, by_height)
    order = np.argsort(start_group, kind="stable")
    curve, threshold = np.divmod(start_group[order], max(h.size, 1))
    runs = Runs(curve, threshold, start[order], end[np.argsort(end_group, kind="stable")])
    keep = runs.length >= min_length
    if drop_lone_first:
        group = curve * h.size + threshold
        alone = np.bincount(group, minlength=k * h.size)[group] == 1
        keep &= ~(alone & (runs.start == 0) & (runs.end == 1))
    return runs if keep.all() else runs[keep]


def _crossings(
    at: IntArray, passed: NDArray[np.int32], change: NDArray[np.int32], by_height: IntArray
) -> tuple[IntArray, IntArray]:
    """Groups (curve * H + threshold) and positions of all thresholds crossed at the flat places `at`."""
    curve, position = np.divmod(at, change.shape[1])
    count = np.abs(change.reshape(-1)[at])
    low = np.minimum(passed[curve, position], passed[curve, position + 1])
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    threshold = by_height[np.repeat(low, count) + within]
    return np.repeat(curve, count) * len(by_height) + threshold, np.repeat(position, count)


def above(curves: ArrayLike, thresholds: ArrayLike) -> FloatArray:
    """Curves (K, N) at thresholds (H,), 0 where they are below one: (K, H, N)."""
    x, h = np.asarray(curves, np.float64)[:, None], np.asarray(thresholds, np.float64)[:, None]
    return np.where(x >= h, x, 0.0)


class IntervalMeans:
    """Means of curves over intervals in O(1) each, from prefix sums in float64.

    Args:
        values: (..., N).
    """

    def __init__(self, values: ArrayLike) -> None:
        x = np.asarray(values, dtype=np.float64)
        self.sums = np.zeros((*x.shape[:-1], x.shape[-1] + 1))
        np.cumsum(x, axis=-1, out=self.sums[..., 1:])

    def sum(self, index: tuple[IntArray, ...], start: ArrayLike, end: ArrayLike) -> FloatArray:
        """Sums over [start, end) of the curves at `index` (one index array per leading axis); 0 if empty."""
        low: IntArray = np.asarray(start, dtype=np.int64)
        high: IntArray = np.maximum(np.asarray(end, dtype=np.int64), low)
        return np.asarray(self.sums[(*index, high)] - self.sums[(*index, low)])


def outer_inner_contrast(values: ArrayLike, runs: Runs, margin: float, *, extra: int = 0) -> FloatArray:
    """Mean inside a run minus mean just outside of it (outer-inner contrast, AutoLoc, Shou et al. 2018).

    The outside is ``margin`` times the run's length on each side, cut at the ends of the curve and truncated
    to whole positions; both sides together give one mean, 0 if there is nothing outside.

    Args:
        values: (K, N), one curve per `runs.curve`; or (K, H, N) where the curve depends on the threshold.
        runs: M runs.
        margin: share of the run's length.
        extra: as many positions after a run count as inside, and as many at the end of the curve are never
            outside (ISSF: 1); the length of the outside stays that of the run.

    Returns:
        (M,) float64.
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.shape[-1]
    means = IntervalMeans(x)
    index = (runs.curve,) if x.ndim == 2 else (runs.curve, runs.threshold)
    start, end, reach = runs.start, runs.end + extra, margin * runs.length
    left = np.maximum(0, np.trunc(start - reach)).astype(np.int64)
    right = np.minimum(n - extra, np.trunc(end - 1 + reach).astype(np.int64) + 1)
    right = np.maximum(right, end)
    inside = np.minimum(end, n)
    inner = means.sum(index, start, inside) / (inside - start)
    outside = (start - left) + (right - end)
    outer = means.sum(index, left, start) + means.sum(index, inside, np.minimum(right, n))
    return np.asarray(inner - np.where(outside > 0, outer / np.maximum(outside, 1), 0.0))
