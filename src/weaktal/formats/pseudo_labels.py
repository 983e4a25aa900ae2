"""Pseudo labels: confident detections as the training annotations of fully supervised detectors.

ActionFormer and OpenTAD read ActivityNet's layout, each with keys of its own: ``label_id`` and ``fps`` the
one, ``frame`` (a number of frames) and a list of classes in ``category_idx.txt`` beside it the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, Detections, InputError, NameIndex, Video, write_text
from weaktal.core.reading import PathLike

LAYOUTS = ("actionformer", "opentad")
CLASS_LIST = "category_idx.txt"


def confident(
    detections: Detections,
    annotations: Annotations | None = None,
    *,
    threshold: float | None = None,
    top: int | None = None,
) -> Detections:
    """The detections to learn from.

    Args:
        detections: of a run.
        annotations: of a video with video-level labels, only detections of these classes stay.
        threshold: the least score.
        top: at most so many of each class in each video, the surest ones (of equal scores the first listed).

    Raises:
        InputError: neither of the two is given.
    """
    if threshold is None and top is None:
        raise InputError(
            "pseudo labels are confident detections, and it is not said which",
            hint="a threshold, or the top K",
        )
    keep = np.ones(len(detections), bool)
    if threshold is not None:
        keep &= detections.score >= threshold
    if annotations is not None:
        known = NameIndex(annotations.videos)
        for i, name in enumerate(detections.names):
            found = known.find(name)
            labels = () if found is None else annotations.videos[found].labels
            if labels:
                here = [detections.classes.index(c) for c in (annotations.classes[k] for k in labels)
                        if c in detections.classes]  # fmt: skip
                keep &= (detections.video != i) | np.isin(detections.label, here)
    if top is not None:
        group = detections.video * len(detections.classes) + detections.label
        rows = np.lexsort((-detections.score, group))
        rows = rows[keep[rows]]
        _, first, count = np.unique(group[rows], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, count)
        chosen = np.zeros(len(keep), bool)
        chosen[rows[rank < top]] = True
        keep &= chosen
    return detections[np.flatnonzero(keep)]


def write(
    detections: Detections, path: PathLike, layout: str, annotations: Annotations | None = None
) -> None:
    """Write detections as annotations; which ones is the matter of `confident`.

    Args:
        detections: each becomes a segment.
        path: the JSON file.
        layout: one of `LAYOUTS`.
        annotations: durations, frame rates and subsets ("training" without) of the videos.

    Raises:
        InputError: no such layout; OpenTAD needs the duration and frame rate of every video.
    """
    if layout not in LAYOUTS:
        raise InputError("no such layout", found=repr(layout), expected=" or ".join(LAYOUTS))
    known = NameIndex(() if annotations is None else annotations.videos)
    order = np.lexsort((detections.end, detections.start, detections.video))
    database: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(detections.names):
        found = known.find(name)
        video = Video(name) if annotations is None or found is None else annotations.videos[found]
        entry: dict[str, Any] = {"subset": video.subset or "training"}
        if layout == "opentad":
            if video.duration is None or video.fps is None:
                raise InputError(
                    "OpenTAD needs the duration and frame rate of every video",
                    file=path, field=name, hint="name annotations that say them (--annotations)",
                )  # fmt: skip
            entry |= {"duration": video.duration, "frame": round(video.duration * video.fps)}
        else:
            entry |= {k: v for k in ("duration", "fps") if (v := getattr(video, k)) is not None}
        rows = order[detections.video[order] == i]
        entry["annotations"] = [_row(detections, r, layout, video.fps) for r in rows.tolist()]
        database[name] = entry
    write_text(path, json.dumps({"version": f"weaktal {layout}", "database": database}, indent=1) + "\n")
    if layout == "opentad":
        write_text(Path(path).with_name(CLASS_LIST), "".join(f"{c}\n" for c in detections.classes))


def _row(detections: Detections, row: int, layout: str, fps: float | None) -> dict[str, Any]:
    label = int(detections.label[row])
    segment = [float(detections.start[row]), float(detections.end[row])]
    out: dict[str, Any] = {"label": detections.classes[label], "segment": segment}
    if layout == "actionformer":
        out["label_id"] = label
        if fps is not None:
            out["segment(frames)"] = [t * fps for t in segment]
    return out | {"score": float(detections.score[row])}
