"""Segments of one video as text that players and editing programs read: SubRip, WebVTT, CMX 3600 EDL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weaktal.core.printable import printable


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


def _line(text: str) -> str:
    """A text as one line, never empty: a line break would begin another event."""
    return printable(text).strip() or "-"


# SubRip has no escapes, and players obey <font> and {\\an8}: brackets become others that look alike
_PLAIN = str.maketrans("<>{}", "\uff1c\uff1e\uff5b\uff5d")


def to_srt(cues: Sequence[Cue]) -> str:
    """SubRip subtitles.

    >>> print(to_srt([Cue(1.5, 62.25, "Jump")]), end="")
    1
    00:00:01,500 --> 00:01:02,250
    Jump
    """
    parts = [
        f"{i}\n{_clock(c.start, ',')} --> {_clock(c.end, ',')}\n{_line(c.text).translate(_PLAIN)}\n"
        for i, c in enumerate(cues, 1)
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
        text = _line(c.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts.append(f"{_clock(c.start, '.')} --> {_clock(c.end, '.')}\n{text}\n")
    return "\n".join(parts)


@dataclass(frozen=True)
class Timecode:
    """Counts frames as hours:minutes:seconds:frames.

    Attributes:
        base: frames in a second of the count, a whole number.
        drop: two (of 30) or four (of 60) numbers are left out every minute but each tenth, so that the count
            keeps up with the clock at 29.97 and 59.94 frames per second.
    """

    base: int
    drop: bool = False

    @property
    def _left_out(self) -> int:
        return self.base // 15 if self.drop else 0

    def text(self, frame: int) -> str:
        minute = 60 * self.base - self._left_out
        ten = 10 * minute + self._left_out
        tens, rest = divmod(frame, ten)
        frame += self._left_out * (9 * tens + max(0, (rest - self._left_out) // minute))
        seconds, frame = divmod(frame, self.base)
        hours = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{hours}{';' if self.drop else ':'}{frame:02}"

    def frame(self, text: str) -> int:
        """The frame that a time code names; 0 where it is none."""
        fields = re.fullmatch(r"(\d\d):(\d\d):(\d\d)[:;.](\d\d)", text.strip())
        if fields is None:
            return 0
        h, m, s, f = map(int, fields.groups())
        minutes = 60 * h + m
        return (60 * minutes + s) * self.base + f - self._left_out * (minutes - minutes // 10)


def counting(fps: float, constant: bool = True) -> tuple[int, float, bool]:
    """How time codes count at a rate: frames in a second of the count, and of the clock; is it NTSC?"""
    base = max(1, round(fps))
    ntsc = constant and abs(fps * 1001 / (1000 * base) - 1) < 1e-5
    return base, fps if ntsc or (constant and abs(fps / base - 1) < 1e-5) else base, ntsc


def to_edl(
    cues: Sequence[Cue],
    *,
    title: str,
    clip: str,
    fps: float,
    constant: bool = True,
    start: str | None = None,
) -> str:
    """An edit decision list that takes the segments out of the clip, one after the other.

    At a whole or NTSC rate (23.976, 29.97, 59.94, ...) time codes count the video's frames, in the nearest
    whole number a second. Other rates and variable ones have no time code of their own: seconds are the
    clock's, in frames of the nearest whole rate.

    Args:
        cues: the segments, seconds from the beginning of the file.
        title: of the list.
        clip: file name of the video.
        fps: frames per second of the video.
        constant: its rate does not vary.
        start: the time code that is embedded in the video, of its beginning; with ";" it drops frames.

    >>> print(to_edl([Cue(1.5, 3.0, "Jump")], title="demo", clip="a.mp4", fps=25), end="")
    TITLE: demo
    FCM: NON-DROP FRAME
    <BLANKLINE>
    001  AX       V     C        00:00:01:13 00:00:03:00 00:00:00:00 00:00:01:12
    * FROM CLIP NAME: a.mp4
    * COMMENT: Jump
    """
    base, rate, ntsc = counting(fps, constant)
    code = Timecode(base, drop=ntsc and base in (30, 60) and start is not None and ";" in start)
    first = code.frame(start) if start is not None else 0
    lines = [f"TITLE: {_line(title)}", f"FCM: {'' if code.drop else 'NON-'}DROP FRAME", ""]
    now = 0
    for i, c in enumerate(cues, 1):
        # half frames go up, so that a cut never begins before the segment
        begin, end = int(max(0.0, c.start) * rate + 0.5), int(max(0.0, c.end) * rate + 0.5)
        end = max(end, begin + 1)
        source = f"{code.text(first + begin)} {code.text(first + end)}"
        lines += [
            f"{i:03}  AX       V     C        {source} {code.text(now)} {code.text(now + end - begin)}",
            f"* FROM CLIP NAME: {_line(clip)}",
            f"* COMMENT: {_line(c.text)}",
        ]
        now += end - begin
    return "\n".join(lines) + "\n"
