"""A table of frames (CSV): one row for each frame of a video, one column of 0 and 1 for each class.

``frame,time,CLASS,CLASS,...``, frames from 0 on, exactly as many rows as the video has frames. One video a
file. Segments of a class that touch or overlap become one; clicks have no column.
"""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import numpy as np

from weaktal.core import Annotations, CoverageWarning, InputError, Video, shown
from weaktal.core.reading import PathLike, number, read_text
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    frame_count,
    frame_spans,
    plain,
    read_each,
    write_each,
)

SUFFIXES = (".csv",)
COLUMNS = ("frame", "time", "video", "label", "class", "point")  # ours, and those of other tables
MOST = 500_000_000  # values of a table
_VALUES = {"": 0, "0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def is_header(line: str) -> bool:
    """Whether a line is the header of such a table."""
    cells = [c.strip().strip('"').lower() for c in line.replace(";", ",").replace("\t", ",").split(",")]
    return cells[0] == "frame" and len(cells) > 1 and not set(COLUMNS[2:]) & set(cells)


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a table or a folder of them; runs of 1 are segments.

    Args:
        path: the file or folder.
        fps: frames per second; without it by the column ``time``.

    Raises:
        InputError: no such table, frames that are not one after the other, values other than 0 and 1.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        lines = read_text(file).split("\n")
        if not is_header(lines[0]):
            raise InputError(
                "no table of frames", file=file, field="line 1", found=shown(lines[0], 80),
                expected="frame,time,CLASS,...",
            )  # fmt: skip
        delimiter = next(d for d in ",;\t" if d in lines[0])
        try:
            rows = list(csv.reader([line for line in lines if line], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise InputError(f"quotes that cannot be read: {error}", file=file) from None
        timed = len(rows[0]) > 1 and rows[0][1].strip().lower() == "time"
        classes = [c.strip() for c in rows[0][1 + timed :]]
        if len(set(classes)) != len(classes) or not all(classes):
            raise InputError("class names must differ", file=file, field="line 1", found=classes)
        table = np.zeros((len(rows) - 1, len(classes)), np.int8)
        for i, row in enumerate(rows[1:]):
            field = f"line {i + 2}"
            if len(row) != len(rows[0]):
                raise InputError(
                    "a row of another width than the header", file=file, field=field,
                    found=len(row), expected=len(rows[0]),
                )  # fmt: skip
            if row[0].strip() != str(i):
                raise InputError(
                    "frames are counted from 0, each once", file=file, field=field, found=row[0], expected=i
                )
            for k, cell in enumerate(row[1 + timed :]):
                value = _VALUES.get(cell.strip().lower())
                if value is None:
                    raise InputError(
                        "expected 0 or 1", file=file, field=f"{field}, {classes[k]}", found=shown(cell)
                    )
                table[i, k] = value
        own = None
        if timed and len(table) > 1:
            last = number(rows[-1][1], file=file, field=f"line {len(rows)}, time")
            own = (len(table) - 1) / last if last > 0 else None
        rate = Rates(fps, file).of(name, own) if len(table) else Rates(fps, file).find(name)
        found.video(name, duration=len(table) / (rate or 1), fps=rate)
        for label in classes:
            found.classes.setdefault(label)
        assert rate is not None or not len(table)
        for k, label in enumerate(classes):
            for a, b in _runs(table[:, k]):
                found.segment(name, a / (rate or 1), b / (rate or 1), label, f"line {a + 2}")

    return read_each(path, SUFFIXES, one)


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Runs of ones as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], values, [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def frame_table(video: Video, classes: int, fps: float, frames: int | None = None) -> np.ndarray:
    """(F, C) of 0 and 1: which classes lie on which frame.

    Args:
        video: its segments; a frame is in one from the frame nearest to its start up to that nearest its end.
        classes: their number, C.
        fps: frames per second.
        frames: F; by default by the duration, or up to the last that is annotated.
    """
    n = frame_count(video, fps) if frames is None else frames
    if n * max(1, classes) > MOST:
        raise InputError("a table of more values than anybody needs", field=video.name, found=n * classes)
    table = np.zeros((n, classes), np.int8)
    for a, b, c in frame_spans(video, fps):
        table[a:b, c] = 1
    return table


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one table a video; `path` is a folder, or the file of one video.

    Raises:
        InputError: a video without a frame rate; a class that is named like one of our columns.

    Warns:
        CoverageWarning: segments that became one, or that lie behind the end of the video.
    """
    changed = {}

    def text(video: Video, file: Path) -> str:
        fps = Rates(None, file).of(video.name, video.fps)
        names = [plain(name, file, "a table of frames") for name in annotations.classes]
        if taken := next((n for n in names if n.lower() in COLUMNS), None):
            raise InputError("a class has the name of a column", file=file, found=shown(taken))
        table = frame_table(video, len(names), fps)
        if (held := sum(len(_runs(table[:, k])) for k in range(len(names)))) != len(video.instances):
            changed[video.name] = len(video.instances) - held
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(["frame", "time", *names])
        for i, row in enumerate(table.astype(str).tolist()):
            out.write(",".join([str(i), repr(i / fps), *row]) + "\n")
        return out.getvalue()

    write_each(annotations, path, SUFFIXES[0], text)
    if changed:
        first = next(iter(changed))
        warnings.warn(
            f"{path}: {sum(changed.values())} segments fewer in {len(changed)} videos, the first "
            f"{shown(first)}: those of a class that touch or overlap are one, and none lies behind the end",
            CoverageWarning,
            stacklevel=2,
        )
