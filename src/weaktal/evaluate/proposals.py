"""Average recall of class-agnostic proposals over their average number per video (AR@AN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, Detections, InputError
from weaktal.evaluate.matching import by_score, overlapping, temporal_iou

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# linspace as in the published tool, with 0.8999999999999999 in it: an overlap of exactly 9/10 counts
TIOU = tuple(np.linspace(0.5, 0.95, 10).tolist())


@dataclass(frozen=True, eq=False)
class RecallResult:
    """Recall at a hundred numbers of proposals.

    Attributes:
        tiou: H thresholds.
        recall: (H, 100) share of the instances that some proposal overlaps enough.
        average_recall: (100,) mean over thresholds.
        proposals_per_video: (100,) average number of proposals per video at each column.
        auc: area under average_recall over proposals_per_video, as a share of the largest possible, percent.
    """

    tiou: tuple[float, ...]
    recall: FloatArray
    average_recall: FloatArray
    proposals_per_video: FloatArray
    auc: float

    def at(self, proposals: float) -> float:
        """Average recall at an average number of proposals per video, interpolated; NaN beyond the last."""
        if proposals > self.proposals_per_video[-1] * (1 + 1e-9):
            return float("nan")
        x = np.concatenate([[0.0], self.proposals_per_video])
        return float(np.interp(proposals, x, np.concatenate([[0.0], self.average_recall])))


def average_recall(
    proposals: Detections,
    annotations: Annotations,
    *,
    tiou: Sequence[float] = TIOU,
    max_average: float | None = None,
) -> RecallResult:
    """AR@AN as the ActivityNet tool defines it: classes are ignored, and matching is not one-to-one.

    From every video the same share of its proposals is taken, best first, so that the average number per
    video is AN = max_average * j / 100 for j = 1..100. An instance is recalled if one of them overlaps it.

    Args:
        proposals: rows in videos without instances count towards the average number and do nothing else.
        annotations: ground truth; videos without instances do not count.
        tiou: thresholds.
        max_average: largest average number of proposals per video; default: that of `proposals`.

    Raises:
        InputError: no annotated instance.
    """
    table = annotations.instance_table()
    if not len(table):
        raise InputError("there is nothing to evaluate against: no annotated instance")
    videos, truth_video = np.unique(table.video, return_inverse=True)
    place = {table.names[v]: i for i, v in enumerate(videos)}
    index = np.array([place.get(name, -1) for name in proposals.names] or [-1], np.int64)
    video = index[proposals.video]
    rows = np.flatnonzero(video >= 0)
    rows = rows[by_score(video[rows], proposals.score[rows], "last")]
    return recall_curve(
        truth_video.reshape(-1),
        table.start,
        table.end,
        video[rows],
        proposals.start[rows],
        proposals.end[rows],
        thresholds=tiou,
        max_average=max_average,
        n_proposals=len(proposals),
    )


def recall_curve(
    truth_video: IntArray,
    truth_start: FloatArray,
    truth_end: FloatArray,
    video: IntArray,
    start: FloatArray,
    end: FloatArray,
    *,
    thresholds: Sequence[float],
    max_average: float | None,
    n_proposals: int,
) -> RecallResult:
    """`average_recall` of arrays: proposals sorted by video and falling score, videos numbered from 0.

    Args:
        truth_video, truth_start, truth_end: (G,); every video has an instance.
        video, start, end: (P,).
        thresholds, max_average: as in `average_recall`.
        n_proposals: number of all proposals, those of other videos included.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    n_videos = int(truth_video.max()) + 1
    wanted = n_proposals / n_videos if max_average is None else float(max_average)
    available = np.bincount(video, minlength=n_videos)
    ratio = wanted * n_videos / n_proposals if n_proposals else 0.0
    kept = np.minimum((available * ratio).astype(np.int64), available)
    rank = np.arange(len(video)) - np.repeat(np.cumsum(available) - available, available)
    rows = np.flatnonzero(rank < kept[video])
    total = len(rows)
    if not total:
        nothing = np.zeros(100)
        return RecallResult(tuple(levels.tolist()), np.zeros((len(levels), 100)), nothing, nothing, 0.0)

    # the first rank at which each instance is recalled decides everything
    instance, proposal = overlapping(truth_video, truth_start, truth_end, video[rows], start[rows], end[rows])
    column = rows[proposal]
    overlap = temporal_iou(truth_start[instance], truth_end[instance], start[column], end[column])
    first = np.full((len(levels), len(truth_video)), len(video))
    for row, level in zip(first, levels, strict=True):
        hit = overlap >= level
        np.minimum.at(row, instance[hit], rank[column[hit]])

    share = np.arange(1, 101) / 100.0 * (wanted * n_videos / total)
    columns = np.maximum(kept, np.where(available, 0, 1))[:, None]  # one of zeros where there is no proposal
    taken = np.minimum((columns * share).astype(np.int64), columns)
    recalled = first[:, :, None] < taken[truth_video]
    recall = recalled.sum(axis=1) / len(truth_video)
    mean = recall.mean(axis=0)
    per_video = share * (total / n_videos)
    area = float(np.sum((mean[1:] + mean[:-1]) / 2 * np.diff(per_video)))
    return RecallResult(tuple(levels.tolist()), recall, mean, per_video, 100 * area / float(per_video[-1]))
