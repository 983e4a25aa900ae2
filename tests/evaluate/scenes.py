"""Small annotations and detections, drawn or made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from weaktal.core import Annotations, Detections, Instances, Video
from weaktal.evaluate.matching import Segments

Row = tuple[int, float, float, int]


def annotate(rows: Sequence[Row], n_videos: int = 3, classes: Sequence[str] = ("a", "b")) -> Annotations:
    """Instances (video, start, end, label) in seconds; videos are v0, v1, ..., all in subset "test"."""
    videos = []
    for v in range(n_videos):
        mine = [r for r in rows if r[0] == v]
        it = Instances([r[1] for r in mine], [r[2] for r in mine], [r[3] for r in mine])
        videos.append(Video(f"v{v}", subset="test", instances=it))
    return Annotations.of(classes, videos)


def detect(
    rows: Sequence[Row], score: Sequence[float], n_videos: int = 3, classes: Sequence[str] = ("a", "b")
) -> Detections:
    """Detections (video, start, end, label) in seconds."""
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return Detections(tuple(f"v{v}" for v in range(n_videos)), tuple(classes), *columns, score)


def segments(rows: Sequence[Row]) -> Segments:
    """The same as columns."""
    video, start, end, label = np.array(rows, np.float64).reshape(-1, 4).T
    return Segments(video.astype(np.int64), start, end, label.astype(np.int64))


@st.composite
def scenes(draw: st.DrawFn, distinct: bool = False) -> tuple[list[Row], list[Row], list[float]]:
    """Instances, detections and scores on a coarse grid: equal overlaps and exact thresholds are common."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def rows(n: int) -> list[Row]:
        video, label = rng.integers(0, 3, n), rng.integers(0, 2, n)
        start = rng.integers(0, 12, n)
        end = start + rng.integers(0, 7, n)
        return list(
            zip(video.tolist(), (start / 2).tolist(), (end / 2).tolist(), label.tolist(), strict=True)
        )

    truth, found = rows(draw(st.integers(1, 12))), rows(draw(st.integers(0, 20)))
    score = rng.permutation(len(found)) if distinct else rng.integers(0, 5, len(found))
    return truth, found, (score / 4).tolist()
