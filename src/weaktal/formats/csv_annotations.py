"""Annotations as a plain CSV table: ``video,subset,duration,fps,start,end,label``, seconds.

A row with a start and an end is an instance; a row with only a label is a video-level label, and the label
``none`` says that nothing occurs in the video; a row without a label names a video of which nothing is known.
A column ``complete`` says ``no`` where other classes may occur, too. Only the columns ``video`` and ``label``
are required.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, Instances, Video, shown
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
    "complete": ["complete"],
}
NONE = "none"  # the label of a video in which nothing occurs, in any case of letters
YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
NUMBERS = ("start", "end", "duration", "fps")


def read(path: PathLike) -> Annotations:
    """Annotations; videos in order of first appearance, classes sorted by name.

    Raises:
        InputError: anything that is not as the format says, with the line, such as ``none`` beside a class.
    """
    videos: dict[str, dict[str, Any]] = {}
    for line, row in read_rows(path, COLUMNS, ["video", "label"], NUMBERS):
        field = f"line {line}"
        check_name(row["video"], "video", file=path, field=field)
        entry = videos.setdefault(row["video"], {"rows": [], "labels": set()})
        for key in ("subset", "duration", "fps", "complete"):
            text = row.get(key)
            if not text:
                continue
            value: str | float = text
            if key == "complete":
                value = _yes_or_no(text, path, f"{field}, {key}")
            elif key != "subset":
                value = number(text, file=path, field=f"{field}, {key}")
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
        if row["label"].lower() == NONE:
            if start:
                raise InputError(
                    f"the label {NONE!r} says that nothing occurs, so it has no start and end",
                    file=path,
                    field=field,
                    found=f"{start},{end}",
                    hint="give a class of that name another one",
                )
            entry["none"] = field
        elif row["label"]:
            entry["labels"].add(row["label"])
        if "none" in entry and (entry["labels"] or entry.get("complete") is False):
            raise InputError(
                f"the label {NONE!r} says that nothing occurs in {row['video']!r}",
                file=path,
                field=field,
                found=f"{NONE!r} in {entry['none']}, and "
                + (f"the class {min(entry['labels'])!r}" if entry["labels"] else "complete: no"),
            )
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
                complete="none" in e or (bool(e["labels"]) and e.get("complete", True)),
            )
            for name, e in videos.items()
        ),
    )


def write(annotations: Annotations, path: PathLike) -> None:
    """Write the table. Points, ignored intervals and classes that no video has are not part of it.

    Raises:
        InputError: a class is called ``none``, or a name that a table cannot hold.
    """
    if taken := [name for name in annotations.classes if name.lower() == NONE]:
        raise InputError(
            f"a CSV table says {NONE!r} where nothing occurs, so no class can have this name",
            file=path,
            found=shown(taken[0]),
            hint="JSON holds every name; write that, or rename",
        )
    some = any(v.labels and not v.complete for v in annotations)  # only then there is the column
    rows = list[list[str | float]]()
    for v in annotations:
        head = [v.name, v.subset or "", *("" if x is None else x for x in (v.duration, v.fps))]
        tail = (["yes" if v.complete else "no"] if v.labels else [""]) if some else []
        it = v.instances
        mine: list[list[str | float]] = [
            [s, e, annotations.classes[c]]
            for s, e, c in zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
        ]
        mine += [["", "", annotations.classes[c]] for c in v.labels if c not in set(it.label.tolist())]
        mine = mine or [["", "", NONE if v.empty else ""]]
        rows += [[*head, *row, *tail] for row in mine]
    columns = ["video", "subset", "duration", "fps", "start", "end", "label"]
    write_rows(path, [*columns, *(["complete"] if some else [])], rows)


def _yes_or_no(text: str, path: PathLike, field: str) -> bool:
    if text.lower() not in YES_NO:
        raise InputError("expected yes or no", file=path, field=field, found=shown(text))
    return YES_NO[text.lower()]
