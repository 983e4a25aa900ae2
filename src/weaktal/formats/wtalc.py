"""Annotations as a folder of ``.npy`` arrays, as W-TALC introduced it and its descendants kept it.

``videoname``, ``subset``, ``duration``, ``segments`` (seconds), ``labels`` (one class name per segment),
``labels_all`` (the video-level label), ``classlist`` (the order of classes), in files ``original_fps`` and,
beside them, ``Ambiguous_test.txt``. Names are bytes or strings. ``extracted_fps`` is not read: public copies
say 10 where the features are made at 25 frames per second.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, CoverageWarning, InputError, Instances, Video, atomic_path, shown
from weaktal.core.npy import read_npy, text_of
from weaktal.formats import ambiguous
from weaktal.formats.reading import PathLike, check_name, class_place, kind, number
from weaktal.formats.tables import one_line

AMBIGUOUS = "Ambiguous_test.txt"


def looks_like(path: PathLike) -> bool:
    """Whether a folder holds these arrays."""
    return (Path(path) / "videoname.npy").is_file() and (Path(path) / "segments.npy").is_file()


def _name(value: Any, what: str, file: Path) -> str:
    """A name in an array: a text, bytes, or (class lists of numbers) a whole number."""
    if not isinstance(value, str | bytes | int | np.integer) or isinstance(value, bool):
        raise InputError(f"a {what} is named by a text", file=file, found=kind(value))
    return check_name(text_of(value), what, file=file)


def _column(folder: Path, name: str, count: int | None = None) -> list[Any]:
    """The entries of an array, one per video (or class)."""
    path = folder / f"{name}.npy"
    array = read_npy(path)
    if array.ndim == 0:
        raise InputError("expected a list", file=path, found=f"a single {kind(array.item())}")
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
    listed = folder / "videoname.npy"
    names = [_name(x, "video", listed) for x in read_npy(listed).reshape(-1)]
    count = len(names)

    def optional(name: str) -> list[Any] | None:
        return _column(folder, name, count) if (folder / f"{name}.npy").exists() else None

    classes = [_name(c, "class", folder / "classlist.npy") for c in _column(folder, "classlist")]
    segments, labels = _column(folder, "segments", count), _column(folder, "labels", count)
    tags, subset = optional("labels_all"), optional("subset")
    if tags is not None:
        classes += _not_listed(classes, labels, tags, folder)
    place = {name: i for i, name in enumerate(classes)}
    duration, fps = optional("duration"), optional("original_fps")

    def seconds(column: list[Any] | None, i: int, file: str) -> float | None:
        value = None if column is None else column[i]
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
            return None
        return number(value, file=folder / file, field=names[i])

    def label_indices(values: Any, file: str, name: str) -> list[int]:
        path = folder / file
        found = _names_in(values)
        if found is None:
            raise InputError("expected class names", file=path, field=name, found=kind(values))
        return [class_place(_name(c, "class", path), place, file=path, field=name) for c in found]

    def subset_of(i: int) -> str | None:
        value = None if subset is None else subset[i]
        if value is None or value in ("", b""):
            return None
        return _name(value, "subset", folder / "subset.npy")

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
            subset=subset_of(i),
            duration=seconds(duration, i, "duration.npy"),
            fps=seconds(fps, i, "original_fps.npy"),
            instances=Instances(span[:, 0], span[:, 1], np.array(label)),
            labels=tuple(label if tags is None else label_indices(tags[i], "labels_all.npy", name)),
        )

    try:
        annotations = Annotations.of(classes, map(video, range(count)))
    except InputError as error:
        raise error.at(folder) from None
    listed = folder / AMBIGUOUS
    return annotations.with_ignored(ambiguous.read(listed)) if listed.exists() else annotations


def _names_in(values: Any) -> list[Any] | None:
    """The class names of one video: a list or array of them, or a single one."""
    if isinstance(values, str | bytes):
        return [values]
    if not _is_list(values):
        return None
    return list(values.reshape(-1)) if isinstance(values, np.ndarray) else list(values)


def _not_listed(classes: list[str], labels: list[Any], tags: list[Any], folder: Path) -> list[str]:
    """Classes that a video has as a segment's and as its own label, and that the list of classes lacks.

    A name in one of the two arrays alone is a slip of the pen, and an error.
    """
    known, missing = set(classes), dict[str, None]()
    for one, other in zip(labels, tags, strict=True):
        mine, its = ({text_of(c) for c in _names_in(x) or ()} for x in (one, other))
        missing |= dict.fromkeys(sorted(mine & its - known))
    if missing:
        warnings.warn(
            f"{folder / 'classlist.npy'}: {len(missing)} classes of labels.npy and labels_all.npy are not "
            f"listed and come last: {', '.join(list(missing)[:3])}",
            CoverageWarning,
            stacklevel=4,
        )
    return list(missing)


def _spans(value: Any, file: Path, name: str) -> np.ndarray:
    try:
        span = np.array([list(pair) for pair in value], np.float64).reshape(len(value), 2)
    except (TypeError, ValueError, OverflowError):
        span = None
    if span is None or not np.isfinite(span).all() or (span[:, 1] < span[:, 0]).any():
        for pair in value if _is_list(value) else [value]:
            if not _is_list(pair) or len(pair) != 2:
                raise InputError("expected [start, end]", file=file, field=name, found=kind(pair))
            start, end = (number(x, file=file, field=name) for x in pair)
            if end < start:
                raise InputError("a segment ends before it starts", file=file, field=name, found=kind(pair))
        raise InputError("segments that cannot be read", file=file, field=name)
    return span


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _objects(values: Sequence[list[Any]]) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def _bytes(values: Iterable[str], folder: Path) -> np.ndarray:
    """Names as NumPy's bytes, which lose zeros at the end."""
    texts = list(values)
    for text in texts:
        if text.endswith("\0") or re.search("[\ud800-\udfff]", text):
            raise InputError(
                "W-TALC's arrays cannot hold a name with what is no character",
                file=folder,
                found=shown(text),
                hint="JSON holds every name; write that, or rename",
            )
    return np.array([text.encode("utf-8") for text in texts], dtype=np.bytes_)


def write(annotations: Annotations, path: PathLike) -> None:
    """Write the folder (each array whole or not at all). Points have no place in this format."""
    folder, names = Path(path), annotations.classes
    videos = list(annotations)
    missing = float("nan")
    arrays: dict[str, np.ndarray] = {
        "videoname": _bytes((v.name for v in videos), folder),
        "classlist": _bytes(names, folder),
        "duration": np.array([missing if v.duration is None else v.duration for v in videos]),
        "segments": _objects(
            [np.stack([v.instances.start, v.instances.end], 1).tolist() for v in videos],
        ),
        "labels": _objects([[names[c] for c in v.instances.label] for v in videos]),
        "labels_all": _objects([[names[c] for c in v.labels] for v in videos]),
        "subset": _bytes((v.subset or "" for v in videos), folder),
        "original_fps": np.array([missing if v.fps is None else v.fps for v in videos]),
    }
    ignored = {v.name: v.ignored for v in videos if len(v.ignored)}
    for name in ignored:
        one_line(name, folder / AMBIGUOUS, "a list of intervals")
    for name, array in arrays.items():
        with atomic_path(folder / f"{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=True)
    ambiguous.write(ignored, folder / AMBIGUOUS)
