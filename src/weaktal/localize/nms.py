"""Non-maximum suppression of segments: hard, soft in one pass (SAL), and iterative soft (Bodla et al. 2017).

All groups (a video, or a video and class) advance together: a round of the loop takes the best remaining
segment of *every* group at once, so the number of rounds is that of the largest group, not their sum.
The field computes overlap with a unit added to every length, in whatever unit times are in; see `plus_one`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Overlap = Literal["iou", "own", "actionformer"]
_FEW_GROUPS = 16
_MOST_PAIRWISE = 2048  # rows of a group whose pairs are held in memory


def nms(
    start: ArrayLike,
    end: ArrayLike,
    score: ArrayLike,
    threshold: float,
    *,
    plus_one: bool = True,
    overlap: Overlap = "iou",
    group: ArrayLike | None = None,
) -> IntArray:
    """Greedy suppression: keep the best, drop what overlaps it too much, go on with the rest.

    Args:
        start, end, score: (N,) segments and their confidence; of equal scores the later row is the better.
        threshold: drop at overlap >= threshold, "own" at overlap > threshold.
        plus_one: count one unit more in lengths and intersections, as if ends were inclusive integers. It is
            what the field's published code does, in snippets or in seconds; False gives plain overlap.
        overlap: "iou" is intersection over union; "own" is intersection over the length of the segment that
            may be dropped (ISSF), so that a long segment never falls to a short one inside it; "actionformer"
            is plain IoU in float32 with 1e-6 on every length (`plus_one` is not used).
        group: (N,) integers; segments of different groups do not meet. Default: one group.

    Returns:
        (K,) kept rows, group by group in ascending order, by falling score within a group.

    >>> nms([0, 1, 20], [10, 10, 30], [0.9, 0.8, 0.7], threshold=0.5).tolist()
    [0, 2]
    """
    _known("overlap", overlap, get_args(Overlap))
    kept, _, _ = _suppress(_Rows.of(start, end, score, group), threshold, plus_one, overlap)
    return kept


def soft_nms_once(
    start: ArrayLike,
    end: ArrayLike,
    score: ArrayLike,
    threshold: float,
    alpha: float,
    *,
    plus_one: bool = True,
    group: ArrayLike | None = None,
) -> tuple[IntArray, FloatArray]:
    """Hard suppression that loses nothing (SAL): a dropped segment follows with a lowered score.

    Its score is multiplied once by exp(-IoU^2 / alpha), IoU with the segment that suppressed it; it takes no
    further part.

    Args:
        start, end, score, threshold, plus_one, group: as in `nms` with ``overlap="iou"``.
        alpha: width of the decay, > 0.

    Returns:
        rows (N,) and their new scores (N,): per group the kept ones by falling score, then the suppressed
        ones in the order in which they were suppressed.
    """
    rows = _Rows.of(start, end, score, group)
    kept, suppressed, overlaps = _suppress(rows, threshold, plus_one, "iou")
    out = np.concatenate([kept, suppressed])
    scores = rows.score[out]
    scores[len(kept) :] *= np.exp(-(overlaps**2) / alpha)
    order = np.argsort(rows.group[out], kind="stable")
    return out[order], scores[order]


def soft_nms(
    start: ArrayLike,
    end: ArrayLike,
    score: ArrayLike,
    *,
    kind: Literal["gaussian", "linear", "hard"] = "gaussian",
    sigma: float = 0.3,
    threshold: float = 0.7,
    plus_one: bool = True,
    lift_negative: bool = True,
    group: ArrayLike | None = None,
) -> tuple[IntArray, FloatArray]:
    """Iterative soft suppression (soft-NMS, Bodla et al. 2017): every pick lowers the scores of the rest.

    Nothing is dropped. Of equal scores the first is picked, after the swaps of the in-place procedure.

    Args:
        start, end, score, plus_one, group: as in `nms`.
        kind: the factor of a remaining segment: "gaussian" exp(-IoU^2 / sigma); "linear" 1 - IoU where
            IoU > threshold; "hard" 0 where IoU > threshold.
        sigma: width of the Gaussian, > 0.
        threshold: used by "linear" and "hard" only.
        lift_negative: scores below zero are multiplied too, which raises them, as in published code; False
            leaves them, and those of zero, as they are, at the end of their group.

    Returns:
        rows (N,) and their scores (N,) at the moment they were picked, group by group in order of picking.
    """
    _known("kind", kind, ("gaussian", "linear", "hard"))
    rows = _Rows.of(start, end, score, group)
    if not lift_negative and not (decays := rows.score > 0).all():
        some, rest = np.flatnonzero(decays), np.flatnonzero(~decays)
        picked, lowered = soft_nms(
            *(x[some] for x in (rows.start, rows.end, rows.score)),
            kind=kind,
            sigma=sigma,
            threshold=threshold,
            plus_one=plus_one,
            group=rows.group[some],
        )
        rest = rest[np.argsort(-rows.score[rest], kind="stable")]
        out, scores = np.concatenate([some[picked], rest]), np.concatenate([lowered, rows.score[rest]])
        by_group = np.argsort(rows.group[out], kind="stable")
        return out[by_group], scores[by_group]
    order = np.argsort(rows.group, kind="stable")
    s, e, c, g = rows.start[order], rows.end[order], rows.score[order], rows.group[order]

    def factor(iou: FloatArray) -> FloatArray:
        if kind == "gaussian":
            return np.asarray(np.exp(-(iou**2) / sigma))
        return np.where(iou > threshold, 1 - iou if kind == "linear" else 0.0, 1.0)

    sizes = np.diff(np.flatnonzero(np.concatenate([[True], g[1:] != g[:-1], [True]]))) if len(g) else g
    largest = int(sizes.max(initial=0))
    if len(order) < _FEW_GROUPS * largest and largest <= _MOST_PAIRWISE and np.isfinite(c).all():
        picks = []
        for a, b in pairwise(np.cumsum([0, *sizes]).tolist()):
            factors = np.ones((b - a, b - a))
            one, other, iou = overlapping_pairs(s[a:b], e[a:b], plus_one=plus_one)
            factors[one, other] = factors[other, one] = factor(iou)
            picks.append(_pick_one_by_one(c[a:b], factors))
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = np.concatenate([p for p, _ in picks])
        return order[first + place], np.concatenate([q for _, q in picks])
    picked_rows: list[IntArray] = []
    picked_scores: list[FloatArray] = []
    picked_groups: list[IntArray] = []
    while len(order):
        front = np.flatnonzero(np.concatenate([[True], g[1:] != g[:-1]]))
        counts = np.diff(np.append(front, len(g)))
        at_top = np.flatnonzero(c == np.repeat(np.maximum.reduceat(c, front), counts))
        top = at_top[np.searchsorted(at_top, front)]  # the first maximum of each group
        picked_rows.append(order[top])
        picked_scores.append(c[top])
        picked_groups.append(g[top])
        top_s, top_e = np.repeat(s[top], counts), np.repeat(e[top], counts)
        for column in (order, s, e, c):
            column[top] = column[front]  # the front row moves to the place of the picked one
        rest = np.ones(len(order), bool)
        rest[front] = False
        order, s, e, c, g = order[rest], s[rest], e[rest], c[rest], g[rest]
        c = c * factor(_overlap(top_s[rest], top_e[rest], s, e, plus_one))
    if not picked_rows:
        return np.empty(0, np.int64), np.empty(0)
    by_group = np.argsort(np.concatenate(picked_groups), kind="stable")
    return np.concatenate(picked_rows)[by_group], np.concatenate(picked_scores)[by_group]


def overlapping_pairs(
    start: FloatArray, end: FloatArray, *, plus_one: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """The pairs of N segments that can overlap, each once, and every segment with itself.

    Args:
        start, end: (N,).
        plus_one: as in `nms`.

    Returns:
        two rows and their intersection over union, (P,) each; all other pairs have none.
    """
    order = np.argsort(start, kind="stable")
    s, e = start[order], end[order]
    here = np.arange(len(s))
    # sorted by start, a segment meets those that start before it ends
    count = np.maximum(np.searchsorted(s, e + (1.0 if plus_one else 0.0), side="right"), here + 1) - here
    one = np.repeat(here, count)
    other = one + np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
    return order[one], order[other], _overlap(s[one], e[one], s[other], e[other], plus_one)


def _pick_one_by_one(score: FloatArray, factor: FloatArray) -> tuple[IntArray, FloatArray]:
    """Soft suppression of one group from the factors of all its pairs, (M, M); these are overwritten.

    For few groups this is several times faster than rounds, which share their cost among many.
    """
    score = score.copy()
    size = len(score)
    decays = bool(factor.all())  # -inf, which marks a picked row, survives every factor but 0
    ties = np.empty(size, np.bool_)
    place, row_at = list(range(size)), list(range(size))  # where a row is after the swaps, and the inverse
    rows, scores = np.empty(size, np.int64), np.empty(size)
    for k in range(size):
        top = int(score.argmax())
        best = score[top]
        if np.count_nonzero(np.equal(score, best, out=ties)) > 1:
            top = min(np.flatnonzero(ties).tolist(), key=place.__getitem__)
        front, hole = row_at[k], place[top]
        place[front], row_at[hole] = hole, front
        rows[k], scores[k] = top, best
        score *= factor[top]
        score[top] = -np.inf
        if not decays:
            factor[:, top] = 1.0
    return rows, scores


class _Rows:
    """Checked columns."""

    def __init__(self, start: FloatArray, end: FloatArray, score: FloatArray, group: IntArray) -> None:
        self.start, self.end, self.score, self.group = start, end, score, group

    @classmethod
    def of(cls, start: ArrayLike, end: ArrayLike, score: ArrayLike, group: ArrayLike | None) -> _Rows:
        s, e, c = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (start, end, score))
        g = np.zeros(len(s), np.int64) if group is None else np.asarray(group, np.int64).reshape(-1)
        if not len(s) == len(e) == len(c) == len(g):
            raise ValueError(f"columns differ in length: {len(s)}, {len(e)}, {len(c)}, {len(g)}")
        if np.isnan(c).any():
            raise ValueError("a score is NaN")
        return cls(s, e, c, g)


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")


def _overlap(
    s0: FloatArray, e0: FloatArray, s: FloatArray, e: FloatArray, plus_one: bool, of: Overlap = "iou"
) -> FloatArray:
    """Overlap of segments [s, e] with [s0, e0], element by element; 0 where there is no length at all."""
    if of == "actionformer":
        s0, e0, s, e = (x.astype(np.float32) for x in (s0, e0, s, e))  # type: ignore[assignment]
        tiny = np.float32(1e-6)
        inter = np.maximum(np.float32(0), np.minimum(e0, e) - np.maximum(s0, s))
        return np.asarray(inter / ((e0 - s0 + tiny) + (e - s + tiny) - inter))
    one = 1.0 if plus_one else 0.0
    inter = np.maximum(0.0, np.minimum(e0, e) - np.maximum(s0, s) + one)
    length = e - s + one
    whole = length if of == "own" else (e0 - s0 + one) + length - inter
    return np.divide(inter, whole, out=np.zeros_like(inter), where=whole > 0)


def _suppress(
    rows: _Rows, threshold: float, plus_one: bool, of: Overlap
) -> tuple[IntArray, IntArray, FloatArray]:
    """Greedy suppression in rounds.

    Returns:
        kept rows (group by group); suppressed rows, round by round in the order of their scores; and their
        overlap with their suppressor.
    """
    # of equal scores the later row first, as in a stable ascending sort that is read backwards
    order = np.argsort(rows.score, kind="stable")[::-1]
    order = order[np.argsort(rows.group[order], kind="stable")]
    g, s, e = rows.group[order], rows.start[order], rows.end[order]
    none = np.empty(0, np.int64)
    kept, lost, overlaps = [none], [none], [np.empty(0)]
    while len(order):
        front = np.flatnonzero(np.concatenate([[True], g[1:] != g[:-1]]))
        top = np.repeat(front, np.diff(np.append(front, len(g))))
        overlap = _overlap(s[top], e[top], s, e, plus_one, of)
        limit = overlap.dtype.type(threshold)
        drop = overlap > limit if of == "own" else overlap >= limit
        drop[front] = False
        kept.append(order[front])
        lost.append(order[drop])
        overlaps.append(overlap[drop])
        stay = ~drop
        stay[front] = False
        order, g, s, e = order[stay], g[stay], s[stay], e[stay]
    all_kept = np.concatenate(kept)
    return (
        all_kept[np.argsort(rows.group[all_kept], kind="stable")],
        np.concatenate(lost),
        np.concatenate(overlaps),
    )
