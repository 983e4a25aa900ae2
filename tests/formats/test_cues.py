"""Subtitles and edit decision lists: one event per segment, times as players and editing programs count."""

from __future__ import annotations

import pytest

from weaktal.formats.cues import Cue, to_edl, to_srt, to_vtt


def source(text: str) -> list[str]:
    """In and out points of the first event of an EDL."""
    return text.splitlines()[3].split()[4:6]


@pytest.mark.parametrize(
    ("seconds", "fps", "constant", "start", "codes"),
    [
        ((6.45, 8.0), 25, True, "10:00:00:00", ["10:00:06:11", "10:00:08:00"]),
        ((6.45, 8.0), 25, True, None, ["00:00:06:11", "00:00:08:00"]),
        ((0.0, 1.0), 25, True, "23:59:59:24", ["23:59:59:24", "00:00:00:24"]),
        # NTSC counts frames, 30 a second of the count: an hour of the clock is 107,892 frames
        ((3600.0, 3601.0), 30_000 / 1001, True, None, ["00:59:56:12", "00:59:57:12"]),
        ((3600.0, 3601.0), 30_000 / 1001, True, "00:00:00;00", ["01:00:00;00", "01:00:01;00"]),
        ((60.06, 61.0), 30_000 / 1001, True, "00:00:00;00", ["00:01:00;02", "00:01:01;00"]),
        ((600.6, 601.0), 60_000 / 1001, True, "00:00:00;00", ["00:10:00;36", "00:10:01;00"]),
        # no time code of their own: seconds are the clock's
        ((100.0, 200.0), 29.55, False, None, ["00:01:40:00", "00:03:20:00"]),
        ((100.0, 200.0), 19.62, True, None, ["00:01:40:00", "00:03:20:00"]),
        ((1.0, 2.0), 25, True, "no time code", ["00:00:01:00", "00:00:02:00"]),
    ],
)
def test_time_codes(
    seconds: tuple[float, float], fps: float, constant: bool, start: str | None, codes: list[str]
) -> None:
    text = to_edl([Cue(*seconds, "Jump")], title="t", clip="c.mp4", fps=fps, constant=constant, start=start)
    assert source(text) == codes
    assert ("FCM: DROP FRAME" in text) == (start is not None and ";" in start)


def test_drop_frame_names_every_frame_once() -> None:
    cues = [Cue(k * 1001 / 30_000, (k + 1) * 1001 / 30_000, "x") for k in range(17_900, 18_100)]
    text = to_edl(cues, title="t", clip="c", fps=30_000 / 1001, start="00:00:00;00")
    ins = [line.split()[4] for line in text.splitlines() if line[:3].isdigit()]
    assert len(set(ins)) == 200
    assert "00:09:59;29" in ins
    assert "00:10:00;00" in ins  # nothing is left out at a tenth minute
    assert not {f"00:0{m}:00;0{k}" for m in range(1, 10) for k in (0, 1)} & set(ins)


def test_a_text_is_one_line_and_says_nothing_to_players() -> None:
    bad = "Jump\n002  AX  V  C  01:00\r\n\n3\n00:00:00,000 --> 00:00:09,000\n<font color=red>{\\an8}&"
    cues = [Cue(0, 1, bad), Cue(1, 2, "\n"), Cue(2, 3, "Run")]
    assert len(to_srt(cues).split("\n\n")) == 3
    assert not set("<{}") & set(to_srt(cues).replace(" --> ", ""))
    assert to_srt(cues).count(" --> ") == 3
    vtt = to_vtt(cues)
    assert len(vtt.split("\n\n")) == 4
    assert vtt.count(" --> ") == 3
    assert "&lt;font color=red&gt;" in vtt
    edl = to_edl(cues, title="a\nb", clip="c\n004  AX\udcff.mp4", fps=25)
    assert len(edl.splitlines()) == 3 + 3 * 3
    assert sum(line[:3].isdigit() for line in edl.splitlines()) == 3
    assert "* FROM CLIP NAME: c\\n004  AX\\xff.mp4" in edl
