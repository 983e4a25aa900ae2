"""BORIS: projects (``.boris``, JSON) and their tabular and aggregated exports of events (TSV or CSV).

Point events are clicks, and state events are segments. A behaviour of BORIS is one or the other: of a class
with both, the clicks are of a second behaviour, named like the class with " (click)" behind it. Segments of
a class that overlap are those of several subjects, as BORIS has one event of a behaviour and subject at a
time. Seconds; BORIS itself keeps thousandths.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

from weaktal.core import Annotations, CoverageWarning, InputError, shown, write_text
from weaktal.core.reading import PathLike, kind, number, read_mapping, read_text
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    border,
    clicks_of,
    layers,
    media_file,
    plain,
    segments_of,
    video_name,
)

CLICK = " (click)"
WHAT = "a BORIS project"


def looks_like(document: object) -> bool:
    """Whether a JSON document is a project."""
    return isinstance(document, dict) and "behaviors_conf" in document


# -------------------------------------------------------------------------------------- projects


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a project; a video is a media file of the first player, or an observation without one.

    Raises:
        InputError: anything that is not as BORIS writes it, with the place.

    Warns:
        CoverageWarning: state events that never stop; several observations of one video, which are named by
            observation.
    """
    document = read_mapping(path)
    behaviours, types = _ethogram(document, path)
    observations = document.get("observations")
    if not isinstance(observations, dict):
        raise InputError(
            "no observations", file=path, found=kind(observations), expected="an object 'observations'"
        )
    found = Gathered(path, dict.fromkeys(behaviours.values()))
    media = {id_: _media(entry, path, f"observations.{id_}") for id_, entry in observations.items()}
    names = {id_: [video_name(m, path) for m in files] or [id_] for id_, files in media.items()}
    count = Counter(name for listed in names.values() for name in listed)
    shared = [name for name, n in count.items() if n > 1]
    if shared:
        warnings.warn(
            f"{path}: {shown(shared[0])} is in several observations, which are named by observation",
            CoverageWarning,
            stacklevel=2,
        )
    open_events = 0
    for id_, entry in observations.items():
        where = f"observations.{id_}"
        again = any(name in shared for name in names[id_])
        listed = [id_ if len(names[id_]) == 1 else f"{id_} {n}" for n in names[id_]] if again else names[id_]
        lengths = [_about(entry, "length", m, path, where) for m in media[id_]] or [None]
        rates = [_about(entry, "fps", m, path, where) for m in media[id_]] or [None]
        for name, length, rate in zip(listed, lengths, rates, strict=True):
            found.video(name, where=where, duration=length, fps=Rates(fps, path).find(name, rate))
        place = _Places(listed, lengths, path)
        events = entry.get("events", [])
        if not isinstance(events, list):
            raise InputError("expected a list", file=path, field=f"{where}.events", found=kind(events))
        running: dict[tuple[str, str], float] = {}
        rows = []
        for i, event in enumerate(events):
            field = f"{where}.events[{i}]"
            if not isinstance(event, list) or len(event) < 3:
                raise InputError("expected an event", file=path, field=field, found=kind(event))
            rows.append((number(event[0], file=path, field=field), str(event[1]), event[2], field))
        for time, subject, code, field in sorted(rows, key=lambda row: row[0]):
            if not isinstance(code, str) or code not in types:
                raise InputError(
                    "a behaviour that the project lacks", file=path, field=field, found=kind(code)
                )
            if types[code]:
                place.click(found, time, behaviours[code], field)
            elif (start := running.pop((subject, code), None)) is None:
                running[subject, code] = time
            else:
                place.segment(found, start, time, behaviours[code], field)
        open_events += len(running)
    if open_events:
        warnings.warn(
            f"{path}: {open_events} state events never stop and are left out", CoverageWarning, stacklevel=2
        )
    return found.annotations()


def _ethogram(document: dict[str, Any], path: PathLike) -> tuple[dict[str, str], dict[str, bool]]:
    """Codes to classes, and whether they are point events."""
    listed = document.get("behaviors_conf")
    if not isinstance(listed, dict):
        raise InputError(
            "no BORIS project", file=path, found=kind(listed), expected="an object 'behaviors_conf'"
        )
    types: dict[str, bool] = {}
    for key, behaviour in listed.items():
        field = f"behaviors_conf.{key}"
        code = behaviour.get("code") if isinstance(behaviour, dict) else None
        type_ = str(behaviour.get("type", "")).lower() if isinstance(behaviour, dict) else ""
        if not isinstance(code, str) or not type_.startswith(("point", "state")):
            raise InputError(
                "expected a behaviour", file=path, field=field, found=kind(behaviour),
                expected="'code' and 'type', which is 'Point event' or 'State event'",
            )  # fmt: skip
        types[code] = type_.startswith("point")
    return {code: _class(code, types) for code in types}, types


def _class(code: str, types: dict[str, bool]) -> str:
    whole = code.removesuffix(CLICK)
    return whole if types[code] and whole != code and types.get(whole) is False else code


def _media(entry: object, path: PathLike, where: str) -> list[str]:
    if not isinstance(entry, dict):
        raise InputError("expected an object", file=path, field=where, found=kind(entry))
    files = entry.get("file") or {}
    first = (files.get("1") or []) if isinstance(files, dict) else []
    if not isinstance(first, list) or not all(isinstance(m, str) for m in first):
        raise InputError("expected media files", file=path, field=f"{where}.file.1", found=kind(first))
    return first


def _about(entry: dict[str, Any], what: str, media: str, path: PathLike, where: str) -> float | None:
    info = entry.get("media_info")
    table = info.get(what) if isinstance(info, dict) else None
    value = table.get(media) if isinstance(table, dict) else None
    return None if value is None else number(value, file=path, field=f"{where}.media_info.{what}")


class _Places:
    """Files that one player shows one after the other, on one clock."""

    def __init__(self, names: list[str], lengths: list[float | None], path: PathLike) -> None:
        self.names, self.path = names, path
        self.begin = [0.0]
        for length in lengths[:-1]:
            if length is None:
                raise InputError(
                    "the length of a media file is not known, and others follow it", file=path, field=names[0]
                )
            self.begin.append(self.begin[-1] + length)

    def at(self, time: float) -> int:
        return max(i for i, begin in enumerate(self.begin) if begin <= time or i == 0)

    def click(self, found: Gathered, time: float, label: str, where: str) -> None:
        i = self.at(time)
        found.click(self.names[i], time - self.begin[i], label, where)

    def segment(self, found: Gathered, start: float, end: float, label: str, where: str) -> None:
        first, last = self.at(start), self.at(end)
        if last > first and end == self.begin[last]:
            last -= 1
        if first != last:
            raise InputError(
                "a state event goes on from one media file into the next",
                file=self.path, field=where, found=[start, end], hint="stop it where the file ends",
            )  # fmt: skip
        found.segment(self.names[first], start - self.begin[first], end - self.begin[first], label, where)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write a project: one observation a video, of its name.

    Args:
        annotations: what to write.
        path: the file.
        media: video name to media file, as BORIS is to open it.
    """
    names, codes, both = annotations.classes, {}, set[int]()
    points = {c for v in annotations for _, c in clicks_of(v)}
    states = {c for v in annotations for *_, c in segments_of(v)}
    behaviours = []
    for c, name in enumerate(names):
        plain(name, path, WHAT, without="|")
        if c in states or c not in points:
            behaviours.append((name, "State event"))
        if c in points:
            codes[c] = name + CLICK if c in states else name
            behaviours.append((codes[c], "Point event"))
            both |= {c} & states
    for c in both:
        if codes[c] in names:
            raise InputError(
                "a class has the name that BORIS needs for clicks", file=path, found=shown(codes[c])
            )
    observations: dict[str, Any] = {}
    subjects: dict[str, None] = {}
    for video in annotations:
        file = media_file(video.name, media, path)
        events: list[list[Any]] = []
        for c in sorted(states):
            for k, row in enumerate(layers((s, e) for s, e, label in segments_of(video) if label == c)):
                subject = "" if k == 0 else f"at the same time {k + 1}"
                subjects |= {subject: None} if subject else {}
                events += [[t, subject, names[c], "", ""] for span in row for t in span]
        events += [[t, "", codes[c], "", ""] for t, c in clicks_of(video)]
        events.sort(key=lambda e: e[0])
        if video.fps is not None:
            events = [[*e, border(e[0], video.fps)] for e in events]
        info = {
            "length": {} if video.duration is None else {file: video.duration},
            "fps": {} if video.fps is None else {file: video.fps},
            "hasVideo": {file: True},
            "hasAudio": {file: False},
            "offset": {str(i): 0.0 for i in range(1, 9)},
        }
        observations[video.name] = {
            "file": {str(i): [file] if i == 1 else [] for i in range(1, 9)},
            "type": "MEDIA",
            "date": "1970-01-01T00:00:00",
            "description": "",
            "time offset": 0,
            "events": events,
            "observation time interval": [0, 0],
            "independent_variables": {},
            "visualize_spectrogram": False,
            "visualize_waveform": False,
            "close_behaviors_between_videos": False,
            "media_info": info,
        }
    document = {
        "time_format": "hh:mm:ss",
        "project_date": "1970-01-01T00:00:00",
        "project_name": "WeakTAL",
        "project_description": "",
        "project_format_version": "7.0",
        "subjects_conf": {
            str(i): {"key": "", "name": name, "description": ""} for i, name in enumerate(subjects)
        },
        "behaviors_conf": {
            str(i): {
                "type": type_, "key": "", "code": code, "description": "", "category": "",
                "modifiers": {}, "excluded": "", "coding map": "",
            }
            for i, (code, type_) in enumerate(behaviours)
        },
        "observations": observations,
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }  # fmt: skip
    write_text(path, json.dumps(document, indent=1) + "\n")


# --------------------------------------------------------------------------------- tabular events

SPELLINGS = {
    "observation": ("observation id",),
    "media": ("media file name", "media file path", "media file"),
    "length": ("media duration (s)", "total length"),
    "fps": ("fps (frame/s)", "fps"),
    "subject": ("subject",),
    "label": ("behavior",),
    "kind": ("behavior type", "status"),
    "time": ("time",),
    "start": ("start (s)",),
    "stop": ("stop (s)",),
}
COLUMNS = [
    "Observation id", "Media file name", "Media duration (s)", "FPS (frame/s)", "Subject", "Behavior",
    "Behavior type", "Start (s)", "Stop (s)", "Duration (s)",
]  # fmt: skip


def _header(line: str) -> tuple[str, dict[str, int]]:
    """The delimiter and the columns that a line names; none if it is no header of events."""
    for delimiter in "\t,;":
        cells = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
        place = {
            ours: next(cells.index(s) for s in spellings if s in cells)
            for ours, spellings in SPELLINGS.items()
            if any(s in cells for s in spellings)
        }
        if {"label", "kind"} <= place.keys() and ("time" in place or {"start", "stop"} <= place.keys()):
            return delimiter, place
    return "", {}


def is_events_header(line: str) -> bool:
    """Whether a line is the header of an export of events."""
    return bool(_header(line)[1])


def read_events(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of an export of events, tabular (one row an event) or aggregated (one row a segment).

    Raises:
        InputError: no such table; an observation of several media files, as their lengths are not told.

    Warns:
        CoverageWarning: state events that never stop.
    """
    lines = read_text(path).split("\n")
    head = next((i for i, line in enumerate(lines) if is_events_header(line)), None)
    if head is None:
        raise InputError(
            "no export of events from BORIS",
            file=path,
            found=shown(lines[0], 80),
            expected="a header with Behavior, Behavior type and Time, or Start (s) and Stop (s)",
        )
    delimiter, place = _header(lines[head])
    found, running = Gathered(path), dict[tuple[str, str, str], float]()
    observation = next(
        (x[1] for x in (s.split(delimiter) for s in lines[:head]) if x[0] == "Observation id"), ""
    )
    media_of: dict[str, str] = {}
    for i, line in enumerate(lines[head + 1 :], head + 2):
        if not line.strip():
            continue
        field = f"line {i}"
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise InputError(f"quotes that cannot be read: {error}", file=path, field=field) from None
        row = {k: cells[at].strip() if at < len(cells) else "" for k, at in place.items()}
        media = row.get("media", "")
        key = row.get("observation") or observation or media
        name = video_name(media or key or "observation", path, field)
        if key in media_of and media_of[key] != name:
            raise InputError(
                "an observation of several media files, whose lengths are not told here", file=path,
                field=field, found=shown(key), hint="read the .boris project itself",
            )  # fmt: skip
        if key not in media_of:
            media_of[key] = name
            length, rate = _optional(row.get("length"), path, field), _optional(row.get("fps"), path, field)
            if name not in found.videos:
                found.video(name, where=field, duration=length, fps=Rates(fps, path).find(name, rate))
            elif key:
                raise InputError(
                    "a video in several observations", file=path, field=field, found=shown(name),
                    hint="export them one at a time",
                )  # fmt: skip
        _event(found, name, row, running, field)
    if running:
        warnings.warn(
            f"{path}: {len(running)} state events never stop and are left out", CoverageWarning, stacklevel=2
        )
    return found.annotations()


def _event(
    found: Gathered, name: str, row: dict[str, str], running: dict[tuple[str, str, str], float], field: str
) -> None:
    sort, label = row["kind"].upper(), row["label"]
    key = (name, row.get("subject", ""), label)
    if sort.startswith("POINT"):
        found.click(name, row.get("time") or row.get("start"), label, field)
    elif sort.startswith("STATE") and row.get("start"):
        found.segment(name, row["start"], row["stop"], label, field)
    elif sort == "START":
        if key in running:
            raise InputError("a state event starts twice", file=found.path, field=field, found=shown(label))
        running[key] = number(row.get("time"), file=found.path, field=field)
    elif sort == "STOP":
        if key not in running:
            raise InputError(
                "a state event stops that did not start", file=found.path, field=field, found=shown(label)
            )
        found.segment(name, running.pop(key), row.get("time"), label, field)
    else:
        raise InputError(
            "no type of event", file=found.path, field=field, found=shown(row["kind"]),
            expected="POINT, START, STOP or STATE",
        )  # fmt: skip


def _optional(text: str | None, path: PathLike, field: str) -> float | None:
    return None if text in (None, "", "NA") else number(text, file=path, field=field)


def write_events(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write aggregated events, one row a segment or click, between tabs (commas if `path` ends in .csv)."""
    from io import StringIO

    out = StringIO()
    table = csv.writer(
        out, delimiter="," if str(path).lower().endswith(".csv") else "\t", lineterminator="\n"
    )
    table.writerow(COLUMNS)
    names = annotations.classes
    for video in annotations:
        file = plain(media_file(video.name, media, path), path, "a table")
        about = ["NA" if x is None else repr(x) for x in (video.duration, video.fps)]
        head = [plain(video.name, path, "a table"), file, *about, "No focal subject"]
        rows: Iterable[tuple[float, float | None, int]] = [
            *segments_of(video),
            *((t, None, c) for t, c in clicks_of(video)),
        ]
        for start, end, c in sorted(rows, key=lambda r: r[0]):
            label = plain(names[c], path, "a table")
            if end is None:
                table.writerow([*head, label, "POINT", repr(start), repr(start), "NA"])
            else:
                table.writerow([*head, label, "STATE", repr(start), repr(end), repr(end - start)])
    write_text(path, out.getvalue())
