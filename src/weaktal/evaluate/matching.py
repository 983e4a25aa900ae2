"""The array core of detection evaluation: overlap, greedy matching, average precision.

Works in whatever unit the times are in and knows nothing of files or protocols. Everything is done for all
classes, videos and thresholds at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Order = Literal["last", "first"]


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments as columns, (N,) each: `video` and `label` are indices, `start` and `end` times."""

    video: IntArray
    start: FloatArray
    end: FloatArray
    label: IntArray

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: BoolArray | IntArray) -> Segments:
        return Segments(self.video[rows], self.start[rows], self.end[rows], self.label[rows])


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detection took which instance, for every threshold.

    Attributes:
        order: (N,) rows of the detections by class, and by falling score within a class.
        label: (N,) their classes, ascending.
        instance: (H, N) the row of the instance taken at each threshold, -1 for a false positive; columns in
            `order`.
        positives: (C,) number of instances of each class.
    """

    order: IntArray
    label: IntArray
    instance: IntArray
    positives: IntArray


def temporal_iou(
    start: FloatArray, end: FloatArray, other_start: FloatArray, other_end: FloatArray, empty: float = 0.0
) -> FloatArray:
    """Temporal intersection over union of half-open segments, element by element.

    `empty` is the value of two segments of zero length, 0 / 0.
    """
    inter = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start))
    union = (end - start) + (other_end - other_start) - inter
    out = np.full(inter.shape, empty)
    np.divide(inter, union, out=out, where=union != 0)
    return out


def by_score(label: IntArray, score: FloatArray, ties: Order) -> IntArray:
    """Rows by class, then by falling score; of equal scores the one listed last or first comes first."""
    rows = np.arange(len(score))
    if ties == "last":
        rows = rows[::-1]
    return rows[np.lexsort((-score[rows], label[rows]))]


def overlapping(
    key: IntArray,
    start: FloatArray,
    end: FloatArray,
    other_key: IntArray,
    other_start: FloatArray,
    other_end: FloatArray,
    *,
    empty_too: bool = False,
) -> tuple[IntArray, IntArray]:
    """Pairs (i, j) of the same key that may overlap, every one that does among them, in order of i.

    Args:
        key, start, end: (N,) segments; the key is a video, or a video and class.
        other_key, other_start, other_end: (G,) the others.
        empty_too: pair segments without length with all others of their key.
    """
    none = np.empty(0, np.int64)
    if not (len(key) and len(other_key)):
        return none, none
    by_start = np.lexsort((other_start, other_key))
    groups, first, size = np.unique(other_key[by_start], return_index=True, return_counts=True)
    group = np.minimum(np.searchsorted(groups, key), len(groups) - 1)
    # one axis for all groups, each on a stretch of its own, so that one search serves all; the slack covers
    # what times lose on it
    begin = other_start.min()
    span = other_end.max() - begin + 1.0
    slack = 1e-12 * span * (len(groups) + 1)
    offset = np.repeat(np.arange(len(groups)) * span, size)
    starts = other_start[by_start] - begin + offset
    ends = np.maximum.accumulate(other_end[by_start] - begin + offset)  # the last end so far
    low = np.searchsorted(ends, start - begin + group * span - slack)
    high = np.searchsorted(starts, end - begin + group * span + slack, side="right")
    if empty_too:
        everything = start == end
        low[everything], high[everything] = 0, len(other_key)
    low = np.maximum(low, first[group])
    high = np.minimum(high, first[group] + size[group])
    count = np.where(groups[group] == key, np.maximum(high - low, 0), 0)
    left = np.repeat(np.arange(len(key)), count)
    within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, by_start[low[left] + within]


def match(
    truth: Segments,
    found: Segments,
    score: FloatArray,
    n_classes: int,
    thresholds: Sequence[float],
    *,
    preference: Literal["overlap", "listed"] = "overlap",
    ties: Order = "last",
    numpy_ties: bool = False,
    nan_matches: bool = False,
) -> Matches:
    """Greedy matching: by falling score, each detection takes a free instance of its video and class.

    Every detection has a list of the instances with tIoU >= threshold in order of preference, and detections
    choose by falling score. That is also what comes out if all of them claim at once, an instance keeps the
    best claimant, and those turned away claim the next on their list (deferred acceptance, Gale and Shapley
    1962, with one common ranking). Its rounds are array operations over all videos, classes and thresholds.

    Args:
        truth, found: instances (G rows) and detections (N rows); `video` must mean the same in both.
        score: (N,).
        n_classes: C; labels lie in [0, C).
        thresholds: H values in (0, 1].
        preference: a detection prefers the instance that it overlaps most, or the one "listed" first.
        ties: which of equal scores and of equal overlaps comes first, that listed last or first.
        numpy_ties: equal overlaps stand in the order in which NumPy's default, unstable sort leaves them, as
            in the published code. That order depends on NumPy and on the processor.
        nan_matches: two segments of zero length in one video match at every threshold, as in the published
            code, where 0 / 0 compares false; else they never match.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    if not (levels.ndim == 1 and len(levels) and np.all((levels > 0) & (levels <= 1))):
        raise ValueError(f"tIoU thresholds lie in (0, 1], got {levels.tolist()}")
    order = by_score(found.label, score, ties)
    ranked = found[order]
    own, theirs = ranked.video * n_classes + ranked.label, truth.video * n_classes + truth.label
    rank, instance = overlapping(
        own, ranked.start, ranked.end, theirs, truth.start, truth.end, empty_too=nan_matches
    )
    overlap = temporal_iou(
        ranked.start[rank],
        ranked.end[rank],
        truth.start[instance],
        truth.end[instance],
        empty=np.inf if nan_matches else 0.0,
    )
    near = np.flatnonzero(overlap >= levels.min())
    rank, instance, overlap = rank[near], instance[near], overlap[near]
    same = rank[1:] == rank[:-1]
    choice = np.flatnonzero(np.append(same, False) | np.append(False, same))  # where there is more than one
    listed = -instance[choice] if ties == "last" and preference == "overlap" else instance[choice]
    liking = -overlap[choice] if preference == "overlap" else np.zeros(len(choice))
    order_of_choice = choice[np.lexsort((listed, liking, rank[choice]))]
    instance[choice], overlap[choice] = instance[order_of_choice], overlap[order_of_choice]
    if numpy_ties and preference == "overlap":
        _as_numpy_sorts(rank, instance, overlap, ranked, truth, own, theirs)
    taken = np.full((len(levels), len(found)), -1, np.int64)
    level, row = np.nonzero(overlap >= levels[:, None])
    _choose(taken, len(truth), level, rank[row], instance[row])
    return Matches(order, ranked.label, taken, np.bincount(truth.label, minlength=n_classes))


def _as_numpy_sorts(
    rank: IntArray,
    instance: IntArray,
    overlap: FloatArray,
    ranked: Segments,
    truth: Segments,
    own: IntArray,
    theirs: IntArray,
) -> None:
    """Reorder, in place, the candidates of detections with equal overlaps as an unstable sort has them.

    The published code sorts the overlaps of one detection with all instances of its video and class.
    """
    equal = np.flatnonzero((rank[1:] == rank[:-1]) & (overlap[1:] == overlap[:-1]))
    tied = np.flatnonzero(np.bincount(rank[equal], minlength=1))
    by_key = np.argsort(theirs, kind="stable")
    low = np.searchsorted(theirs[by_key], own[tied])
    size = np.searchsorted(theirs[by_key], own[tied], side="right") - low
    for n in sorted(set(size.tolist())):
        mine = tied[size == n]
        rows = by_key[low[size == n, None] + np.arange(n)]  # as listed
        values = temporal_iou(
            ranked.start[mine, None], ranked.end[mine, None], truth.start[rows], truth.end[rows]
        )
        order = np.argsort(values, axis=1)[:, ::-1]
        # the place of every candidate in that order, found by its detection and instance
        pair = np.arange(len(mine))[:, None] * len(truth) + np.take_along_axis(rows, order, axis=1)
        by_pair = np.argsort(pair, axis=None)
        at = np.flatnonzero(np.isin(rank, mine))
        which = np.searchsorted(mine, rank[at])
        wanted = np.searchsorted(pair.reshape(-1)[by_pair], which * len(truth) + instance[at])
        chosen = at[np.lexsort((by_pair[wanted] % n, which))]
        instance[at], overlap[at] = instance[chosen], overlap[chosen]


def _choose(taken: IntArray, n_truth: int, level: IntArray, rank: IntArray, instance: IntArray) -> None:
    """Write into `taken` (H, N) who gets what; candidates are sorted by level, rank and preference."""
    if not len(level):
        return
    n = taken.shape[1]
    chooser = level * n + rank
    wish = level * n_truth + instance
    head = np.flatnonzero(np.concatenate([[True], chooser[1:] != chooser[:-1]]))
    end = np.append(head[1:], len(chooser))
    place = head.copy()  # where each chooser stands on its list
    nobody = len(head)
    holder = np.full(len(taken) * n_truth, nobody)
    active = np.arange(nobody)
    while len(active):
        target = wish[place[active]]
        before = holder[target]
        np.minimum.at(holder, target, active)  # the smaller number is the higher score
        won = holder[target] == active
        displaced = before[won]
        active = np.concatenate([active[~won], displaced[displaced < nobody]])
        place[active] += 1
        active = active[place[active] < end[active]]
    held = np.flatnonzero(holder < nobody)
    taken.reshape(-1)[chooser[head[holder[held]]]] = held % n_truth


def average_precision(matches: Matches, *, interpolated: bool = True) -> FloatArray:
    """Average precision of every threshold and class.

    AP = sum of precision at the ranks of the true positives / number of instances. Interpolated: the
    precision at a rank is the best one at this rank or later.

    Returns:
        (H, C) in [0, 1]; 0 for a class without detections, NaN for a class without instances.
    """
    h, n = matches.instance.shape
    c = len(matches.positives)
    hit = matches.instance >= 0
    begin = np.searchsorted(matches.label, np.arange(c + 1))
    total = np.zeros((h, n + 1), np.int64)
    np.cumsum(hit, axis=1, out=total[:, 1:])
    level, at = np.nonzero(hit)
    label = matches.label[at]
    first = begin[label]
    precision = (total[level, at + 1] - total[level, first]) / (at + 1 - first)
    group = level * c + label
    if interpolated and len(at):
        # a running maximum from the right that starts anew in every group: on exact integer codes
        values, code = np.unique(precision, return_inverse=True)
        code = code.reshape(-1) + (h * c - 1 - group) * len(values)
        precision = values[np.maximum.accumulate(code[::-1])[::-1] % len(values)]
    sums = np.bincount(group, weights=precision, minlength=h * c).reshape(h, c)
    positives = matches.positives.astype(np.float64)
    ap = np.full((h, c), np.nan)
    np.divide(sums, positives, out=ap, where=positives > 0)
    return ap
