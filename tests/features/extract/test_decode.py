"""Any video, at the asked rate, upright, and a clear word about what is wrong."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from weaktal.core import InputError

pytest.importorskip("av")

import av

from tests.features.extract.media import (
    moving,
    number,
    numbered,
    picture,
    write_audio_only,
    write_sound,
    write_video,
)
from weaktal.features.extract.decode import VideoReader
from weaktal.features.extract.limits import Limits
from weaktal.features.extract.videos import find_videos


def numbers(reader: VideoReader) -> list[int]:
    """Which `picture` each frame shows."""
    return [round((float(f.mean()) - 20) / 8) for f in reader]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov", "a.ts"])
def test_frames_at_the_own_half_and_double_rate_in_any_container(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, [picture(k) for k in range(20)])
    assert numbers(VideoReader(path, 10)) == list(range(20))
    assert numbers(VideoReader(path, 5)) == list(range(0, 20, 2))
    assert numbers(VideoReader(path, 20)) == [k // 2 for k in range(40)]
    reader = VideoReader(path)
    assert numbers(reader) == list(range(20))
    assert reader.seconds == pytest.approx(2.0)
    assert reader.warnings == []


def test_variable_frame_rate_keeps_its_timing(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 1.2, 1.25, 1.3, 2.0, 2.1]
    path = write_video(tmp_path / "v.mkv", [picture(k) for k in range(8)], times=times)
    shown = numbers(VideoReader(path, 10))
    expected = [int(np.searchsorted(times, k / 10 + 1e-6, side="right")) - 1 for k in range(21)]
    assert shown[:21] == expected
    assert 21 <= len(shown) <= 23  # the last picture has no successor: its length is the container's guess


def test_frame_rates_that_do_not_divide(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [picture(k) for k in range(20)])
    assert numbers(VideoReader(path, 7)) == [int(k / 7 * 10 + 1e-3) for k in range(14)]


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_pictures_are_upright(tmp_path: Path, degrees: int) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = 255  # top left of what is stored
    path = write_video(tmp_path / "r.mp4", [image] * 4, rotation=degrees)
    frame = next(iter(VideoReader(path)))
    turned = np.rot90(image, degrees // 90)
    assert frame.shape == turned.shape
    assert np.abs(frame.astype(int) - turned).mean() < 8


def test_odd_sizes_sound_and_scaling(tmp_path: Path) -> None:
    path = write_video(tmp_path / "o.mp4", [picture(k, (63, 47)) for k in range(5)], sound=True)
    frames = list(VideoReader(path))
    assert len(frames) == 5
    assert {f.shape for f in frames} == {(47, 63, 3)}
    assert next(iter(VideoReader(path, long_side=32))).shape == (24, 32, 3)
    assert next(iter(VideoReader(path, short_side=94))).shape == (94, 126, 3)
    assert VideoReader(path).warnings == []


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "cut.mp4"])
def test_a_broken_tail_is_told(tmp_path: Path, name: str) -> None:
    whole = write_video(
        tmp_path / f"whole{Path(name).suffix}",
        [moving(k) for k in range(60)],
        options={"movflags": "faststart"} if name.endswith("mp4") else {},
    )
    data = whole.read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2])
    reader = VideoReader(path, 10)
    good = list(VideoReader(whole, 10))
    frames = list(reader)
    assert 15 < len(frames) < 45
    assert all(np.array_equal(a, b) for a, b in zip(frames[:-2], good, strict=False))
    if not name.endswith("ts"):  # a transport stream has no length to compare with
        assert any("s could not be decoded" in w or "breaks off" in w for w in reader.warnings)


def test_damage_in_the_middle_is_bridged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "d.mp4", [moving(k) for k in range(60)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    frames = list(VideoReader(path, 10))
    assert 58 <= len(frames) <= 61


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    empty, text, sound = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "sound.mp4"
    empty.touch()
    text.write_text("this is no video\n" * 100)
    write_audio_only(sound)
    cut = tmp_path / "cut.mp4"
    data = write_video(tmp_path / "v.mp4", [moving(k) for k in range(20)]).read_bytes()
    cut.write_bytes(data[: len(data) // 2])  # without faststart the index is at the end
    for path, words in (
        (empty, "the file is empty"),
        (text, "cannot be read as a video"),
        (sound, "no video in it: found audio only"),
        (cut, "cut off"),
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(InputError, match=words) as error:
            VideoReader(path)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="positive"):
        VideoReader(tmp_path / "v.mp4", 0)


def test_find_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt", "deep/c.webm", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos([tmp_path, tmp_path / "notes.txt", tmp_path / "b.mp4"])
    assert [p.name for p in found] == ["a.MKV", "b.mp4", "c.webm", "notes.txt"]
    (tmp_path / "deep/b.avi").touch()
    with pytest.raises(InputError, match="two videos of one name"):
        find_videos([tmp_path])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no video in this folder"):
        find_videos([tmp_path / "nothing"])


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_mirrored_pictures(tmp_path: Path, degrees: int, across: bool, down: bool) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16], image[-16:, :16] = 255, 120
    path = write_video(tmp_path / "m.mp4", [image] * 4, rotation=degrees, flips=(across, down))
    upright = np.rot90(image, degrees // 90)
    upright = upright[:, ::-1] if across else upright
    upright = upright[::-1] if down else upright
    frame = next(iter(VideoReader(path)))
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 8


def tracks(
    path: Path, *, cover: str, video: bool = True, sound: bool = False, cover_first: bool = True
) -> Path:
    """A video of ten numbered pictures with a cover; `cover` says how: attached, or a track of its own."""
    with av.open(str(path), "w") as new:
        streams = {}
        for kind in ("cover", "video") if cover_first else ("video", "cover"):
            if kind == "video" and not video:
                continue
            stream = new.add_stream("mjpeg" if kind == "cover" else "libx264", rate=10)
            stream.width, stream.height = (64, 48) if kind == "video" else (160, 120)
            stream.pix_fmt = "yuv420p" if kind == "video" else "yuvj420p"
            streams[kind] = stream
        streams["cover"].disposition = 0x400 if cover == "attached" else 0
        audio = new.add_stream("aac", rate=8000) if sound else None
        for kind, stream in streams.items():
            for k in range(10 if kind == "video" else 1):
                size = (stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(
                    numbered(k if kind == "video" else 99, size), format="rgb24"
                )
                frame.pts, frame.time_base = k, Fraction(1, 10)
                new.mux(stream.encode(frame))
            new.mux(stream.encode())
        if audio is not None:
            write_sound(new, audio, 2)
    return path


@pytest.mark.parametrize("cover", ["attached", "track"])
@pytest.mark.parametrize("first", [True, False])
def test_covers_are_no_videos(tmp_path: Path, cover: str, first: bool) -> None:
    path = tracks(tmp_path / "c.mkv", cover=cover, cover_first=first, sound=True)
    assert [number(f) for f in VideoReader(path)] == list(range(10))


def test_sound_with_a_picture_is_sound_only(tmp_path: Path) -> None:
    path = tracks(tmp_path / "song.mp4", cover="attached", video=False, sound=True)
    with pytest.raises(
        InputError, match="no video in it: found audio only and an attached picture; it is sound only"
    ):
        VideoReader(path)


def test_a_header_that_says_too_little_cuts_nothing_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(100)])
    data = bytearray(path.read_bytes())
    for box, at in ((b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)):
        place = data.index(box) + at
        data[place : place + 4] = (int.from_bytes(data[place : place + 4]) // 10).to_bytes(4)
    edits = data.index(b"elst")
    data[edits : edits + 4] = b"free"  # FFmpeg's muxer writes the length there, too
    path.write_bytes(data)
    reader = VideoReader(path)
    assert [number(f) for f in reader] == list(range(100))
    assert reader.info.duration == pytest.approx(10)
    assert reader.warnings == ["the header says 1.00 s, the packets 10.00 s: the packets count"]


def test_lost_packets_are_bridged_and_told(tmp_path: Path) -> None:
    """A hole in a transport stream: the packets from the 40th to the 59th picture are gone."""
    whole = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(100)], keyframes=10)
    path = tmp_path / "hole.ts"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for k, packet in enumerate(old.demux(video=0)):
            if packet.size and not 40 <= k < 60:
                packet.stream = stream
                new.mux(packet)
    reader = VideoReader(path)
    assert [number(f) for f in reader] == [k if not 40 <= k < 60 else 39 for k in range(100)]
    assert reader.warnings == [
        "20 of 100 pictures are missing or could not be decoded (2.00 s, 2.00 s of them at 4.00 s): "
        "the picture before stands for them"
    ]


def test_damaged_pictures_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "d.mp4", [moving(k) for k in range(60)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    reader = VideoReader(path)
    assert len(list(reader)) == 60
    assert re.match(r"\d of 60 pictures are damaged, the first at [23]\.\d\d s", reader.warnings[0])


def test_times_that_no_recording_has(tmp_path: Path) -> None:
    frames = [picture(k) for k in range(4)]
    path = write_video(tmp_path / "year.mkv", frames, times=[0, 1, 2, 31_000_000])
    with pytest.raises(InputError, match="two pictures lie too far apart"):
        VideoReader(path)
    path = write_video(tmp_path / "hours.mkv", frames, times=[0, 1, 2, 5000])
    reader = VideoReader(path)
    assert reader.info.duration == pytest.approx(4, abs=0.1)
    assert "jump by 4998.00 s, more than 300 s" in next(iter([*reader] and reader.warnings))


def test_picture_sizes_have_bounds(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [picture(k) for k in range(4)])
    with pytest.raises(InputError, match="too large: found 64 x 48, expected at most 1000 pixels"):
        VideoReader(path, limits=Limits(pixels=1000))
    tiny = write_video(tmp_path / "t.mkv", [picture(k, (2, 2)) for k in range(4)], codec="ffv1")
    with pytest.raises(InputError, match="too small to show anything: found 2 x 2"):
        VideoReader(tiny)


def test_what_opens_other_files_is_refused(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", [picture(k) for k in range(4)])
    write_video(tmp_path / "good.ts", [picture(k) for k in range(4)])
    playlists = {
        "concat": f"ffconcat version 1.0\nfile {good.name}\n",
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\ngood.ts\n#EXT-X-ENDLIST\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n',
    }
    for name, text in playlists.items():
        path = tmp_path / f"{name}.mp4"
        path.write_text(text)
        with pytest.raises(InputError, match="a playlist, which opens other files"):
            VideoReader(path)
    for name in ("concat:good.ts", "http:", "file:good.mp4", "%03d.mp4"):
        odd = tmp_path / name
        odd.write_bytes(good.read_bytes())
        assert len(list(VideoReader(odd))) == 4
    with pytest.raises(InputError, match="no such file"):
        VideoReader("concat:good.ts|good.ts")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="no regular file"):
        VideoReader(tmp_path / "pipe.mp4")


# ------------------------------------------------------------------- the shared cases, where they are

CASES = Path(__file__).parents[3] / "../shared/cases"
CASES = CASES if CASES.is_dir() else Path("/work/shared/cases")


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases here")
def test_shared_cases() -> None:
    def read(name: str, rate: float | None = None) -> tuple[VideoReader, list[np.ndarray]]:
        reader = VideoReader(CASES / "videos" / name, rate)
        return reader, list(reader)

    for name in ("min.mp4", "min.mkv"):
        # the digits are of luma, 16 to 235
        assert [number(f * (219 / 255) + 16) for f in read(name)[1]] == list(range(60))
        assert [number(f * (219 / 255) + 16) for f in read(name, 15)[1]] == list(range(0, 60, 2))
    (late, a), (plain, b) = read("later_picture.mp4"), read("together.mp4")
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert (late.info.start, plain.info.start) == (3.0, 0.0)
    assert late.info.duration == pytest.approx(plain.info.duration + 3)
    reader, frames = read("reset.ts")
    assert (len(frames), reader.seconds) == (120, 12)
    assert "fall back" in reader.warnings[0]
    reader, frames = read("short_header.mp4")
    assert (len(frames), reader.seconds) == (1500, 150)
    for name, words in (("hole.ts", "48 of 300 pictures are missing"), ("lossy.ts", "pictures are damaged")):
        reader, frames = read(name)
        assert len(frames) == 300
        assert any(words in w for w in reader.warnings)
    upright, mirrored = read("up.mp4")[1][0].astype(int), read("m_mirror_lr.mp4")[1][0].astype(int)
    assert np.abs(upright[:, ::-1] - mirrored).mean() < 3
    assert read("tc25.mov")[0].info.timecode == "10:00:00:00"
    reader, frames = read("cover_before.mkv")
    assert (len(frames), reader.info.codec) == (60, "h264")
    for file in ("videos/song.m4a", "hostile/gap_year.mkv", "hostile/tiny.mkv"):
        with pytest.raises(InputError):
            VideoReader(CASES / file)
