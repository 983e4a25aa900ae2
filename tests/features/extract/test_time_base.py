"""The same pictures from every container, at the right times."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av")

from tests.features.extract.media import moving, number, numbered, remux, write_video
from weaktal.core import InputError
from weaktal.features.extract.decode import VideoReader
from weaktal.features.extract.driver import Job, extract_video
from weaktal.features.extract.limits import Limits
from weaktal.features.extract.time_base import UNKNOWN, Packets, TimeBase, as_rate, nominal_rate, simplest
from weaktal.features.layouts import safetensors_header

NTSC = [Fraction(1000 * n, 1001) for n in (24, 30, 60, 120)]
RATES = [Fraction(n) for n in (12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120)] + NTSC + [Fraction(981, 50)]
TICKS = [Fraction(1, n) for n in (1000, 90_000, 15_360, 16_000, 1_000_000)]


def packets(
    times: list[Fraction],
    tick: Fraction = Fraction(1, 1000),
    rates: tuple[Fraction, ...] = (),
    *,
    group: int = 1,
    down: bool = False,
    dts: bool = True,
) -> Packets:
    """Packets of pictures at times in seconds; the last one of every group comes first, as B-frames do."""
    ticks = [math.floor(t / tick) if down else round(t / tick) for t in times]
    order = [k for g in range(0, len(ticks), group) for k in np.roll(range(g, min(g + group, len(ticks))), 1)]
    unknown = np.full(len(ticks), UNKNOWN)
    decoded = np.array(sorted(ticks)) - 2 * round(1 / tick) if dts else unknown
    hidden = np.zeros(len(ticks), bool)
    return Packets(np.array(ticks)[order], decoded, np.zeros(len(ticks), np.int64), hidden, tick, rates)


def shown(base: TimeBase, rate: Fraction) -> list[int]:
    firsts = base.frames(rate)
    return np.repeat(np.arange(base.pictures), np.diff(firsts)).tolist()


@given(
    rate=st.sampled_from(RATES),
    tick=st.sampled_from(TICKS),
    asked=st.sampled_from([Fraction(n) for n in (1, 5, 10, 15, 24, 25, 30, 60, 120)] + NTSC),
    count=st.integers(8, 300),
    begin=st.fractions(0, 100, max_denominator=90_000),
    group=st.integers(1, 5),
    down=st.booleans(),
    said=st.booleans(),
    dts=st.booleans(),
)
def test_a_constant_rate_gives_each_picture_at_its_time_whatever_the_container_rounds(
    rate: Fraction,
    tick: Fraction,
    asked: Fraction,
    count: int,
    begin: Fraction,
    group: int,
    down: bool,
    said: bool,
    dts: bool,
) -> None:
    times = [begin + k / rate for k in range(count)]
    base = TimeBase.of(packets(times, tick, (rate,) if said else (), group=group, down=down, dts=dts))
    if said or count > 100:
        assert base.rate is not None
        assert abs(float(base.rate / rate) - 1) * count < 0.07  # of a picture, over the whole video
    frames = shown(base, asked)
    right = [math.floor(k * rate / asked) for k in range(len(frames))]
    if base.rate == rate:
        assert frames == right
        assert len(frames) == math.ceil(count * asked / rate)
    else:  # a few pictures in coarse ticks fit more than one rate; times are off by less than a tick or two
        late = np.abs(np.array(frames) / float(rate) - np.arange(len(frames)) / float(asked))
        assert late.max() < 1 / float(rate) + 2 * float(max(tick, Fraction(1, 1000)))
    assert float(base.offset) == pytest.approx(float(begin), abs=float(tick))
    assert sorted(base.rank.tolist()) == list(range(count))


@given(
    steps=st.lists(st.integers(5, 400), min_size=6, max_size=60),
    asked=st.sampled_from([Fraction(n) for n in (5, 10, 15, 25, 30)]),
    begin=st.integers(0, 5000),
)
def test_a_variable_rate_keeps_its_times(steps: list[int], asked: Fraction, begin: int) -> None:
    ms = np.concatenate([[0], np.cumsum(steps)])
    base = TimeBase.of(packets([Fraction(int(t) + begin, 1000) for t in ms]))
    frames = shown(base, asked)
    for k, picture in enumerate(frames):
        now = 1000 * k / asked
        slack = 1 if base.rate is None else 2 + 1e-6
        assert ms[picture] <= now + slack
        assert picture + 1 == len(ms) or ms[picture + 1] > now - slack
    assert base.times == pytest.approx(ms / 1000, abs=0.0021)


@given(
    st.lists(
        st.tuples(st.sampled_from(RATES[:7]), st.integers(8, 40), st.integers(0, 200)), min_size=2, max_size=4
    )
)
def test_over_a_seam_time_goes_on(parts: list[tuple[Fraction, int, int]]) -> None:
    tick = Fraction(1, 90_000)
    pts: list[int] = []
    for rate, count, begin in parts:
        # each begins before the last one ends; a second one that begins later is a gap
        begin = min(begin, (pts[-1] - 4500) // 90_000) if pts else begin
        pts += [begin * 90_000 + round(k / rate / tick) for k in range(count)]
    columns = np.array(pts), np.array(pts), np.zeros(len(pts), np.int64), np.zeros(len(pts), bool)
    base = TimeBase.of(Packets(*columns, tick))
    assert base.pictures == len(pts)
    assert len(base.seams) == len(parts) - 1
    assert (np.diff(base.times) > 0).all()
    assert base.length == pytest.approx(float(sum(count / rate for rate, count, _ in parts)))


def test_gaps_are_bridged_up_to_a_bound_and_not_beyond() -> None:
    def with_gap(seconds: float) -> Packets:
        times = [Fraction(k, 10) for k in range(20)]
        return packets(times + [2 + Fraction(seconds) + t for t in times])

    assert TimeBase.of(with_gap(120)).length == pytest.approx(124)
    joined = TimeBase.of(with_gap(1000))
    assert joined.length == pytest.approx(4)
    assert [(s.at, s.by) for s in joined.seams] == [(2.0, pytest.approx(1000.1))]
    assert "jump by 1000.10 s" in joined.remarks(300)[0]
    assert TimeBase.of(with_gap(1000), limits=Limits(gap=2000)).length == pytest.approx(1004)
    assert TimeBase.of(with_gap(5), limits=Limits(gap=2)).length == pytest.approx(4)
    with pytest.raises(InputError, match="two pictures lie too far apart: found 31000000 s"):
        TimeBase.of(with_gap(31_000_000))
    with pytest.raises(InputError, match="too long"):
        TimeBase.of(with_gap(120), limits=Limits(length=100))


@pytest.mark.parametrize("wrong", [10**9, -(10**6), 40])
def test_a_broken_time_costs_its_picture_and_nothing_else(wrong: int) -> None:
    times = [Fraction(k, 10) for k in range(40)]
    good = packets(times)
    pts, dts = good.pts.copy(), good.dts.copy()
    pts[20] += wrong * 1000
    dts[20] += wrong * 1000
    base = TimeBase.of(Packets(pts, dts, good.duration, good.hidden, good.tick))
    assert base.length == pytest.approx(4)
    assert base.pictures == 39
    assert base.broken == 1
    assert not base.seams


def test_rates() -> None:
    assert simplest(Fraction(2997, 100), Fraction(3001, 100)) == 30
    assert as_rate(29.97002997002997) == Fraction(30_000, 1001)
    assert nominal_rate(np.array([0, 7, 31, 33, 90, 95, 140]), Fraction(1, 1000)) is None
    assert nominal_rate(np.arange(50) * 630, Fraction(1, 90_000))[0] == Fraction(1000, 7)  # type: ignore[index]
    with pytest.raises(InputError, match="positive number"):
        Limits(gap=-1)


# ------------------------------------------------------------------------------------------ real files

SAME = ["mp4", "mkv", "flv", "ts", "mov", "nut"]


@pytest.mark.parametrize("fps", [12, 30, 60, 120, Fraction(30_000, 1001), Fraction(24_000, 1001)])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_the_same_packets_give_the_same_pictures_from_every_container(
    tmp_path: Path, fps: int | Fraction, b_frames: int
) -> None:
    frames = [numbered(k) for k in range(70)]
    first = write_video(tmp_path / "v.mp4", frames, fps, b_frames=b_frames, keyframes=12)
    files = [first] + [remux(first, tmp_path / f"{s}.{s}") for s in SAME[1:]]
    files.append(write_video(tmp_path / "v.avi", frames, fps, b_frames=b_frames, keyframes=12))
    files.append(write_video(tmp_path / "v.webm", frames, fps, codec="libvpx", keyframes=12))
    for path in files:
        reader = VideoReader(path)
        assert reader.info.rate == fps, path
        assert [number(f) for f in reader] == list(range(70)), path
        assert reader.warnings == []
        for asked in (fps / 2, 15, 25.0, 29.97):
            shown = [number(f) for f in VideoReader(path, asked)]
            right = [math.floor(k * Fraction(fps) / as_rate(asked)) for k in range(len(shown))]
            assert shown == right, (path, asked)
            assert len(shown) == math.ceil(70 * as_rate(asked) / fps)


def test_features_are_the_same_bytes_from_every_container(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    frames = [moving(k) for k in range(50)]
    first = write_video(tmp_path / "v.mp4", frames, 30, b_frames=2, keyframes=12)
    write_video(tmp_path / "v.avi", frames, 30, b_frames=2, keyframes=12)  # AVI wants them in another form
    found = set()
    for suffix in [*SAME, "avi"]:
        path = tmp_path / f"v.{suffix}"
        if not path.exists():
            remux(first, path)
        target = tmp_path / f"{suffix}.safetensors"
        assert extract_video(Job("motion"), path, target).state == "done"
        _, begin = safetensors_header(target)
        found.add(target.read_bytes()[begin:])
    assert len(found) == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_times_count_from_the_beginning_of_the_file(tmp_path: Path, name: str, b_frames: int) -> None:
    plain = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(30)], 15, b_frames=b_frames)
    reader = VideoReader(remux(plain, tmp_path / name, shift=3.0, sound=True))
    assert [number(f) for f in reader] == list(range(30))
    # a transport stream shifts everything by the delay of B-frames
    assert reader.info.start == pytest.approx(3, abs=0.15 if name == "a.ts" else 0.002)
    assert reader.info.duration == pytest.approx(reader.info.start + 2)
    assert "the picture begins 3" in reader.warnings[0]


def test_a_transport_stream_that_begins_anywhere_begins_at_0(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(30)], 15)
    reader = VideoReader(remux(plain, tmp_path / "v.ts", shift=5000))
    assert [number(f) for f in reader] == list(range(30))
    assert reader.info.start == 0


@pytest.mark.parametrize("suffix", ["ts", "mpg", "mkv"])
def test_recordings_joined_byte_by_byte(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    fps = 25 if suffix == "mpg" else 10
    parts = [
        write_video(tmp_path / f"{n}.{suffix}", [numbered(n + k) for k in range(50)], fps, codec=codec)
        for n in (0, 50)
    ]
    whole = tmp_path / f"joined.{suffix}"
    whole.write_bytes(b"".join(p.read_bytes() for p in parts))
    reader = VideoReader(whole)
    assert [number(f) for f in reader] == list(range(100))
    assert reader.info.duration == pytest.approx(100 / fps)
    assert "fall back" in reader.warnings[0]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "flv"])
def test_a_second_file_that_no_player_sees_is_told(tmp_path: Path, suffix: str) -> None:
    frames = [moving(k, (160, 120)) for k in range(50)]
    whole = write_video(tmp_path / f"v.{suffix}", frames)
    assert not VideoReader(whole).warnings
    double = tmp_path / f"double.{suffix}"
    double.write_bytes(2 * whole.read_bytes())
    reader = VideoReader(double)
    assert len(list(reader)) == 50
    assert reader.warnings == ["another recording is joined behind this one and is not read, as in players"]


def test_an_edit_list_leaves_out_what_it_leaves_out(tmp_path: Path) -> None:
    """Cut at 1 s without encoding: the packets from the keyframe before are there, and are not shown."""
    plain = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(40)], 10, keyframes=20, b_frames=2)
    cut = remux(plain, tmp_path / "cut.mp4", shift=-1.0)
    shown = [number(f) for f in VideoReader(cut)]
    assert shown == list(range(10, 40))
    assert VideoReader(cut).info.start == 0
