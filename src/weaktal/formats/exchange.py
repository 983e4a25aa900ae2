"""The formats of other annotation tools in one table: how their files end, and what each can hold."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from weaktal.core import Annotations, CoverageWarning, InputError, did_you_mean
from weaktal.core.reading import parse_json, read_text

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A format of another tool.

    Attributes:
        name: as ``--from`` and ``--to`` take it.
        title: for people.
        suffixes: how its files end, in lower case; the first is the usual one.
        module: of `weaktal.formats`, with the functions of the next two names.
        reader: ``(path, fps) -> Annotations``.
        writer: ``(annotations, path, media)``.
        one_video: a file holds one video, so that several are a folder of files.
        segments, clicks, tags: whether it holds them; tags are labels of a whole video.
        empty: it holds videos in which nothing is annotated.
        nothing: it says that nothing occurs in a video, which is more than that nothing is annotated.
        frames: it counts frames, so that frame rates must be known.
        durations: it says how long videos are; without one, the last annotation ends the video.
        resolution: of its times, in words.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    module: str
    reader: str = "read"
    writer: str = "write"
    one_video: bool = False
    segments: bool = True
    clicks: bool = False
    tags: bool = False
    empty: bool = True
    nothing: bool = False
    frames: bool = False
    durations: bool = False
    resolution: str = "exact"

    @property
    def folder(self) -> bool:
        """Whether several videos are written as a folder."""
        return self.one_video or self.name == "camtrap-dp"


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format("boris", "BORIS project", (".boris",), "boris", clicks=True),
        Format(
            "boris-events", "BORIS events (TSV or CSV)", (".tsv",), "boris", "read_events", "write_events",
            clicks=True, empty=False,
        ),
        Format("elan", "ELAN", (".eaf",), "elan", one_video=True, resolution="1 ms"),
        Format(
            "label-studio", "Label Studio (JSON)", (), "label_studio",
            clicks=True, tags=True, frames=True, resolution="a frame",
        ),
        Format(
            "cvat", "CVAT for video (XML)", (".xml",), "cvat",
            one_video=True, clicks=True, frames=True, durations=True, resolution="a frame",
        ),
        Format("via", "VIA 3 (JSON)", (), "via", clicks=True, tags=True),
        Format("fiftyone", "FiftyOne temporal detections (JSON)", (), "fiftyone"),
        Format("srt", "SubRip subtitles", (".srt",), "subtitles", one_video=True, resolution="1 ms"),
        Format(
            "vtt", "WebVTT subtitles", (".vtt",), "subtitles", writer="write_vtt",
            one_video=True, resolution="1 ms",
        ),
        Format(
            "edl", "edit decision list", (".edl",), "edl", one_video=True, frames=True, resolution="a frame"
        ),
        Format(
            "fcpxml", "Final Cut Pro (FCPXML)", (".fcpxml",), "fcpxml",
            clicks=True, frames=True, durations=True, resolution="a frame",
        ),
        Format(
            "textgrid", "Praat TextGrid", (".textgrid",), "textgrid",
            one_video=True, clicks=True, durations=True, resolution="1 ms",
        ),
        Format(
            "audacity", "Audacity labels", (".txt",), "audacity",
            one_video=True, clicks=True, resolution="1 µs",
        ),
        Format(
            "camtrap-dp", "Camtrap DP observations", (), "camtrap",
            clicks=True, nothing=True, resolution="1 s",
        ),
        Format(
            "frame-table", "table of frames (CSV)", (), "frame_table",
            one_video=True, frames=True, durations=True, resolution="a frame",
        ),
    )
}  # fmt: skip
# a suffix that says which format of these is to be written; .xml, .txt, .json and .csv may be others
BY_SUFFIX = {s: f.name for f in FORMATS.values() for s in f.suffixes if s not in (".xml", ".txt")}


def get_format(name: str) -> Format:
    """The format of that name; an `InputError` with the nearest known one otherwise."""
    if name not in FORMATS:
        raise InputError(
            "no such format",
            found=repr(name),
            expected=" or ".join(FORMATS),
            hint=did_you_mean(name, FORMATS),
        )
    return FORMATS[name]


def read(path: PathLike, format: str, fps: Mapping[str, float] | float | None = None) -> Annotations:
    """Annotations of a file or folder of a format.

    Args:
        path: the file; of formats that hold one video also a folder of files.
        format: a key of `FORMATS`.
        fps: frame rates, one or by video name; they go before those that a file carries.

    Raises:
        InputError: anything that is not as the format says, with the place.

    Warns:
        CoverageWarning: what was left out.
    """
    entry = get_format(format)
    function: Callable[..., Annotations] = getattr(_module(entry), entry.reader)
    return function(path, fps)


def write(
    annotations: Annotations, path: PathLike, format: str, media: Mapping[str, str] | None = None
) -> None:
    """Write annotations in a format.

    Args:
        annotations: what to write.
        path: a file, or of formats that hold one video a folder.
        format: a key of `FORMATS`.
        media: video name to media file, as the other tool is to open it; by default the names.

    Raises:
        InputError: what the format cannot hold at all.

    Warns:
        CoverageWarning: what it leaves out, with counts.
    """
    entry = get_format(format)
    for what in _left_out(annotations, entry):
        warnings.warn(f"{path}: {entry.title} holds no {what}", CoverageWarning, stacklevel=2)
    function: Callable[..., None] = getattr(_module(entry), entry.writer)
    function(annotations, path, media)


def _module(entry: Format) -> object:
    return import_module(f"weaktal.formats.{entry.module}")


def _left_out(annotations: Annotations, entry: Format) -> list[str]:
    """What a format has no place for, in words with counts."""
    clicks = sum(len(v.points) for v in annotations if v.points is not None)
    segments = sum(len(v.instances) for v in annotations)
    tagged = ignored = empty = nothing = open_ = 0
    for v in annotations:
        known = set(v.instances.label.tolist()) if entry.segments else set()
        if entry.clicks and v.points is not None:
            known |= set(v.points.label.tolist())
        tagged += bool(set(v.labels) - known)
        ignored += len(v.ignored)
        empty += not known
        nothing += v.empty
        open_ += bool(v.labels) and not v.complete
    unknown = sum(v.duration is None for v in annotations)
    counts = (
        (not entry.clicks, clicks, "clicks"),
        (not entry.segments, segments, "segments"),
        (not entry.tags, tagged, "labels of whole videos without a segment or click"),
        (True, ignored, "ambiguous intervals"),
        (not entry.empty, empty, "videos without annotations"),
        (entry.empty and not entry.nothing, nothing, "statements that nothing occurs in a video"),
        (True, open_, "statements that other classes may occur in a video"),
        (entry.durations, unknown, "unknown durations (the last annotation is taken for the end)"),
    )
    return [f"{what}: {n} left out" if "unknown" not in what else f"{what}: {n} videos"
            for lacks, n, what in counts if lacks and n]  # fmt: skip


def format_of(path: PathLike) -> str | None:
    """The format of a file or folder, found by looking; None if it is none of these.

    Raises:
        InputError: a file that cannot be read, or malformed JSON.
    """
    path = Path(path)
    if path.is_dir():
        return _format_of_folder(path)
    suffix = path.suffix.lower()
    if suffix in BY_SUFFIX and suffix != ".tsv":
        return BY_SUFFIX[suffix]
    if suffix not in (".xml", ".json", ".csv", ".tsv", ".txt"):
        return None
    text = read_text(path)
    if suffix == ".xml":
        start = text[:4000]
        return "cvat" if "<annotations" in start else "fcpxml" if "<fcpxml" in start else None
    if suffix == ".json":
        return _format_of_json(text, path)
    lines = [line for line in text[:8000].split("\n") if line.strip()][:40]
    return _format_of_table(lines)


def _format_of_json(text: str, path: Path) -> str | None:
    if re.search(r'"(database|results)"\s*:', text):  # ours, and large ones are not to be read twice
        return None
    if not any(f'"{word}"' in text for word in ("data", "behaviors_conf", "metadata", "samples", "labels")):
        return None
    from weaktal.formats import boris, fiftyone, label_studio, via

    document = parse_json(text, path)
    looks = {
        "boris": boris.looks_like,
        "via": via.looks_like,
        "fiftyone": fiftyone.looks_like,
        "label-studio": label_studio.looks_like,
    }
    return next((name for name, like in looks.items() if like(document)), None)


def _format_of_table(lines: list[str]) -> str | None:
    from weaktal.formats import audacity, boris, camtrap, frame_table

    if not lines:
        return None
    if camtrap.is_header(lines[0]):
        return "camtrap-dp"
    if any(boris.is_events_header(line) for line in lines):
        return "boris-events"
    if frame_table.is_header(lines[0]):
        return "frame-table"
    return "audacity" if audacity.is_label(lines[0]) else None


def _format_of_folder(path: Path) -> str | None:
    if (path / "observations.csv").is_file():
        return "camtrap-dp"
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")][:1000]
    one = {name for f in FORMATS.values() if f.one_video for name in (f.name,)}
    for file in files:
        found = format_of(file)
        if found in one:
            return found
    return None
