"""Alignment-based boundary adaptation (TSPNet, CVPR 2024): overlapping segments agree on their borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def pairwise_iou(start: ArrayLike, end: ArrayLike) -> FloatArray:
    """Plain intersection over union of all pairs of N segments, (N, N); 0 where both have no length."""
    s, e = np.asarray(start, np.float64), np.asarray(end, np.float64)
    inter = np.minimum(e[:, None], e) - np.maximum(s[:, None], s)
    np.maximum(inter, 0, out=inter)
    length = e - s
    union = length[:, None] + length
    union -= inter
    # no overlap of anything with a segment without length: 0 / 0 counts as none
    return np.asarray(np.divide(inter, union, out=inter, where=union > 0))


def adapt_boundaries(
    start: ArrayLike, end: ArrayLike, scores: ArrayLike, threshold: float
) -> tuple[FloatArray, FloatArray]:
    """Move the borders of confident segments to a mean over the segments that overlap them.

    Segments are visited by falling score. A visited one takes the mean of the borders of all segments with
    IoU > `threshold` (itself included), weighted by score times IoU, and those are not visited any more; they
    keep their own borders. IoU and means are of the borders that were given, whatever has moved since.

    Args:
        start, end: (N,).
        scores: (N,) or (K, N), one row per class; not negative.
        threshold: at least 0.

    Returns:
        new start and end, of the shape of `scores`. A segment without length, and one whose overlapping
        segments all have score 0, becomes [0, 0]: nothing speaks for it.
    """
    s, e = np.asarray(start, np.float64), np.asarray(end, np.float64)
    q = np.asarray(scores, np.float64)
    iou = pairwise_iou(s, e)
    similar = iou > threshold
    iou[~similar] = 0
    new_start, new_end = np.empty(q.shape), np.empty(q.shape)
    rows = (q, new_start, new_end) if q.ndim == 2 else (q[None], new_start[None], new_end[None])
    for score, out_start, out_end in zip(*rows, strict=True):
        out_start[:], out_end[:] = s, e
        locked = np.zeros(len(s), np.bool_)
        # of equal scores the later row first, as in an ascending sort that is read backwards
        for i in np.argsort(score, kind="stable")[::-1].tolist():
            if locked[i]:
                continue
            weight = iou[i] * score
            total = weight.sum()
            out_start[i], out_end[i] = (weight @ s / total, weight @ e / total) if total > 0 else (0.0, 0.0)
            locked |= similar[i]
    return new_start, new_end
