"""Proposals of point-supervised methods: runs of class and foreground curves above many thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from weaktal.core import Detections, SnippetScores
from weaktal.localize.curves import Grid, Runs, above, find_runs, outer_inner_contrast, upsample


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
    chosen = np.nonzero(scores.video_scores >= settings.class_threshold)[0]
    if not len(chosen):
        chosen = np.array([int(np.argmax(scores.video_scores))])
    curves = upsample(scores.cas[:, chosen].T, settings.upsampling)
    foreground = upsample(scores.foreground, settings.upsampling)[None]
    if settings.clamp_scores:
        curves, foreground = curves.clip(0, 1), foreground.clip(0, 1)
    # a position at a threshold passes, one at 0 never does
    least = np.nextafter(0, 1)
    on_class = np.maximum(np.arange(*settings.action_thresholds), least)
    on_foreground = np.maximum(np.arange(*settings.foreground_thresholds), least)
    own = find_runs(curves, on_class, drop_lone_first=settings.drop_lone_first)
    shared = find_runs(foreground, on_foreground, drop_lone_first=settings.drop_lone_first)
    shared = shared.for_each(len(chosen))
    contrast = np.concatenate(
        [
            outer_inner_contrast(above(curves, on_class), own, settings.margin),
            outer_inner_contrast(curves, shared, settings.margin),
        ]
    )
    runs = Runs.concatenate([own, shared])
    # thresholds of both kinds in one order, those on class scores first
    threshold = runs.threshold + len(on_class) * (np.arange(len(runs)) >= len(own))
    first = np.full(len(chosen), len(on_class) + len(on_foreground))
    np.minimum.at(first, runs.curve, threshold)
    order = np.lexsort((runs.start, threshold, runs.curve, first[runs.curve]))
    axis = scores.axis.resampled(scores.axis.length * settings.upsampling)
    label = chosen[runs.curve[order]]
    return Detections(
        (scores.video,),
        tuple(classes),
        np.zeros(len(order), np.int64),
        axis.seconds_at(runs.start[order]),
        axis.seconds_at(runs.end[order]),
        label,
        contrast[order] + settings.video_score_weight * scores.video_scores[label],
    )


def class_groups(found: Detections) -> np.ndarray:
    """(M,) the group of a video and class of each row, numbered in the order of first appearance."""
    group = found.video * len(found.classes) + found.label
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]
