"""Camtrap DP 1.0 (camera traps): ``observations.csv``, with ``media.csv`` beside it.

An observation of a medium lies between ``eventStart`` and ``eventEnd``, which are dates with whole seconds; a
video begins at the ``timestamp`` of its medium. Ours begin at 1970-01-01. The class is ``behavior`` (several
between bars), else ``scientificName``, else ``observationType``. Start and end that are equal are a click. A
medium whose observations are all ``blank`` is one in which nothing occurs.
"""

from __future__ import annotations

import math
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

from weaktal.core import Annotations, CoverageWarning, InputError, shown
from weaktal.core.reading import PathLike
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    media_file,
    plain,
    segments_of,
    video_name,
    whole_folder,
)
from weaktal.formats.tables import header_columns, read_rows, write_rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OBSERVATIONS, MEDIA = "observations.csv", "media.csv"
SPELLINGS = {
    "media": ["mediaID"],
    "start": ["eventStart"],
    "end": ["eventEnd"],
    "type": ["observationType"],
    "behavior": ["behavior"],
    "species": ["scientificName"],
}
MEDIA_SPELLINGS = {
    "media": ["mediaID"],
    "begin": ["timestamp"],
    "path": ["filePath"],
    "name": ["fileName"],
}
COLUMNS = [
    "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
    "observationType", "behavior",
]  # fmt: skip


def is_header(line: str) -> bool:
    """Whether a line is the header of observations."""
    return {"observationid", "eventstart"} <= header_columns(line)


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a folder, or of the table of observations in it.

    Raises:
        InputError: no such table; no dates; the begin of a medium is not known.

    Warns:
        CoverageWarning: observations of events and not of a medium, and those without any class.
    """
    path = Path(path)
    file = path / OBSERVATIONS if path.is_dir() else path
    begin, found = dict[str, datetime](), Gathered(file)
    name_of: dict[str, str] = {}
    beside = file.with_name(MEDIA)
    if beside.exists():
        for line, row in read_rows(beside, MEDIA_SPELLINGS, ["media", "begin"]):
            field = f"line {line}"
            media = row["media"]
            name_of[media] = video_name(row.get("name") or row.get("path") or media, beside, field)
            begin[media] = _date(row["begin"], beside, field)
            found.video(name_of[media], where=field, fps=Rates(fps, file).find(name_of[media]))
    left_out = {"of events, and not of a medium": 0, "without a class": 0}
    for line, row in read_rows(file, SPELLINGS, ["media", "start", "end"]):
        field = f"line {line}"
        media = row["media"]
        if not media:
            left_out["of events, and not of a medium"] += 1
            continue
        if media not in name_of:
            name_of[media] = found.video(video_name(media, file, field), where=field)
        start, end = (_date(row[k], file, field) for k in ("start", "end"))
        first = begin.get(media, EPOCH)
        if media not in begin and start.year > 1970:
            raise InputError(
                "it is not known when this medium begins", file=file, field=field, found=shown(media),
                expected=f"a row of it in {MEDIA}",
            )  # fmt: skip
        span = [(t - first).total_seconds() for t in (start, end)]
        kind = row.get("type", "").lower()
        labels = [b.strip() for b in row.get("behavior", "").split("|") if b.strip()]
        labels = labels or [x for x in (row.get("species", ""),) if x]
        labels = labels or ([] if kind in ("", "blank", "unknown", "unclassified") else [kind])
        if not labels:
            left_out["without a class"] += kind != "blank"
            if kind == "blank":
                found.nothing(name_of[media])
        for label in labels:
            if span[0] == span[1]:
                found.click(name_of[media], span[0], label, field)
            else:
                found.segment(name_of[media], span[0], span[1], label, field)
    for why, count in left_out.items():
        if count:
            warnings.warn(f"{file}: {count} observations {why} are left out", CoverageWarning, stacklevel=2)
    return found.annotations()


def _date(text: str, path: PathLike, field: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            "expected a date", file=path, field=field, found=shown(text), expected="2020-03-24T11:21:46Z"
        ) from None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write a new folder with both tables; segments are widened to whole seconds, clicks go to the nearest.

    Args:
        annotations: what to write.
        path: the folder.
        media: video name to media file.
    """
    what = "a behaviour of Camtrap DP"
    names = [plain(n, path, what, without="|") for n in annotations.classes]
    files = {v.name: media_file(plain(v.name, path, what), media, path) for v in annotations}
    rows: list[list[str | float]] = []
    for video in annotations:
        spans = [(a := math.floor(s), max(math.ceil(e), a + 1), c) for s, e, c in segments_of(video)]
        spans += [(round(t), round(t), c) for t, c in clicks_of(video)]
        where = ["weaktal", video.name, ""]
        if video.empty:
            rows.append([f"o{len(rows)}", *where, _text(0), _text(0), "media", "blank", ""])
        for a, b, c in sorted(spans):
            about = [_text(a), _text(b), "media", "unclassified", names[c]]
            rows.append([f"o{len(rows)}", *where, *about])
    header = ["mediaID", "deploymentID", "timestamp", "filePath", "filePublic", "fileName", "fileMediatype"]
    listed = [[n, "weaktal", _text(0), f, "false", f, "video/mp4"] for n, f in files.items()]
    with whole_folder(Path(path)) as folder:
        write_rows(folder / OBSERVATIONS, COLUMNS, rows)
        write_rows(folder / MEDIA, header, listed)


def _text(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S%z")
