"""Proposals: runs of class and foreground curves above many thresholds, scored by contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Detections, SnippetScores
from weaktal.localize.classes import likely_classes
from weaktal.localize.curves import Grid, Runs, above, find_runs, outer_inner_contrast, upsample
from weaktal.localize.nms import nms, soft_nms

FloatArray = NDArray[np.float64]


class RunSettings(Protocol):
    """The fields of a method's configuration that say which runs become proposals."""

    @property
    def class_threshold(self) -> float:
        """Classes with a lower video score are left out (the best one never is)."""
        ...

    @property
    def action_thresholds(self) -> Grid:
        """On class scores."""
        ...

    @property
    def foreground_thresholds(self) -> Grid:
        """On the foreground."""
        ...

    @property
    def upsampling(self) -> int:
        """Values per snippet."""
        ...

    @property
    def margin(self) -> float:
        """Outside of a run on each side, as a share of its length."""
        ...

    @property
    def video_score_weight(self) -> float:
        """Share of the video score in a run's score."""
        ...

    @property
    def drop_lone_first(self) -> bool:
        """See `find_runs`."""
        ...

    @property
    def clamp_scores(self) -> bool:
        """Keep up-sampled curves in [0, 1]."""
        ...


def scored_runs(
    curves: FloatArray,
    foreground: FloatArray,
    *,
    on_curves: NDArray[np.floating],
    on_foreground: NDArray[np.floating],
    margin: float,
    foreground_share: float = 0.0,
    **how: Any,
) -> tuple[Runs, FloatArray]:
    """Runs of class curves, and of a foreground for every class, with their outer-inner contrast.

    The contrast is that of the class curve. Where the threshold is one on class curves, the curve counts as 0
    below it.

    Args:
        curves: (K, N), one for each class.
        foreground: (N,).
        on_curves, on_foreground: thresholds.
        margin: see `outer_inner_contrast`.
        foreground_share: of the foreground in the curves that give the contrast; it too is 0 below its
            thresholds.
        how: of `find_runs`.

    Returns:
        Runs by curve, threshold (those on class curves come first) and start; and their contrast, (M,).
    """
    own = find_runs(curves, on_curves, **how)
    shared = find_runs(foreground, on_foreground, **how).for_each(len(curves))
    on_own, on_shared = above(curves, on_curves), curves
    if foreground_share:
        on_own = (1 - foreground_share) * on_own + foreground_share * foreground
        cut = above(foreground[None], on_foreground)
        on_shared = (1 - foreground_share) * curves[:, None] + foreground_share * cut
    contrasts = outer_inner_contrast(on_own, own, margin), outer_inner_contrast(on_shared, shared, margin)
    shared = Runs(shared.curve, shared.threshold + len(on_curves), shared.start, shared.end)
    runs, contrast = Runs.concatenate([own, shared]), np.concatenate(contrasts)
    order = np.lexsort((runs.start, runs.threshold, runs.curve))
    return runs[order], contrast[order]


def run_proposals(scores: SnippetScores, classes: Sequence[str], settings: RunSettings) -> Detections:
    """Scored runs of one video, nothing suppressed.

    Runs of a class are stretches where its score, or the foreground, reaches a threshold; a run's score is
    the outer-inner contrast of the class score (where the threshold is one on class scores: set to 0 below
    it) plus a share of the video score.

    Args:
        scores: of the video.
        classes: C names.
        settings: see `RunSettings`.

    Returns:
        By class in the order of the first threshold at which one is found, then threshold, then start.
    """
    chosen = likely_classes(scores.video_scores, settings.class_threshold)
    curves = upsample(scores.cas[:, chosen].T, settings.upsampling)
    foreground = upsample(scores.foreground, settings.upsampling)
    if settings.clamp_scores:
        curves, foreground = curves.clip(0, 1), foreground.clip(0, 1)
    # a position at a threshold passes, one at 0 never does
    least = np.nextafter(0, 1)
    runs, contrast = scored_runs(
        curves,
        foreground,
        on_curves=np.maximum(np.arange(*settings.action_thresholds), least),
        on_foreground=np.maximum(np.arange(*settings.foreground_thresholds), least),
        margin=settings.margin,
        drop_lone_first=settings.drop_lone_first,
    )
    first = np.full(len(chosen), np.iinfo(np.int64).max)
    np.minimum.at(first, runs.curve, runs.threshold)
    order = np.lexsort((runs.curve, first[runs.curve]))
    runs, contrast = runs[order], contrast[order]
    axis = scores.axis.resampled(scores.axis.length * settings.upsampling)
    label = chosen[runs.curve]
    score = contrast + settings.video_score_weight * scores.video_scores[label]
    start, end = axis.seconds_at(runs.start), axis.seconds_at(runs.end)
    return Detections.in_video(scores.video, classes, start, end, label, score)


def class_groups(found: Detections) -> np.ndarray:
    """(M,) the group of a video and class of each row, numbered in the order of first appearance."""
    group = found.video * len(found.classes) + found.label
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]


def nms_by_class(found: Detections, threshold: float, *, plus_one: bool) -> Detections:
    """What `nms` keeps of each class of each video: by `class_groups`, within them by falling score."""
    group = class_groups(found)
    return found[nms(found.start, found.end, found.score, threshold, plus_one=plus_one, group=group)]


def soft_nms_by_class(found: Detections, sigma: float, *, plus_one: bool) -> Detections:
    """Gaussian soft suppression within each video and class, in seconds."""
    rows, score = soft_nms(
        found.start, found.end, found.score, sigma=sigma, plus_one=plus_one, group=class_groups(found)
    )
    return replace(found[rows], score=score)
