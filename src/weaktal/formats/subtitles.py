"""SubRip (``.srt``) and WebVTT (``.vtt``): a cue per segment, its text the class. One video a file; ms."""

from __future__ import annotations

import html
import re
from pathlib import Path

from weaktal.core import Annotations, InputError, Video, shown
from weaktal.core.reading import PathLike, read_text
from weaktal.formats.cues import Cue, to_srt, to_vtt
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    plain,
    read_each,
    segments_of,
    write_each,
)

SUFFIXES = (".srt", ".vtt")
_CLOCK = r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them; styles, positions and notes are passed over.

    Raises:
        InputError: a cue without a text, a line that belongs to nothing, times that are none.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        found.video(name, fps=Rates(fps, file).find(name))
        for line, cue in parse(read_text(file), file):
            found.segment(name, cue.start, cue.end, cue.text, f"line {line}")

    return read_each(path, SUFFIXES, one)


def parse(text: str, path: PathLike) -> list[tuple[int, Cue]]:
    """Cues with the numbers of their first lines, in the order of the file."""
    lines = text.split("\n")
    vtt = lines[0].startswith("WEBVTT")
    cues = []
    i = 0
    while i < len(lines):
        first = i
        while i < len(lines) and lines[i].strip():
            i += 1
        block, i = lines[first:i], i + 1
        if not block or (vtt and (first == 0 or re.match(r"(NOTE|STYLE|REGION)\b", block[0]))):
            continue
        at = next((k for k, line in enumerate(block[:2]) if "-->" in line), None)
        if at is None:
            raise InputError(
                "a block that is no cue", file=path, field=f"line {first + 1}", found=shown(block[0], 80),
                expected="00:00:01,000 --> 00:00:02,000 and a text",
            )  # fmt: skip
        field = f"line {first + 1 + at}"
        times = _TIMES.fullmatch(block[at])
        if times is None:
            raise InputError("no times of a cue", file=path, field=field, found=shown(block[at], 80))
        caption = " ".join(_TAGS.sub("", line).strip() for line in block[at + 1 :])
        caption = (html.unescape(caption) if vtt else caption).strip()
        if not caption:
            raise InputError("a cue without a text", file=path, field=field, found=shown(block[at], 80))
        parts = times.groups()
        start, end = (_seconds(parts[k : k + 4]) for k in (0, 4))
        cues.append((first + 1 + at, Cue(start, end, caption)))
    return cues


def _seconds(parts: tuple[str | None, ...]) -> float:
    h, m, s, ms = (int(p or 0) for p in (*parts[:3], (parts[3] or "").ljust(3, "0")))
    return (1000 * (3600 * h + 60 * m + s) + ms) / 1000


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """SubRip, one file a video; `path` is a folder, or the file of one video."""

    def text(video: Video, file: Path) -> str:
        return to_srt(_cues(video, annotations.classes, file, "SubRip", "<>{}"))

    write_each(annotations, path, ".srt", text)


def write_vtt(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """WebVTT, one file a video; `path` is a folder, or the file of one video."""

    def text(video: Video, file: Path) -> str:
        return to_vtt(_cues(video, annotations.classes, file, "WebVTT", ""))

    write_each(annotations, path, ".vtt", text)


def _cues(video: Video, names: tuple[str, ...], path: Path, what: str, without: str) -> list[Cue]:
    rows = sorted(segments_of(video))
    return [Cue(s, e, plain(names[c], path, what, without=without)) for s, e, c in rows]
