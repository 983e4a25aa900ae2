"""Annotations as ActivityNet JSON: ``{"database": {NAME: {"subset", "duration", "annotations": [...]}}}``.

The format of ActivityNet 1.2 and 1.3, and of the ``gt.json`` files that the field derives from it for
THUMOS14, GTEA and BEOID. Segments are seconds, as numbers or as strings.

What the format has no place for is written under keys of our own, so that a file that we write holds
everything: ``classes`` beside ``database`` (the order of classes; without it they are sorted by name), and in
a video ``labels`` (where the video-level label is not the set of annotated classes; an empty list says that
nothing occurs), ``complete`` (false: other classes may occur, too), ``points`` and ``ignored``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, Instances, Points, Video, write_text
from weaktal.core.reading import no_collection
from weaktal.formats.reading import PathLike, check_name, class_place, kind, number, read_mapping


def looks_like(document: object) -> bool:
    """Whether a JSON document holds annotations."""
    return isinstance(document, dict) and ("database" in document or _is_database(document))


def _is_database(document: dict[str, Any]) -> bool:
    """Some files are the database itself, without the object around it."""
    return bool(document) and all(isinstance(v, dict) and "annotations" in v for v in document.values())


def read(path: PathLike, *, derived: bool = True) -> Annotations:
    """Annotations of a file; videos in file order.

    Args:
        path: the file.
        derived: with the clicks that the app gives to segments for training, marked with ``of`` in its files.

    Raises:
        InputError: anything that is not as the format says, with the place.
    """
    with no_collection():
        return parse(read_mapping(path), path, derived=derived)


def parse(document: dict[str, Any], path: PathLike, *, derived: bool = True) -> Annotations:
    """Annotations of a JSON document; `path` is for messages, `derived` as in `read`."""
    database = document.get("database", document if _is_database(document) else None)
    if not isinstance(database, dict):
        raise InputError(
            "no ActivityNet annotations",
            file=path,
            found="the keys " + ", ".join(map(repr, list(document)[:5])) if document else "an empty object",
            expected="an object 'database' with one entry per video",
            hint="these are detections" if "results" in document else None,
        )
    for name, entry in database.items():
        check_name(name, "video", file=path)
        if not isinstance(entry, dict):
            raise InputError("expected an object", file=path, field=f"database.{name}", found=kind(entry))
        for key in ("annotations", "points", "labels", "ignored"):
            rows = entry.get(key)
            if rows is None:
                continue
            if key == "points" and not derived and isinstance(rows, list):
                entry["points"] = rows = [r for r in rows if not (isinstance(r, dict) and "of" in r)] or None
            if rows is None:
                continue
            if isinstance(rows, list) and (
                key in ("labels", "ignored") or all(isinstance(row, dict) for row in rows)
            ):
                continue
            raise InputError(
                "expected a list of objects",
                file=path,
                field=f"database.{name}.{key}",
                found=kind(rows),
            )
    listed = document.get("classes")
    if listed is None:
        names = [row.get("label") for v in database.values() for row in _labelled(v)]
        names += [label for v in database.values() for label in v.get("labels") or ()]
        listed = sorted({name for name in names if isinstance(name, str)})
    if not isinstance(listed, list) or not all(isinstance(c, str) for c in listed):
        raise InputError("class names must be strings", file=path, found=kind(listed))
    for label in listed:
        check_name(label, "class", file=path)
    classes = {name: i for i, name in enumerate(listed)}
    rows = [entry.get("annotations") or () for entry in database.values()]
    instances = _instances(rows, classes)
    if instances is None:  # something is wrong: row by row, to say what and where
        for name, many in zip(database, rows, strict=True):
            for i, row in enumerate(many):
                _pair(row.get("segment"), path, f"database.{name}.annotations[{i}].segment")
                _label(row, classes, path, f"database.{name}.annotations[{i}]")
        raise InputError("these annotations cannot be read", file=path)
    return Annotations.of(
        listed,
        (
            _video(name, entry, found, classes, path)
            for (name, entry), found in zip(database.items(), instances, strict=True)
        ),
    )


def _instances(
    rows: Sequence[Sequence[dict[str, Any]]], classes: Mapping[str, int]
) -> list[Instances] | None:
    """The instances of every video, from all rows at once; None where one is not as the format says."""
    flat = [row for many in rows for row in many]
    try:
        spans = [row["segment"] for row in flat]
        label = np.array([classes[row["label"]] for row in flat], np.int64)
        times = np.array(spans, np.float64).reshape(-1, 2)
        sound = (
            len(times) == len(flat)
            and {type(x) for span in spans for x in span} <= {int, float, str}
            and bool(np.isfinite(times).all() and (times[:, 0] <= times[:, 1]).all())
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not sound:
        return None
    edges = np.cumsum([0, *map(len, rows)]).tolist()
    return [Instances(times[a:b, 0], times[a:b, 1], label[a:b]) for a, b in pairwise(edges)]


def _pair(value: object, path: PathLike, field: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(
            "expected a segment", file=path, field=field, found=kind(value), expected="[start, end]"
        )
    start, end = (number(x, file=path, field=field) for x in value)
    if end < start:
        raise InputError("a segment ends before it starts", file=path, field=field, found=kind(value))
    return start, end


def _label(row: dict[str, Any], classes: dict[str, int], path: PathLike, field: str) -> int:
    if "label" not in row:
        raise InputError("no 'label'", file=path, field=field, found=kind(row))
    return class_place(row["label"], classes, file=path, field=field)


def _labelled(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(entry.get("annotations") or ()), *(entry.get("points") or ())]


def _video(
    name: str, entry: dict[str, Any], instances: Instances, classes: dict[str, int], path: PathLike
) -> Video:
    where = f"database.{name}"

    def optional(key: str) -> float | None:
        value = entry.get(key)
        return None if value is None else number(value, file=path, field=f"{where}.{key}")

    points = entry.get("points")
    tags = entry.get("labels")
    labels = (
        tuple(instances.label.tolist())
        if tags is None
        else tuple(class_place(c, classes, file=path, field=f"{where}.labels") for c in tags)
    )
    shown = bool(len(instances) or points)
    complete = entry.get("complete")
    if complete is None:
        complete = bool(labels) or (tags is not None and not shown)
    elif not isinstance(complete, bool):
        raise InputError("expected true or false", file=path, field=f"{where}.complete", found=kind(complete))
    elif complete and not labels and shown:
        raise InputError(
            "a video that has no label and is complete is one in which nothing occurs",
            file=path,
            field=where,
            found=f"{len(instances)} annotations, {len(points or ())} points",
        )
    subset = entry.get("subset")
    if subset is not None and not isinstance(subset, str | int):
        raise InputError("a subset is a name", file=path, field=f"{where}.subset", found=kind(subset))
    return Video(
        name=name,
        subset=None if subset in (None, "") else check_name(str(subset), "subset", file=path, field=where),
        duration=optional("duration"),
        fps=optional("fps"),
        instances=instances,
        points=None
        if points is None
        else Points(
            np.array(
                [number(p.get("time"), file=path, field=f"{where}.points[{i}]") for i, p in enumerate(points)]
            ),
            np.array([_label(p, classes, path, f"{where}.points[{i}]") for i, p in enumerate(points)]),
        ),
        labels=labels,
        complete=complete,
        ignored=np.array(
            [_pair(s, path, f"{where}.ignored[{i}]") for i, s in enumerate(entry.get("ignored") or [])]
        ),
    )


def write(annotations: Annotations, path: PathLike) -> None:
    """Write annotations, one video a line; reading them back gives an equal object."""
    names = annotations.classes
    lines = []
    for video in annotations:
        it = video.instances
        entry: dict[str, Any] = {}
        for key in ("subset", "duration", "fps"):
            if (value := getattr(video, key)) is not None:
                entry[key] = value
        entry["annotations"] = [
            {"segment": [start, end], "label": names[c]}
            for start, end, c in zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
        ]
        if video.empty or set(video.labels) != set(it.label.tolist()):
            entry["labels"] = [names[c] for c in video.labels]
        if bool(video.complete) != (bool(video.labels) or video.empty):
            entry["complete"] = False
        if video.points is not None:
            entry["points"] = [
                {"time": t, "label": names[c]}
                for t, c in zip(video.points.time.tolist(), video.points.label.tolist(), strict=True)
            ]
        if len(video.ignored):
            entry["ignored"] = video.ignored.tolist()
        lines.append(f"{json.dumps(video.name)}: {json.dumps(entry)}")
    head = (
        f'{{"version": "weaktal 1", "taxonomy": [], "classes": {json.dumps(list(names))},\n"database": {{\n'
    )
    write_text(path, head + ",\n".join(lines) + "\n}}\n")
