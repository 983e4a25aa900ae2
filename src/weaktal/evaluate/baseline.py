"""Detections that know nothing: what a number has to be compared with."""

from __future__ import annotations

import numpy as np

from weaktal.core import Annotations, Detections


def chance_detections(
    annotations: Annotations,
    *,
    know_classes: bool = False,
    scales: tuple[float, ...] = (0.5, 1.0, 2.0),
    overlap: float = 0.5,
    seed: int = 0,
) -> Detections:
    """Uniformly placed proposals with random scores: the chance level of a data set.

    Windows of a few lengths (multiples of the median instance length) slide over each video.

    Args:
        annotations: videos with durations; instances are used for their median length only.
        know_classes: use only the classes that each video has, which chance does not know.
        scales: window lengths over the median instance length.
        overlap: share of a window that the next one overlaps, in [0, 1).
        seed: of the scores.

    >>> from weaktal.core import Instances, Video
    >>> video = Video("a", duration=4.0, instances=Instances([1.0], [2.0], [0]), labels=(0,))
    >>> found = chance_detections(Annotations.of(["Run", "Jump"], [video]), scales=(2.0,))
    >>> found.start.tolist(), found.label.tolist()
    ([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], [0, 1, 0, 1, 0, 1])
    """
    table = annotations.instance_table()
    median = float(np.median(table.end - table.start)) if len(table) else 1.0
    parts = []
    for index, video in enumerate(annotations):
        duration = video.duration or float(video.instances.end.max(initial=median))
        windows = np.concatenate(
            [
                np.stack(
                    [
                        start := np.arange(0, max(duration - width, 0) + 1e-9, width * (1 - overlap)),
                        start + width,
                    ]
                )
                for width in (min(median * s, duration) for s in scales)
            ],
            axis=1,
        )
        labels = np.array(video.labels if know_classes else range(len(annotations.classes)), np.int64)
        count = windows.shape[1]
        parts.append(
            (
                np.full(count * len(labels), index),
                np.repeat(windows, len(labels), axis=1),
                np.tile(labels, count),
            )
        )
    video_column = np.concatenate([p[0] for p in parts]) if parts else np.empty(0, np.int64)
    segments = np.concatenate([p[1] for p in parts], axis=1) if parts else np.empty((2, 0))
    label = np.concatenate([p[2] for p in parts]) if parts else np.empty(0, np.int64)
    score = np.random.default_rng(seed).random(len(label))
    return Detections(
        tuple(annotations.videos), annotations.classes, video_column, segments[0], segments[1], label, score
    )
