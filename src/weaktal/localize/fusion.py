"""Several runs as one: weighted fusion of their segments, averages of their snippet scores.

Weighted fusion joins what runs say about the same stretch of time, in place of picking the surest of them: a
segment that several runs found moves to the mean of their borders and gains score, one that a single run
found loses. It needs no common time axis and no common scale of scores. docs/trust.md measures both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core import Detections, SnippetScores, TimeAxis
from weaktal.localize.nms import nms, overlapping_pairs

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST = 40  # of a run, segments per video and class that take part
IOU = 0.55  # from which segments are one
NMS = 0.5  # from which a worse fused segment is suppressed
TELLING = 20  # segments that two runs share, from which on their ranks say whether they agree


@dataclass(frozen=True, eq=False)
class Scale:
    """The range of a run's scores, class by class; (C,) each, in the order of the classes.

    Fixed once, it keeps scores of different videos comparable after a fusion: the best segment of a class in
    a video that does not have it is none of score 1.

    Attributes:
        low, high: least and largest score.
    """

    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, found: Detections) -> Scale:
        """Of all detections of a run; a class that it never found gets the range of all classes."""
        c = len(found.classes)
        low, high = np.full(c, np.inf), np.full(c, -np.inf)
        np.minimum.at(low, found.label, found.score)
        np.maximum.at(high, found.label, found.score)
        missing = low > high
        low[missing] = found.score.min(initial=np.inf) if len(found) else 0.0
        high[missing] = found.score.max(initial=-np.inf) if len(found) else 0.0
        return cls(low, high)

    def __call__(self, found: Detections) -> FloatArray:
        """The scores of detections on this scale: 0 at `low` and below, 1 at `high`, more above it.

        Where all scores of a class are the same they say nothing of each other: 1/2.
        """
        width = (self.high - self.low)[found.label]
        score = (found.score - self.low[found.label]) / np.where(width > 0, width, 1.0)
        return np.where(width > 0, np.maximum(score, 0.0), 0.5)


def fuse_detections(
    runs: Sequence[Detections],
    *,
    scales: Sequence[Scale] | None = None,
    most: int = MOST,
    iou: float = IOU,
    nms_threshold: float = NMS,
) -> Detections:
    """One set of detections from those of several runs.

    Args:
        runs: detections over the same classes; a video that a run does not list counts as without any.
        scales: of the scores, one per run; by default that of the detections given.
        most: per run, video and class so many of the highest score take part.
        iou: overlap, above 0 and at most 1, from which segments of a class are joined.
        nms_threshold: overlap from which a worse fused segment is suppressed.

    Returns:
        Videos in the order in which the runs name them, in each of them by falling score. A score is the sum
        over the joined segments, on the scale of their runs, divided by the number of runs.

    Raises:
        ValueError: no run, or runs of different classes.
    """
    if not runs or any(r.classes != runs[0].classes for r in runs):
        raise ValueError("fusion needs one or more runs, all of the same classes in the same order")
    classes = runs[0].classes
    scales = [Scale.of(r) for r in runs] if scales is None else scales
    scaled = [
        Detections(r.names, classes, r.video, r.start, r.end, r.label, scale(r))
        for r, scale in zip(runs, scales, strict=True)
    ]
    strongest = [r[_strongest(r, most)] for r in scaled]
    joined = Detections.concatenate(strongest, classes)
    start, end, score, group = fuse_segments(
        joined.start,
        joined.end,
        joined.score / len(runs),
        joined.video * len(classes) + joined.label,
        np.repeat(np.arange(len(runs)), [len(r) for r in strongest]),
        iou=iou,
    )
    kept = nms(start, end, score, nms_threshold, plus_one=False, group=group)
    video, label = np.divmod(group[kept], max(1, len(classes)))
    order = np.lexsort((-score[kept], video))
    kept = kept[order]
    return Detections(joined.names, classes, video[order], start[kept], end[kept], label[order], score[kept])


def voices(
    runs: Sequence[Detections],
    *,
    scales: Sequence[Scale] | None = None,
    likelihood: ArrayLike | None = None,
    most: int = MOST,
    iou: float = IOU,
) -> NDArray[np.bool_]:
    """Which seeds of one method should have a voice: all but those that rank segments as no other does.

    Two runs agree as far as they rank alike (Spearman) the segments that both found. Usual is the median over
    the runs of the agreement with that run which agrees most. A run that stays below half of it with every
    other has collapsed, is turned around, or says the same of everything; or it alone is right, for a
    majority can be wrong: whose likelihood is not below the median stays. Two that agree with each other both
    stay. Of different methods nothing follows: they may be right in different places.

    Args:
        runs, scales, most, iou: as in `fuse_detections`; best of the training videos, which are many.
        likelihood: (R,) TL of the runs, see `weaktal.train.select`, NaN where it is not known; none by
            default.

    Returns:
        (R,). All of them where none agree, or where too few segments are shared to tell.

    Raises:
        ValueError: runs of different classes.
    """
    if any(r.classes != runs[0].classes for r in runs):
        raise ValueError("needs runs of the same classes in the same order")
    scales = [Scale.of(r) for r in runs] if scales is None else scales
    strongest = [r[_strongest(r, most)] for r in runs]
    agreement = np.full((len(runs), len(runs)), np.nan)
    for i, j in combinations(range(len(runs)), 2):
        one, other = _shared(strongest[i], strongest[j], iou)
        if len(one) >= TELLING:
            a, b = scales[i](strongest[i])[one], scales[j](strongest[j])[other]
            agreement[i, j] = agreement[j, i] = _rank_correlation(a, b)
    heard = np.ones(len(runs), bool)
    told = ~np.isnan(agreement).all(axis=1)
    if told.any():
        best = np.nanmax(agreement[told], axis=1)
        usual = np.median(best)
        heard[told] = (best >= usual / 2) | (usual <= 0)
    if likelihood is not None:
        known = np.asarray(likelihood, np.float64)
        heard |= known >= np.median(known)
    return heard


def _shared(a: Detections, b: Detections, iou: float) -> tuple[IntArray, IntArray]:
    """Rows of segments of a video and class that overlap each other most, by more than `iou`."""
    joined = Detections.concatenate([a, b], a.classes)
    if not (len(a) and len(b)):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # every video and class on a stretch of its own of one axis
    stretch = (joined.video * len(joined.classes) + joined.label) * (
        joined.end.max() - joined.start.min() + 1
    )
    one, other, value = overlapping_pairs(joined.start + stretch, joined.end + stretch, plus_one=False)
    one, other = np.minimum(one, other), np.maximum(one, other)  # rows of `a` come first
    pairs = (value > iou) & (one < len(a)) & (other >= len(a))
    one, other, value = one[pairs], other[pairs], value[pairs]
    best = np.zeros(len(joined))
    np.maximum.at(best, one, value)
    np.maximum.at(best, other, value)
    mutual = (value == best[one]) & (value == best[other])
    return one[mutual], other[mutual] - len(a)


def _rank_correlation(a: FloatArray, b: FloatArray) -> float:
    """Spearman's; 0 where one of them is constant."""
    ranks = []
    for x in (a, b):
        _, place, count = np.unique(x, return_inverse=True, return_counts=True)
        rank = (np.cumsum(count) - (count - 1) / 2)[place]  # of equal values their mean rank
        ranks.append(rank - rank.mean())
    size = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / size) if size > 0 else 0.0


def agreed(runs: Sequence[Detections], *, iou: float = 0.5) -> Detections:
    """The segments that more than half of the runs found.

    Args:
        runs: what each of them shows, over the same classes; a run has one voice in each segment.
        iou: overlap above which segments of two runs are one.

    Returns:
        Videos in the order in which the runs name them, in each of them by time; borders are the means over
        the runs that found it, the score is their share of the runs, above 1/2 and at most 1.

    Raises:
        ValueError: no run, or runs of different classes.
    """
    if not runs or any(r.classes != runs[0].classes for r in runs):
        raise ValueError("needs one or more runs, all of the same classes in the same order")
    joined = Detections.concatenate(runs, runs[0].classes)
    start, end, voices, group = fuse_segments(
        joined.start,
        joined.end,
        np.ones(len(joined)),
        joined.video * len(joined.classes) + joined.label,
        np.repeat(np.arange(len(runs)), [len(r) for r in runs]),
        iou=iou,
    )
    video, label = np.divmod(group, max(1, len(joined.classes)))
    kept = np.flatnonzero(2 * np.round(voices) > len(runs))
    kept = kept[np.lexsort((end[kept], start[kept], video[kept]))]
    columns = (video[kept], start[kept], end[kept], label[kept], np.round(voices[kept]) / len(runs))
    return Detections(joined.names, joined.classes, *columns)


def _strongest(found: Detections, most: int) -> IntArray:
    """Rows of the `most` highest scores of every video and class."""
    group = found.video * len(found.classes) + found.label
    order = np.lexsort((-found.score, group))
    sorted_group = group[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]]))
    place = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return np.sort(order[place < most]) if len(order) else order


def fuse_segments(
    start: ArrayLike, end: ArrayLike, score: ArrayLike, group: ArrayLike, run: ArrayLike, *, iou: float
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Weighted fusion of N segments within groups.

    By falling score, each segment joins that fused segment of its group that it overlaps most, if by more
    than `iou`, among those without a segment of its run; else it begins one. A fused segment has the sum of
    its members' scores, and their means of start and end, weighted by score. A run has one voice in each, so
    that what it suppressed only in part does not count twice. All groups advance together, one segment of
    each at a time.

    Args:
        start, end, score: (N,); scores not below 0.
        group: (N,) integers.
        run: (N,) which run a segment is of, from 0.
        iou: overlap above which segments are joined.

    Returns:
        start, end, score and group of the fused segments, group by group, (M,) each.
    """
    s, e, c = (np.asarray(x, np.float64).reshape(-1) for x in (start, end, score))
    # a rule for ties that does not ask which run comes first, so that the order of runs has no part in it
    g, r = (np.asarray(x, np.int64).reshape(-1) for x in (group, run))
    order = np.lexsort((e, s, -c, g))
    s, e, c, g, r = s[order], e[order], c[order], g[order], r[order]
    if not len(g):
        return s, e, c, g
    first = np.flatnonzero(np.concatenate([[True], g[1:] != g[:-1]]))
    size = np.diff(np.append(first, len(g)))
    # longest groups first: those that still have a segment are then the first rows
    by_size = np.argsort(-size, kind="stable")
    first, size = first[by_size], size[by_size]
    shape = (len(first), int(size[0]))
    # of every fused segment: weighted sums of start and end, sum of weights, sum of scores
    left, right, weight, total = (np.zeros(shape) for _ in range(4))
    count = np.zeros(len(first), np.int64)
    has = np.zeros((*shape, int(r.max()) + 1), bool)  # a member of that run
    for k in range(int(size[0])):
        live = int(np.searchsorted(-size, -k, side="left"))
        row, at = np.arange(live), first[:live] + k
        so_far = int(count[:live].max(initial=0))
        w = np.maximum(weight[:live, :so_far], 1e-300)
        a, b = left[:live, :so_far] / w, right[:live, :so_far] / w
        inter = np.minimum(b, e[at, None]) - np.maximum(a, s[at, None])
        union = (b - a) + (e[at] - s[at])[:, None] - inter
        overlap = np.where((inter > 0) & (union > 0), inter / np.where(union > 0, union, 1.0), 0.0)
        overlap[(np.arange(so_far) >= count[:live, None]) | has[row, :so_far, r[at]]] = 0.0
        place = overlap.argmax(axis=1) if so_far else np.zeros(live, np.int64)
        joins = overlap[row, place] > iou if so_far else np.zeros(live, bool)
        place = np.where(joins, place, count[:live])
        count[:live] += ~joins
        share = c[at] + 1e-12  # segments of score 0 have a place, too
        left[row, place] += share * s[at]
        right[row, place] += share * e[at]
        weight[row, place] += share
        total[row, place] += c[at]
        has[row, place, r[at]] = True
    rows, places = np.nonzero(np.arange(shape[1]) < count[:, None])
    w = weight[rows, places]
    found = (left[rows, places] / w, right[rows, places] / w, total[rows, places], g[first][rows])
    back = np.argsort(found[3], kind="stable")
    return found[0][back], found[1][back], found[2][back], found[3][back]


def fuse_scores(runs: Sequence[Sequence[SnippetScores]]) -> list[SnippetScores]:
    """Mean snippet scores of several runs of one method, video by video.

    Where the runs' time axes of a video differ, as those of ASM-Loc's refinement do, scores are interpolated
    linearly between the middles of snippets on a uniform axis of as many snippets as the finest of them.

    Args:
        runs: scores of the same videos, in any order.

    Raises:
        ValueError: no run, or runs of different videos or numbers of classes.
    """
    by_name = [{s.video: s for s in run} for run in runs]
    if not runs or any(r.keys() != by_name[0].keys() for r in by_name):
        raise ValueError("fusion needs one or more runs with scores of the same videos")
    return [_mean_scores([r[s.video] for r in by_name]) for s in runs[0]]


def _mean_scores(each: Sequence[SnippetScores]) -> SnippetScores:
    axis = _common_axis([s.axis for s in each])
    moved = [_on_axis(s, axis) for s in each]
    cas, foreground = (np.mean([m[i] for m in moved], axis=0).astype(np.float32) for i in (0, 1))
    video = np.mean([s.video_scores for s in each], axis=0).astype(np.float32)
    return SnippetScores(each[0].video, cas, foreground, video, axis)


def _common_axis(axes: Sequence[TimeAxis]) -> TimeAxis:
    first = axes[0]
    if all(
        a.length == first.length
        and np.array_equal(a.positions, first.positions)
        and np.array_equal(a.seconds, first.seconds)
        for a in axes
    ):
        return first
    start, end, length = min(a.start for a in axes), max(a.end for a in axes), max(a.length for a in axes)
    return TimeAxis(length, np.array([0.0, length]), np.array([start, end]))


def _on_axis(scores: SnippetScores, axis: TimeAxis) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if axis is scores.axis:
        return scores.cas, scores.foreground
    at, here = axis.centers(), scores.axis.centers()
    cas = np.stack([np.interp(at, here, column) for column in scores.cas.T], axis=1)
    return cas.astype(np.float32), np.interp(at, here, scores.foreground).astype(np.float32)
