"""Alignment-based boundary adaptation (TSPNet, CVPR 2024): overlapping segments agree on their borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.localize.nms import overlapping_pairs

FloatArray = NDArray[np.float64]


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
    iou = np.zeros((len(s), len(s)))
    one, other, value = overlapping_pairs(s, e, plus_one=False)
    near = value > threshold
    one, other, value = one[near], other[near], value[near]
    iou[one, other] = iou[other, one] = value
    similar = iou > 0
    new_start, new_end = np.empty(q.shape), np.empty(q.shape)
    rows = (q, new_start, new_end) if q.ndim == 2 else (q[None], new_start[None], new_end[None])
    for score, out_start, out_end in zip(*rows, strict=True):
        visited, locked = [], np.zeros(len(s), np.bool_)
        # of equal scores the later row first, as in an ascending sort that is read backwards
        for i in np.argsort(score, kind="stable")[::-1].tolist():
            if not locked[i]:
                visited.append(i)
                locked |= similar[i]
        weight = iou[visited] * score
        total = weight.sum(1)
        sums = weight @ np.stack([s, e], 1)
        means = np.where(total > 0, sums.T / np.where(total > 0, total, 1.0), 0.0)
        out_start[:], out_end[:] = s, e
        out_start[visited], out_end[visited] = means
    return new_start, new_end
