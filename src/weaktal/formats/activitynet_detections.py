"""Detections as ActivityNet JSON: ``{"results": {NAME: [{"segment": [s, e], "label", "score"}, ...]}}``.

Ours have two keys more: ``classes``, the class list, and ``grid``, the snippets (``rate`` per second,
``offset`` in seconds) on which the times lay before they became seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from weaktal.core import Detections, Grid, InputError, write_text
from weaktal.core.reading import no_collection
from weaktal.formats.reading import PathLike, check_name, class_place, kind, number, read_mapping


def looks_like(document: object) -> bool:
    """Whether a JSON document holds detections."""
    return isinstance(document, dict) and "results" in document


def read(path: PathLike, classes: Sequence[str] | None = None) -> Detections:
    """Detections of a file, video by video in file order.

    Args:
        path: the file.
        classes: the class list to index; without it the file's own (``classes``), or the names that occur,
            sorted.

    Raises:
        InputError: anything that is not as the format says, with the place; a class that `classes` lacks.
    """
    with no_collection():
        return parse(read_mapping(path), path, classes)


def parse(document: dict[str, Any], path: PathLike, classes: Sequence[str] | None = None) -> Detections:
    """Detections of a JSON document; `path` is for messages."""
    results = document.get("results")
    if not isinstance(results, dict):
        raise InputError(
            "no ActivityNet detections",
            file=path,
            found="the keys " + ", ".join(map(repr, list(document)[:5])) if document else "an empty object",
            expected="an object 'results' with one list per video",
            hint="these are annotations" if "database" in document else None,
        )
    try:
        if not all(type(video) is list for video in results.values()):
            raise TypeError
        rows = [row for video in results.values() for row in video]
        span = np.array([row["segment"] for row in rows], np.float64)
        score = np.array([row["score"] for row in rows], np.float64)
        names = [row["label"] for row in rows]
        counts = [len(video) for video in results.values()]
        found = set(names)
        sound = (
            (span.shape == (len(rows), 2) or not rows)
            and score.ndim == 1
            and all(isinstance(name, str) for name in found)
            and bool(np.isfinite(span).all() and np.isfinite(score).all())
            and not (rows and (span[:, 1] < span[:, 0]).any())
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        _explain(results, path)
    listed = classes if classes is not None else _classes(document.get("classes"), found, path)
    for name in results:
        check_name(name, "video", file=path)
    place = {name: i for i, name in enumerate(listed)}
    if not found <= place.keys():
        name, i = next((v, i) for v, r in results.items() for i, x in enumerate(r) if x["label"] not in place)
        class_place(results[name][i]["label"], place, file=path, field=f"results.{name}[{i}]")
    span = span.reshape(-1, 2)
    video = np.repeat(np.arange(len(results)), counts)
    return Detections(
        tuple(results),
        tuple(listed),
        video,
        span[:, 0],
        span[:, 1],
        np.array([place[n] for n in names]),
        score,
        grid=_grid(document.get("grid"), path),
    )


def _grid(value: object, path: PathLike) -> Grid | None:
    if value is None:
        return None
    if not isinstance(value, dict) or "rate" not in value:
        raise InputError(
            "no grid", file=path, field="grid", found=kind(value), expected='{"rate": ..., "offset": ...}'
        )
    rate, offset = (number(value.get(key, 0.0), file=path, field=f"grid.{key}") for key in ("rate", "offset"))
    if not 1e-6 < rate < 1e6 or abs(offset) > 1e6:
        raise InputError("no grid", file=path, field="grid", found=kind([rate, offset]))
    return Grid(rate, offset)


def _classes(listed: object, found: set[str], path: PathLike) -> list[str]:
    """The class list of a document, or else the names that occur, sorted."""
    if listed is None:
        listed = sorted(found)
    if not isinstance(listed, list):
        raise InputError("expected a list of class names", file=path, field="classes", found=kind(listed))
    for name in listed:
        check_name(name, "class", file=path, field="classes")
    if len(set(listed)) != len(listed):
        raise InputError("class names must differ", file=path, field="classes", found=kind(listed))
    return listed


def _explain(results: dict[str, Any], path: PathLike) -> None:
    """Find the first entry that is not as it should be; the fast path only knows that there is one."""
    for name, rows in results.items():
        if not isinstance(rows, list):
            raise InputError("expected a list", file=path, field=f"results.{name}", found=kind(rows))
        for i, row in enumerate(rows):
            field = f"results.{name}[{i}]"
            if not isinstance(row, dict):
                raise InputError("expected an object", file=path, field=field, found=kind(row))
            for key in ("segment", "score", "label"):
                if key not in row:
                    raise InputError(f"no {key!r}", file=path, field=field, found=", ".join(row) or "nothing")
            if not isinstance(row["label"], str):
                raise InputError("a label is a class name", file=path, field=field, found=kind(row["label"]))
            number(row["score"], file=path, field=f"{field}.score")
            span = row["segment"]
            if not isinstance(span, list) or len(span) != 2:
                raise InputError(
                    "expected a segment", file=path, field=field, found=kind(span), expected="[start, end]"
                )
            start, end = (number(x, file=path, field=f"{field}.segment") for x in span)
            if end < start:
                raise InputError("a segment ends before it starts", file=path, field=field, found=kind(span))
    raise InputError("these detections cannot be read", file=path)


def write(detections: Detections, path: PathLike) -> None:
    """Write detections, one video a line in the order of `names`, rows of a video in their order."""
    order = np.argsort(detections.video, kind="stable")
    it, names = detections[order], detections.classes
    rows = [
        {"segment": [start, end], "label": names[c], "score": score}
        for start, end, c, score in zip(
            it.start.tolist(), it.end.tolist(), it.label.tolist(), it.score.tolist(), strict=True
        )
    ]
    edge = np.searchsorted(it.video, np.arange(len(it.names) + 1)).tolist()
    lines = [
        f"{json.dumps(name)}: {json.dumps(rows[edge[v] : edge[v + 1]])}" for v, name in enumerate(it.names)
    ]
    head = f'{{"version": "weaktal 1", "external_data": {{}}, "classes": {json.dumps(list(names))},\n'
    if it.grid is not None:
        head += f'"grid": {json.dumps({"rate": it.grid.rate, "offset": it.grid.offset})},\n'
    write_text(path, head + '"results": {\n' + ",\n".join(lines) + "\n}}\n")
