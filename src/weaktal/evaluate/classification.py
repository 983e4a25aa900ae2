"""Video-level classification: average precision in the field's two ways, and accuracy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def classification_ap(
    score: ArrayLike,
    label: ArrayLike,
    *,
    ties: Literal["ranked", "joint"] = "ranked",
    precision_type: type[np.floating[Any]] = np.float64,
) -> FloatArray:
    """Average precision of every class over videos.

    Args:
        score: (V, C).
        label: (V, C), nonzero where the class occurs.
        ties: "ranked": AP is the mean precision at the ranks of the positives, equal scores ranked in the
            order of the videos (W-TALC and its descendants). "joint": videos of equal score enter together,
            which depends on no order (scikit-learn's definition; ASM-Loc, ACM-Net).
        precision_type: precisions are computed and summed in this type; W-TALC's published code does so in
            np.float32.

    Returns:
        (C,) in [0, 1]; NaN for a class that occurs in no video.
    """
    s, y = _same_shape(score, label)
    if ties not in ("ranked", "joint"):
        raise ValueError(f"ties are 'ranked' or 'joint', not {ties!r}")
    s, y = np.ascontiguousarray(s.T), y.T  # (C, V), so that a class is summed in one piece
    order = np.argsort(-s, axis=1, kind="stable")
    hit = np.take_along_axis(y, order, axis=1)
    rank = np.arange(1, s.shape[1] + 1)
    precision = np.cumsum(hit, axis=1).astype(precision_type) / rank.astype(precision_type)
    if ties == "joint":
        # the precision at the last video of the same score
        ranked = np.take_along_axis(s, order, axis=1)
        last = np.ones_like(hit)
        last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
        at = np.where(last, rank - 1, s.shape[1])
        at = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1]
        precision = np.take_along_axis(precision, at, axis=1)
    positives = hit.sum(axis=1)
    total = np.where(hit, precision, 0).sum(axis=1, dtype=precision_type)
    ap = np.full(len(s), np.nan)
    np.divide(total, positives, out=ap, where=positives > 0)
    return ap


def classification_map(
    score: ArrayLike,
    label: ArrayLike,
    *,
    ties: Literal["ranked", "joint"] = "ranked",
    precision_type: type[np.floating[Any]] = np.float64,
    nan_classes: bool = False,
) -> float:
    """Mean of `classification_ap` over classes, in [0, 1].

    Classes that occur in no video are left out; with `nan_classes`, one of them makes the mean NaN, as in the
    published code of W-TALC. NaN if no class occurs.
    """
    ap = classification_ap(score, label, ties=ties, precision_type=precision_type)
    if not nan_classes:
        ap = ap[~np.isnan(ap)]
    return float(ap.mean()) if len(ap) else float("nan")


def diving_rule(score: ArrayLike, diving: int, cliff_diving: int) -> FloatArray:
    """Scores (V, C) in which Diving is at least as sure as CliffDiving, which is a kind of it.

    ASM-Loc and ACM-Net do so before they evaluate THUMOS14 (classes 7 and 4).
    """
    s = np.array(score, dtype=np.float64)
    s[:, diving] = np.maximum(s[:, diving], s[:, cliff_diving])
    return s


def exact_accuracy(score: ArrayLike, label: ArrayLike, threshold: float) -> float:
    """Share of videos whose classes with score >= threshold are exactly the labelled ones; (V, C) each."""
    s, y = _same_shape(score, label)
    return float(np.mean(np.all((s >= threshold) == y, axis=1))) if len(s) else float("nan")


def top1_accuracy(score: ArrayLike, label: ArrayLike) -> float:
    """Share of videos whose surest class is one of the labelled ones; (V, C) each.

    Of equal scores the first class is taken; videos without a label are left out.
    """
    s, y = _same_shape(score, label)
    some = y.any(axis=1)
    if not some.any():
        return float("nan")
    hit = y[np.arange(len(s)), s.argmax(axis=1)]
    return float(np.mean(hit[some]))


def _same_shape(score: ArrayLike, label: ArrayLike) -> tuple[FloatArray, BoolArray]:
    s, y = np.asarray(score, dtype=np.float64), np.asarray(label) != 0
    if s.ndim != 2 or s.shape != y.shape:
        raise ValueError(f"scores and labels are (V, C) both, got {s.shape} and {y.shape}")
    if np.isnan(s).any():
        raise ValueError("a score is NaN")
    return s, y
