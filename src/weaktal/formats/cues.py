"""Segments of one video as text that players and editing programs read: SubRip, WebVTT, CMX 3600 EDL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cue:
    """A segment with its caption, seconds."""

    start: float
    end: float
    text: str


def _clock(seconds: float, point: str) -> str:
    ms = max(0, round(1000 * seconds))
    hours, ms = divmod(ms, 3_600_000)
    minutes, ms = divmod(ms, 60_000)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{point}{ms % 1000:03}"


def to_srt(cues: Sequence[Cue]) -> str:
    """SubRip subtitles.

    >>> print(to_srt([Cue(1.5, 62.25, "Jump")]), end="")
    1
    00:00:01,500 --> 00:01:02,250
    Jump
    """
    parts = [
        f"{i}\n{_clock(c.start, ',')} --> {_clock(c.end, ',')}\n{c.text}\n" for i, c in enumerate(cues, 1)
    ]
    return "\n".join(parts)


def to_vtt(cues: Sequence[Cue]) -> str:
    """WebVTT subtitles.

    >>> print(to_vtt([Cue(1.5, 62.25, "Jump & run")]), end="")
    WEBVTT
    <BLANKLINE>
    00:00:01.500 --> 00:01:02.250
    Jump &amp; run
    """
    parts = ["WEBVTT\n"]
    for c in cues:
        text = c.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts.append(f"{_clock(c.start, '.')} --> {_clock(c.end, '.')}\n{text}\n")
    return "\n".join(parts)


def to_edl(cues: Sequence[Cue], *, title: str, clip: str, fps: float) -> str:
    """An edit decision list that takes the segments out of the clip, one after the other.

    Args:
        cues: the segments.
        title: of the list.
        clip: file name of the video.
        fps: frames per second of the video; timecode counts the nearest whole number of frames.

    >>> print(to_edl([Cue(1.5, 3.0, "Jump")], title="demo", clip="a.mp4", fps=25), end="")
    TITLE: demo
    FCM: NON-DROP FRAME
    <BLANKLINE>
    001  AX       V     C        00:00:01:13 00:00:03:00 00:00:00:00 00:00:01:12
    * FROM CLIP NAME: a.mp4
    * COMMENT: Jump
    """
    base = max(1, round(fps))

    def timecode(frame: int) -> str:
        seconds, frame = divmod(frame, base)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}"

    lines, now = [f"TITLE: {title}", "FCM: NON-DROP FRAME", ""], 0
    for i, c in enumerate(cues, 1):
        # half frames go up, so that a cut never begins before the segment
        start, end = int(c.start * fps + 0.5), int(c.end * fps + 0.5)
        end = max(end, start + 1)
        record = f"{timecode(now)} {timecode(now + end - start)}"
        lines += [
            f"{i:03}  AX       V     C        {timecode(start)} {timecode(end)} {record}",
            f"* FROM CLIP NAME: {clip}",
            f"* COMMENT: {c.text}",
        ]
        now += end - start
    return "\n".join(lines) + "\n"
