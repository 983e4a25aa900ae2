"""Foreign file formats: one module each, with `read` and `write`; here they are found by looking.

Times are seconds in everything that comes out of these functions.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from weaktal.core import (
    Annotations,
    CoverageWarning,
    Detections,
    InputError,
    NameIndex,
    did_you_mean,
    shown,
)
from weaktal.core.limits import within
from weaktal.formats import (
    activitynet,
    activitynet_detections,
    ambiguous,
    csv_annotations,
    csv_detections,
    exchange,
    point_csv,
    sfnet_points,
    wtalc,
)
from weaktal.formats.points import PointTable
from weaktal.formats.reading import PathLike, number, read_mapping, read_text
from weaktal.formats.subsets import subset_name
from weaktal.formats.tables import header_columns

__all__ = [
    "ANNOTATION_FORMATS",
    "DETECTION_FORMATS",
    "POINT_FORMATS",
    "PointTable",
    "attach_points",
    "load_annotations",
    "load_detections",
    "load_fps",
    "load_ignored",
    "load_points",
    "save_annotations",
    "save_detections",
    "subset_name",
]

ANNOTATION_FORMATS = ("activitynet", "wtalc", "csv", *exchange.FORMATS)
DETECTION_FORMATS = ("activitynet", "csv")
POINT_FORMATS = ("point-csv", "sfnet")

Fps = Mapping[str, float] | float
T = TypeVar("T")


def load_annotations(
    path: PathLike,
    *,
    points: PathLike | None = None,
    ignore: PathLike | None = None,
    fps: PathLike | Fps | None = None,
    format: str | None = None,
    derived: bool = True,
) -> Annotations:
    """Annotations of a file or folder; the format is found by looking.

    Args:
        path: ActivityNet JSON, a W-TALC folder of ``.npy`` arrays, a CSV table, or what another tool wrote,
            see `weaktal.formats.exchange.FORMATS`.
        points: a file of clicks, see `load_points`.
        ignore: a file of ambiguous intervals, see `load_ignored`.
        fps: frame rates for what is counted in frames, see `load_fps`.
        format: one of `ANNOTATION_FORMATS`, where looking is not enough.
        derived: with the clicks that the app gives to segments for training.

    Raises:
        InputError: anything that cannot be read, with file and place.

    Warns:
        CoverageWarning: instances without length (they count, and nothing can match them); clicks of videos
            that are not annotated.
    """
    if not os.path.exists(path):
        raise InputError("no such file", file=path)
    rates = None if fps is None else load_fps(fps)
    annotations = _read_annotations(Path(path), format, rates, derived)
    _within_limits(annotations, path)
    empty = [(v.name, v.instances) for v in annotations if (v.instances.end == v.instances.start).any()]
    if empty:
        count = sum(int((it.end == it.start).sum()) for _, it in empty)
        warnings.warn(
            f"{path}: {count} instances have no length and cannot be matched, in {len(empty)} videos, "
            f"the first {empty[0][0]!r}",
            CoverageWarning,
            stacklevel=2,
        )
    if rates is not None:
        annotations = _with_fps(annotations, rates)
    if points is not None:
        annotations = attach_points(annotations, load_points(points, annotations=annotations), points)
    if ignore is not None:
        annotations = annotations.with_ignored(load_ignored(ignore))
    return annotations


def _within_limits(annotations: Annotations, path: PathLike) -> None:
    within(len(annotations), "videos", "videos", file=path)
    within(len(annotations.classes), "classes", "classes", file=path)
    for v in annotations:
        if v.duration is not None and v.duration < 0:
            raise InputError("a duration is negative", file=path, field=v.name, found=v.duration)
        if v.fps is not None and v.fps <= 0:
            raise InputError("a frame rate is a number > 0", file=path, field=v.name, found=v.fps)
        times = [v.duration or 0.0, *(np.abs(x).max(initial=0) for x in (v.instances.start, v.instances.end))]
        within(float(max(times)), "seconds", "seconds", file=path, field=v.name)


def _read_annotations(path: Path, format: str | None, fps: Fps | None, derived: bool) -> Annotations:
    if format is not None and format not in ANNOTATION_FORMATS:
        raise InputError(
            "no such format",
            file=path,
            found=repr(format),
            expected=" or ".join(ANNOTATION_FORMATS),
            hint=did_you_mean(format, ANNOTATION_FORMATS),
        )
    if format == "activitynet":
        return activitynet.read(path, derived=derived)
    if format in ("wtalc", "csv"):
        return wtalc.read(path) if format == "wtalc" else csv_annotations.read(path)
    if path.is_dir() and wtalc.looks_like(path):
        return wtalc.read(path)
    if found := format or (exchange.format_of(path) if path.exists() else None):
        return exchange.read(path, found, fps)
    if path.is_dir():
        raise InputError(
            "no annotations in this folder",
            file=path,
            found=", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing",
            expected="videoname.npy, segments.npy, labels.npy, classlist.npy, ...",
        )
    if path.suffix == ".npy":
        raise InputError("one array is not an annotation", file=path, hint="name the folder of the arrays")
    if _is_json(path):
        return activitynet.read(path, derived=derived)
    return csv_annotations.read(path)


def _is_json(path: Path) -> bool:
    return path.suffix == ".json" or (path.suffix != ".csv" and read_text(path).lstrip()[:1] in ("{", "["))


def _with_fps(annotations: Annotations, rates: Fps) -> Annotations:
    table = NameIndex(annotations.videos).rename(rates) if isinstance(rates, Mapping) else rates

    def rate(name: str, old: float | None) -> float | None:
        return table.get(name, old) if isinstance(table, Mapping) else table

    return annotations.map(lambda v: replace(v, fps=rate(v.name, v.fps)))


def save_annotations(
    annotations: Annotations,
    path: PathLike,
    format: str | None = None,
    *,
    media: Mapping[str, str] | None = None,
) -> None:
    """Write annotations in one of our formats, or in one of another tool.

    Args:
        annotations: what to write.
        path: the file or folder.
        format: one of `ANNOTATION_FORMATS`; without it by the suffix: ActivityNet JSON (``.json``), a CSV
            table (``.csv``), a W-TALC folder (none), or the tool whose files end so (``.eaf``, ``.srt``).
        media: of formats of other tools, the media file of every video.

    Raises:
        InputError: no such format, or annotations that it cannot hold.

    Warns:
        CoverageWarning: what a format of another tool leaves out.
    """
    found = format or exchange.BY_SUFFIX.get(Path(path).suffix.lower())
    if found is not None and found in exchange.FORMATS:
        exchange.write(annotations, path, found, media)
        return
    by_suffix = {".json": "activitynet", ".csv": "csv", "": "wtalc"}
    writers: dict[str, Callable[[Annotations, PathLike], None]] = {
        "activitynet": activitynet.write,
        "wtalc": wtalc.write,
        "csv": csv_annotations.write,
    }
    _writer(writers, by_suffix, path, format)(annotations, path)


def load_detections(path: PathLike, classes: Sequence[str] | None = None) -> Detections:
    """Detections of an ActivityNet JSON file or a CSV table.

    Args:
        path: the file.
        classes: the class list to index; without it the file's own, or the names that occur, sorted.

    Raises:
        InputError: anything that cannot be read; a class that `classes` lacks, with the nearest known one.
    """
    if _is_json(Path(path)):
        return activitynet_detections.read(path, classes)
    return csv_detections.read(path, classes)


def save_detections(detections: Detections, path: PathLike, format: str | None = None) -> None:
    """Write detections as ActivityNet JSON (``.json``) or a CSV table (``.csv``)."""
    writers: dict[str, Callable[[Detections, PathLike], None]] = {
        "activitynet": activitynet_detections.write,
        "csv": csv_detections.write,
    }
    _writer(writers, {".json": "activitynet", ".csv": "csv"}, path, format)(detections, path)


def _writer(writers: dict[str, T], by_suffix: dict[str, str], path: PathLike, format: str | None) -> T:
    name = format or by_suffix.get(Path(path).suffix)
    if name not in writers:
        raise InputError(
            "no such format" if format else "the suffix names no format",
            file=path,
            found=repr(format or Path(path).suffix),
            expected=" or ".join(
                map(repr, writers) if format else (s or "none (a folder)" for s in by_suffix)
            ),
        )
    return writers[name]


def load_fps(source: PathLike | Fps) -> Fps:
    """Frame rates: a number or a table as they are, or a JSON file ``{video name: frames per second}``."""
    if isinstance(source, int | float | Mapping):
        rates = source
    else:
        rates = {k: number(v, file=source, field=k) for k, v in read_mapping(source).items()}
    for name, rate in rates.items() if isinstance(rates, Mapping) else [(None, rates)]:
        if not rate > 0:
            file = source if isinstance(source, str | os.PathLike) else None
            raise InputError("a frame rate is a number > 0", file=file, field=name, found=rate)
    return rates


def load_points(
    path: PathLike, *, fps: Fps | None = None, annotations: Annotations | None = None
) -> PointTable:
    """Clicks of a CSV file in frames, or of an SF-Net text file in seconds.

    Args:
        path: the file.
        fps: frame rates, for clicks in frames.
        annotations: where `fps` is not given, the frame rates of these; for videos without one, the rate
            that the boundaries in the file imply (used for this and dropped). Clicks of other videos get
            the time NaN.
    """
    line = read_text(path).lstrip()[:1000].split("\n")[0]
    header = header_columns(line)
    if sfnet_points.is_header(line) or not header & {"point", "video_id"}:
        return _clicks_within(sfnet_points.read(path), path)
    if fps is None:
        if annotations is None:
            raise InputError(
                "these clicks are in frames and need a frame rate",
                file=path,
                hint="name a frame rate table in the data set description (fps: ...)",
            )
        fps = {v.name: v.fps for v in annotations if v.fps is not None}
        if "start_frame" in header and not all(v.fps is not None for v in annotations):
            fps = point_csv.frame_rates(path, annotations) | fps
    among = None if annotations is None else NameIndex(annotations.videos)
    return _clicks_within(point_csv.read(path, fps, among), path)


def _clicks_within(table: PointTable, path: PathLike) -> PointTable:
    within(len(table), "clicks", "clicks", file=path)
    latest = float(np.nanmax(np.abs(table.time), initial=0))
    within(latest, "seconds", "seconds", file=path)
    within(len(table.classes), "classes", "classes", file=path)
    return table


def attach_points(annotations: Annotations, points: PointTable, file: PathLike | None = None) -> Annotations:
    """Annotations with these clicks; videos without one have no points (None).

    Raises:
        InputError: an unknown class, or not one known video.

    Warns:
        CoverageWarning: clicks of videos that are not annotated, with the nearest known name.
    """
    known = NameIndex(annotations.videos)
    unknown = [name for name in points.names if name not in known]
    if unknown:
        nearest = did_you_mean(unknown[0], annotations.videos)
        count = int(np.isin(points.video, unknown).sum())
        message = f"{len(unknown)} videos have clicks and no annotations, {count} clicks are left out"
        if len(unknown) == len(points.names):
            raise InputError(
                "no click belongs to an annotated video", file=file, found=repr(unknown[0]), hint=nearest
            )
        text = f"{message}; the first is {unknown[0]!r}" + (f", {nearest}" if nearest else "")
        warnings.warn(f"{file}: {text}" if file else text, CoverageWarning, stacklevel=2)
    try:
        found = points.by_video(annotations.classes)
    except InputError as error:
        raise error if file is None else error.at(file) from None
    for name in found:
        if name in known and annotations.videos[known.find(name) or name].empty:
            raise InputError(
                "a click in a video in which, say its labels, nothing occurs", file=file, found=shown(name)
            )
    return annotations.with_points({name: p for name, p in found.items() if name in known})


def load_ignored(path: PathLike) -> dict[str, np.ndarray]:
    """Ambiguous intervals by video name, (K, 2) seconds, of an ``Ambiguous_test.txt``."""
    return ambiguous.read(path)
