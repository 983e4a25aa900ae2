"""Annotations as a folder of ``.npy`` arrays, as W-TALC introduced it and its descendants kept it.

``videoname``, ``subset``, ``duration``, ``segments`` (seconds), ``labels`` (one class name per segment),
``labels_all`` (the video-level label), ``classlist`` (the order of classes), in files ``original_fps`` and,
beside them, ``Ambiguous_test.txt``. Names are bytes or strings. ``extracted_fps`` is not read: public copies
say 10 where the features are made at 25 frames per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, Instances, Video, atomic_path
from weaktal.core.npy import read_npy
from weaktal.formats import ambiguous
from weaktal.formats.reading import PathLike, class_place, kind, number

AMBIGUOUS = "Ambiguous_test.txt"


def looks_like(path: PathLike) -> bool:
    """Whether a folder holds these arrays."""
    return (Path(path) / "videoname.npy").is_file() and (Path(path) / "segments.npy").is_file()


def _string(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _column(folder: Path, name: str, count: int | None = None) -> list[Any]:
    path = folder / f"{name}.npy"
    array = read_npy(path)
    if array.dtype != object:
        array = array.reshape(-1) if array.size == len(array) else array
    if count is not None and len(array) != count:
        raise InputError(
            "arrays of different lengths",
            file=path,
            found=len(array),
            expected=f"{count}, as in videoname.npy",
        )
    return list(array)


def read(path: PathLike) -> Annotations:
    """Annotations of a folder; ambiguous intervals too, where ``Ambiguous_test.txt`` is beside the arrays.

    Raises:
        InputError: an array is missing, holds code, or does not fit the others.
    """
    folder = Path(path)
    names = [_string(x) for x in read_npy(folder / "videoname.npy").reshape(-1)]
    count = len(names)

    def optional(name: str) -> list[Any] | None:
        return _column(folder, name, count) if (folder / f"{name}.npy").exists() else None

    classes = [_string(c) for c in _column(folder, "classlist")]
    place = {name: i for i, name in enumerate(classes)}
    segments, labels = _column(folder, "segments", count), _column(folder, "labels", count)
    tags, subset = optional("labels_all"), optional("subset")
    duration, fps = optional("duration"), optional("original_fps")

    def seconds(column: list[Any] | None, i: int) -> float | None:
        value = None if column is None else float(column[i])
        return None if value is None or np.isnan(value) else value

    def label_indices(values: Iterable[Any], file: str, name: str) -> list[int]:
        return [class_place(_string(c), place, file=folder / file, field=name) for c in values]

    def video(i: int) -> Video:
        name = names[i]
        span = _spans(segments[i], folder / "segments.npy", name)
        label = label_indices(labels[i], "labels.npy", name)
        if len(span) != len(label):
            raise InputError(
                "segments and labels differ in number",
                file=folder / "labels.npy",
                field=name,
                found=len(label),
                expected=len(span),
            )
        return Video(
            name=name,
            subset=None if subset is None else _string(subset[i]) or None,
            duration=seconds(duration, i),
            fps=seconds(fps, i),
            instances=Instances(span[:, 0], span[:, 1], np.array(label)),
            labels=tuple(label if tags is None else label_indices(tags[i], "labels_all.npy", name)),
        )

    annotations = Annotations.of(classes, map(video, range(count)))
    listed = folder / AMBIGUOUS
    return annotations.with_ignored(ambiguous.read(listed)) if listed.exists() else annotations


def _spans(value: Any, file: Path, name: str) -> np.ndarray:
    try:
        span = np.array([list(pair) for pair in value], np.float64).reshape(len(value), 2)
    except (TypeError, ValueError):
        span = None
    if span is None or not np.isfinite(span).all() or (span[:, 1] < span[:, 0]).any():
        for pair in value if isinstance(value, Sequence | np.ndarray) else [value]:
            if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
                raise InputError("expected [start, end]", file=file, field=name, found=kind(pair))
            start, end = (number(x, file=file, field=name) for x in pair)
            if end < start:
                raise InputError("a segment ends before it starts", file=file, field=name, found=kind(pair))
        raise InputError("segments that cannot be read", file=file, field=name)
    return span


def _objects(values: Sequence[list[Any]]) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def _bytes(values: Iterable[str]) -> np.ndarray:
    return np.array([v.encode("utf-8") for v in values], dtype=np.bytes_)


def write(annotations: Annotations, path: PathLike) -> None:
    """Write the folder (each array whole or not at all). Points have no place in this format."""
    folder, names = Path(path), annotations.classes
    videos = list(annotations)
    missing = float("nan")
    arrays: dict[str, np.ndarray] = {
        "videoname": _bytes(v.name for v in videos),
        "classlist": _bytes(names),
        "duration": np.array([missing if v.duration is None else v.duration for v in videos]),
        "segments": _objects(
            [np.stack([v.instances.start, v.instances.end], 1).tolist() for v in videos],
        ),
        "labels": _objects([[names[c] for c in v.instances.label] for v in videos]),
        "labels_all": _objects([[names[c] for c in v.labels] for v in videos]),
        "subset": _bytes(v.subset or "" for v in videos),
        "original_fps": np.array([missing if v.fps is None else v.fps for v in videos]),
    }
    for name, array in arrays.items():
        with atomic_path(folder / f"{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=True)
    ambiguous.write({v.name: v.ignored for v in videos if len(v.ignored)}, folder / AMBIGUOUS)
