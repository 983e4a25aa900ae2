"""Edit decision lists (CMX 3600, ``.edl``): an event per segment. One video a file; frames.

The class of an event is its comment, or where it has none the name of its clip. Written by `cues.to_edl`.
"""

from __future__ import annotations

import re
from pathlib import Path

from weaktal.core import Annotations, InputError, Video, shown
from weaktal.core.reading import PathLike, read_text
from weaktal.formats.cues import Cue, Timecode, counting, to_edl
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    media_file,
    plain,
    read_each,
    segments_of,
    video_name,
    write_each,
)

SUFFIXES = (".edl",)
_EVENT = re.compile(r"\d{1,6}\s+\S.*?\s(\S+)\s+(?:C|D\s+\d+|W\d*\s+\d+|KB?\S*(?:\s+\d+)?)((?:\s+\S+){4})\s*")
_CODE = re.compile(r"\d\d:\d\d:\d\d[:;.]\d\d")
_NOTE = re.compile(r"\*\s*(FROM CLIP NAME|FROM CLIP|SOURCE FILE|COMMENT)\s*:\s*(.*)", re.IGNORECASE)


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them: source in and out points, from the time code 0 on.

    Args:
        path: the file or folder.
        fps: frames per second, which the format does not carry.

    Raises:
        InputError: no frame rate; events that cannot be read; an event without a comment and a clip name.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        rates, drop = Rates(fps, file), False
        events: list[tuple[int, str, str, bool, dict[str, str]]] = []
        for line, text in enumerate(read_text(file).split("\n"), 1):
            if text.upper().startswith("FCM:"):
                drop = "NON" not in text.upper()
            elif note := _NOTE.match(text):
                if events:
                    events[-1][4].setdefault(note[1].upper(), note[2].strip())
            elif re.match(r"\d{1,6}\s", text):
                event = _EVENT.fullmatch(text)
                codes = event[2].split() if event else []
                if event is None or not all(_CODE.fullmatch(c) for c in codes):
                    raise InputError(
                        "this event cannot be read", file=file, field=f"line {line}", found=shown(text, 80)
                    )
                if "V" in event[1].upper() or event[1].upper() == "B":
                    events.append((line, codes[0], codes[1], drop, {}))
        if not events:
            found.video(name, fps=rates.find(name))
        for line, first, last, dropped, notes in events:
            source = notes.get("FROM CLIP") or notes.get("SOURCE FILE")
            video = video_name(source, file) if source else name
            base, rate, ntsc = counting(rates.of(video))
            code = Timecode(base, drop=dropped and ntsc and base in (30, 60))
            if video not in found.videos:
                found.video(video, fps=rates.of(video))
            label = notes.get("COMMENT") or notes.get("FROM CLIP NAME")
            start, end = (code.frame(c) / rate for c in (first, last))
            found.segment(video, start, end, label, f"line {line}")

    return read_each(path, SUFFIXES, one)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file a video; `path` is a folder, or the file of one video.

    Raises:
        InputError: a video without a frame rate.
    """

    def text(video: Video, file: Path) -> str:
        fps = Rates(None, file).of(video.name, video.fps)
        cues = [
            Cue(s, e, plain(annotations.classes[c], file, "an EDL")) for s, e, c in sorted(segments_of(video))
        ]
        return to_edl(cues, title=video.name, clip=media_file(video.name, media, file), fps=fps)

    write_each(annotations, path, SUFFIXES[0], text)
