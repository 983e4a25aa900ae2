"""Clicks as the CSV of LAC, TSPNet and HR-Pro: ``class,class_index,start_frame,stop_frame,video_id,point``.

``point`` is a frame of the original video, so that a frame rate is needed. The full boundaries that public
files carry beside the click are dropped on reading: they are not a weak label. ``class_index`` is not read
either (some files lack it; the class name says the same).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weaktal.core import Annotations, InputError, NameIndex, composed, did_you_mean
from weaktal.formats.points import PointTable
from weaktal.formats.reading import PathLike, check_name, number
from weaktal.formats.tables import read_rows, write_rows

COLUMNS = {"video": ["video_id", "video"], "label": ["class", "label"], "point": ["point"]}
ORIGIN = {"origin": ["origin"]}  # of clicks that nobody made, in every row
BOUNDARIES = {"start": ["start_frame"], "stop": ["stop_frame"]}


def read(path: PathLike, fps: Mapping[str, float] | float, among: NameIndex | None = None) -> PointTable:
    """Clicks in file order.

    Args:
        path: the file.
        fps: frame rate of the original videos: one for all, or by video name.
        among: a video outside of these needs no frame rate; its clicks get the time NaN.

    Raises:
        InputError: the file is not as the format says, or a video has no frame rate.
    """
    video, time, label = [], [], []
    origin = None
    rates = fps if not isinstance(fps, Mapping) else {composed(k): v for k, v in fps.items()} | dict(fps)
    for line, row in read_rows(path, COLUMNS | ORIGIN, ["video", "label", "point"], ["point"]):
        name = check_name(row["video"], "video", file=path, field=f"line {line}")
        rate = rates.get(name, rates.get(composed(name))) if isinstance(rates, dict) else rates
        if rate is None and among is not None and name not in among:
            rate = np.nan
        if rate is None:
            raise InputError(
                "no frame rate for this video",
                file=path,
                field=f"line {line}",
                found=repr(name),
                hint="name a frame rate table in the data set description (fps: ...)",
            )
        video.append(name)
        label.append(check_name(row["label"], "class", file=path, field=f"line {line}"))
        time.append(number(row["point"], file=path, field=f"line {line}, point") / rate)
        origin = row.get("origin") or origin
    return PointTable(tuple(video), np.array(time, np.float64), tuple(label), origin)


def frame_rates(path: PathLike, annotations: Annotations) -> dict[str, float]:
    """The frame rates that the boundaries in a file imply, for files that come without a table of rates.

    A video's rate is the one at which the most of its rows, in frames, are annotated instances, in seconds,
    to within a frame. Videos without any such row are left out.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for line, row in read_rows(path, COLUMNS | BOUNDARIES, ["video", "label", "point", "start", "stop"]):
        start, stop = (number(row[c], file=path, field=f"line {line}, {c}_frame") for c in ("start", "stop"))
        spans.setdefault(row["video"], []).append((start, stop))
    rates = {}
    for name, span in spans.items():
        if name not in annotations.videos:
            continue
        it = annotations.videos[name].instances
        start, stop = np.array(span).T[:, :, None]
        rate = stop / np.maximum(it.end, 1e-9)
        fits = (np.abs(start - rate * it.start) <= 1) & (rate > 0)
        if fits.any():
            near = np.abs(rate[None] / rate[fits][:, None, None] - 1) < 0.01
            rates[name] = float(rate[fits][(near & fits).any(2).sum(1).argmax()])
    return rates


def write(
    points: PointTable, path: PathLike, fps: Mapping[str, float] | float, classes: tuple[str, ...] = ()
) -> None:
    """Write clicks without boundaries; a click that was a whole frame is written as one.

    Args:
        points: the clicks.
        path: the file.
        fps: as in `read`.
        classes: class list for ``class_index``; without it the classes that occur, sorted.
    """
    place = {name: i for i, name in enumerate(classes or points.classes)}
    rows = list[list[str | float]]()
    origin = [points.origin] if points.origin else []
    for name, time, label in zip(points.video, points.time.tolist(), points.label, strict=True):
        if isinstance(fps, Mapping) and name not in fps:
            raise InputError("no frame rate for this video", found=repr(name), hint=did_you_mean(name, fps))
        rate = fps[name] if isinstance(fps, Mapping) else fps
        whole = round(time * rate)
        frame = whole if whole / rate == time else time * rate
        rows.append([label, place[label], name, frame, *origin])
    write_rows(path, ["class", "class_index", "video_id", "point", *(["origin"] if origin else [])], rows)
