"""Videos as they are: picture times, proxies with exactly the same ones, small pictures."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from weaktal.app.media import Library, Media, Proxies, Thumbnails, look, make_proxy, picture_times
from weaktal.core import InputError


def encode(path: Path, codec: str, ticks: list[int], tick: Fraction, pix: str = "yuv420p") -> Path:
    """A video whose picture k is grey level 5 k (up to 250), shown at the given ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix
        stream.codec_context.time_base = stream.time_base = tick
        for k, pts in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def ticks_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = sorted(p.pts for p in container.demux(stream) if p.pts is not None and p.size)
        return [(t - found[0]) * stream.time_base for t in found]


@pytest.mark.parametrize(
    ("name", "codec", "ticks", "tick"),
    [
        ("a.avi", "mpeg4", list(range(50)), Fraction(1, 25)),
        ("variable.mkv", "libx264", [3, 7, 8, 20, 21, 33, 60, 80], Fraction(1, 1000)),
        ("ntsc.mov", "mpeg4", [1001 * k for k in range(40)], Fraction(1, 30000)),
        ("b.webm", "libvpx-vp9", list(range(0, 1000, 33)), Fraction(1, 1000)),
    ],
)
def test_a_proxy_shows_the_same_pictures_at_the_same_times(
    tmp_path: Path, name: str, codec: str, ticks: list[int], tick: Fraction
) -> None:
    source = encode(tmp_path / name, codec, ticks, tick)
    proxy = tmp_path / "p.mp4"
    shares: list[float] = []
    make_proxy(source, proxy, shares.append)
    assert ticks_of(proxy) == ticks_of(source)
    about = look(proxy)
    assert (about.playable, about.codec) == (True, "h264")
    with av.open(str(proxy)) as made:
        levels = [int(f.to_ndarray(format="gray").mean()) for f in made.decode(video=0)]
    assert np.abs(np.array(levels) - 5 * np.arange(len(ticks))).max() <= 8


def test_what_browsers_play(tmp_path: Path) -> None:
    ticks, tick = list(range(5)), Fraction(1, 25)
    assert look(encode(tmp_path / "a.mp4", "libx264", ticks, tick)).playable
    assert look(encode(tmp_path / "b.webm", "libvpx", ticks, tick)).playable
    assert not look(encode(tmp_path / "c.mp4", "mpeg4", ticks, tick)).playable
    assert not look(encode(tmp_path / "d.mp4", "libx264", ticks, tick, "yuv444p")).playable
    assert not look(encode(tmp_path / "e.mkv", "libx264", ticks, tick)).playable
    (tmp_path / "f.mp4").write_bytes(b"text")
    (tmp_path / "g.mp4").write_text("#EXTM3U\n/etc/passwd\n")
    assert "playlist" in (look(tmp_path / "g.mp4").error or "")
    assert look(tmp_path / "f.mp4").error
    assert look(tmp_path / "none.mp4") == Media(error="the file is not there")


def test_picture_times_and_small_pictures(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", [0, 1, 2, 5, 9, 10, 30], Fraction(1, 10))
    np.testing.assert_allclose(picture_times(path), [0, 0.1, 0.2, 0.5, 0.9, 1.0, 3.0], atol=1e-6)
    thumbnails = Thumbnails()
    import cv2

    for seconds, level in ((0.0, 0), (0.55, 15), (0.95, 20), (2.9, 25), (99.0, 30)):
        jpeg = thumbnails.at(path, seconds, apart=0.1)
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image.shape[0] == 72
        assert abs(float(image.mean()) - level) <= 6, seconds
    thumbnails.close()


def test_proxies_are_made_in_the_background_and_know_when_they_are_old(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.avi", "mpeg4", list(range(30)), Fraction(1, 25))
    broken = tmp_path / "b.avi"
    broken.write_bytes(b"no")
    told: list[tuple[str, str]] = []
    proxies = Proxies(tmp_path / "proxies", lambda name, state: told.append((name, state["state"])))
    proxies.ask("b", broken)
    proxies.ask("a", source)
    proxies.ask("a", source)
    deadline = time.monotonic() + 60
    while proxies.state("a")["state"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxies.state("b")["state"] == "failed"
    assert told.count(("a", "ready")) == 1
    assert proxies.ready("a", source) == proxies.path("a")
    encode(source, "mpeg4", list(range(20)), Fraction(1, 25))
    assert proxies.ready("a", source) is None
    proxies.close()


def test_the_library_looks_at_videos_and_remembers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", list(range(5)), Fraction(1, 25))
    seen: dict[str, Media] = {}
    library = Library(tmp_path / "cache", lambda name: tmp_path / f"{name}.mp4", seen.update)
    library.want(["a", "missing"])
    deadline = time.monotonic() + 20
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen["a"].playable
    assert seen["missing"].error
    times = library.times("a")
    assert len(times) == 5
    library.save()
    library.close()
    again = Library(tmp_path / "cache", lambda name: tmp_path / f"{name}.mp4", seen.update)
    assert again.get("a") == seen["a"]
    encode(path, "libx264", list(range(7)), Fraction(1, 25))
    assert len(again.times("a")) == 7
    with pytest.raises(InputError, match="not there"):
        again.times("missing")
    again.close()
