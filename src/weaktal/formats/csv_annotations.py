"""Annotations as a plain CSV table: ``video,subset,duration,fps,start,end,label``, seconds.

A row with a start and an end is an instance; a row with only a label is a video-level label; a row with
neither names a video of which nothing is known. Only ``video`` and ``label`` are required columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, Instances, Video
from weaktal.formats.reading import PathLike, check_name, number
from weaktal.formats.tables import read_rows, write_rows

COLUMNS = {
    "video": ["video", "video-id", "video_id", "name"],
    "label": ["label", "class"],
    "start": ["start", "t-start", "t_start"],
    "end": ["end", "t-end", "t_end"],
    "subset": ["subset", "split"],
    "duration": ["duration"],
    "fps": ["fps"],
}
NUMBERS = ("start", "end", "duration", "fps")


def read(path: PathLike) -> Annotations:
    """Annotations; videos in order of first appearance, classes sorted by name."""
    videos: dict[str, dict[str, Any]] = {}
    for line, row in read_rows(path, COLUMNS, ["video", "label"], NUMBERS):
        field = f"line {line}"
        check_name(row["video"], "video", file=path, field=field)
        entry = videos.setdefault(row["video"], {"rows": [], "labels": set()})
        for key in ("subset", "duration", "fps"):
            text = row.get(key)
            if not text:
                continue
            value = text if key == "subset" else number(text, file=path, field=f"{field}, {key}")
            if entry.setdefault(key, value) != value:
                raise InputError(
                    f"two values of {key!r} for one video",
                    file=path,
                    field=field,
                    found=text,
                    expected=str(entry[key]),
                )
        start, end = row.get("start", ""), row.get("end", "")
        if bool(start) != bool(end) or (start and not row["label"]):
            raise InputError("an instance needs start, end and label", file=path, field=field)
        if row["label"]:
            entry["labels"].add(row["label"])
        if start:
            span = [number(x, file=path, field=field) for x in (start, end)]
            if span[1] < span[0]:
                raise InputError(
                    "a segment ends before it starts", file=path, field=field, found=f"{start},{end}"
                )
            entry["rows"].append((*span, row["label"]))
    classes = sorted(set().union(*(e["labels"] for e in videos.values())))
    place = {name: i for i, name in enumerate(classes)}
    return Annotations.of(
        classes,
        (
            Video(
                name,
                subset=e.get("subset"),
                duration=e.get("duration"),
                fps=e.get("fps"),
                instances=Instances(
                    np.array([r[0] for r in e["rows"]]),
                    np.array([r[1] for r in e["rows"]]),
                    np.array([place[r[2]] for r in e["rows"]]),
                ),
                labels=tuple(place[c] for c in e["labels"]),
            )
            for name, e in videos.items()
        ),
    )


def write(annotations: Annotations, path: PathLike) -> None:
    """Write the table. Points, ignored intervals and classes that no video has are not part of it."""
    rows = list[list[str | float]]()
    for v in annotations:
        head = [v.name, v.subset or "", *("" if x is None else x for x in (v.duration, v.fps))]
        it = v.instances
        mine: list[list[str | float]] = [
            [s, e, annotations.classes[c]]
            for s, e, c in zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
        ]
        mine += [["", "", annotations.classes[c]] for c in v.labels if c not in set(it.label.tolist())]
        rows += [[*head, *row] for row in mine or [["", "", ""]]]
    write_rows(path, ["video", "subset", "duration", "fps", "start", "end", "label"], rows)
