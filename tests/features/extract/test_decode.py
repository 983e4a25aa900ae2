"""Any video, at the asked rate, upright, and a clear word about what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weaktal.core import InputError

pytest.importorskip("av")

from tests.features.extract.media import moving, picture, write_audio_only, write_video
from weaktal.features.extract.decode import VideoReader
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
