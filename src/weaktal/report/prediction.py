"""One self-contained page of what was found in videos without annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np

from weaktal.core import Annotations, Detections, SnippetScores, Video
from weaktal.report.page import render_page
from weaktal.report.timeline import RunView, class_colors, view_video


def write_prediction_page(
    path: str | PathLike[str],
    *,
    title: str,
    facts: Mapping[str, str],
    detections: Detections,
    durations: Mapping[str, float],
    scores: Mapping[str, SnippetScores],
    thumbnails: Mapping[str, Sequence[str]],
) -> None:
    """Write the page.

    Args:
        path: the HTML file; written whole or not at all.
        title: its heading.
        facts: what to say about the run.
        detections: the segments to draw.
        durations: videos in order, with their seconds.
        scores: snippet scores by video, where the method has them.
        thumbnails: images along a video's time axis, as data URLs.
    """
    annotations = Annotations.of(detections.classes, [Video(n, duration=d) for n, d in durations.items()])
    none = np.full((1, len(detections.classes)), np.nan)
    run = RunView(
        "found",
        {},
        detections,
        np.ones(len(detections), bool),
        np.full(len(detections), -1),
        np.array([0.5]),
        none,
        scores=scores,
    )
    views = [view_video(annotations, n, [run], thumbnails.get(n, ())) for n in durations]
    render_page(
        path,
        "prediction.html.jinja",
        title=title,
        facts=facts,
        views=views,
        classes=detections.classes,
        colors=class_colors(len(detections.classes)),
    )
