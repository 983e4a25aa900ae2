"""Detections as a plain CSV table: ``video,start,end,label,score``, seconds, one row per detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weaktal.core import Detections, InputError
from weaktal.formats.csv_annotations import COLUMNS as ANNOTATION_COLUMNS
from weaktal.formats.reading import PathLike, check_name, class_place, number
from weaktal.formats.tables import read_rows, write_rows

COLUMNS = {key: ANNOTATION_COLUMNS[key] for key in ("video", "start", "end", "label")} | {
    "score": ["score", "confidence"]
}


def read(path: PathLike, classes: Sequence[str] | None = None) -> Detections:
    """Detections in file order; `classes` as in `weaktal.formats.load_detections`."""
    video, span, label, score, lines = [], [], [], [], []
    for line, row in read_rows(path, COLUMNS, list(COLUMNS), ("start", "end", "score")):
        video.append(check_name(row["video"], "video", file=path, field=f"line {line}"))
        label.append(check_name(row["label"], "class", file=path, field=f"line {line}"))
        start, end, value = (
            number(row[c], file=path, field=f"line {line}, {c}") for c in ("start", "end", "score")
        )
        if end < start:
            raise InputError(
                "a segment ends before it starts", file=path, field=f"line {line}", found=f"{start},{end}"
            )
        span.append((start, end))
        score.append(value)
        lines.append(line)
    listed = tuple(sorted(set(label))) if classes is None else tuple(classes)
    place = {name: i for i, name in enumerate(listed)}
    names = {name: i for i, name in enumerate(dict.fromkeys(video))}
    spans = np.array(span, np.float64).reshape(-1, 2)
    return Detections(
        tuple(names),
        listed,
        np.array([names[v] for v in video], np.int64),
        spans[:, 0],
        spans[:, 1],
        np.array(
            [class_place(c, place, file=path, field=f"line {n}") for c, n in zip(label, lines, strict=True)],
            np.int64,
        ),
        np.array(score, np.float64),
    )


def write(detections: Detections, path: PathLike) -> None:
    """Write the rows in their order. Videos and classes without a detection are not part of the table."""
    rows = zip(
        detections.video.tolist(),
        detections.start.tolist(),
        detections.end.tolist(),
        detections.label.tolist(),
        detections.score.tolist(),
        strict=True,
    )
    names, classes = detections.names, detections.classes
    write_rows(path, list(COLUMNS), ([names[v], s, e, classes[c], p] for v, s, e, c, p in rows))
