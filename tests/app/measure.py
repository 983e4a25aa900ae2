"""Numbers of docs/app.md: `python -m tests.app.measure` (needs chromium and playwright; a few minutes)."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from playwright.sync_api import sync_playwright

from tests.app.conftest import Server
from tests.conftest import ARGS, chromium_path

SEEK = """(index) => new Promise((resolve) => {
  const { player } = document.querySelector('wt-annotate');
  const begun = performance.now();
  const seen = () => {
    if (player.goal < 0 && player.index === index && !player.video.seeking) {
      player.removeEventListener('frame', seen);
      resolve(performance.now() - begun);
    }
  };
  player.addEventListener('frame', seen);
  player.show(index);
})"""
SCROLL = """(seconds) => new Promise((resolve) => {
  const { timeline } = document.querySelector('wt-annotate');
  const length = timeline.duration / 8, begun = performance.now(), frames = [];
  let drawn = 0;
  const draw = timeline.draw.bind(timeline);
  timeline.draw = () => { drawn++; draw(); };
  const turn = (now) => {
    frames.push(now);
    const share = (now - begun) / (1000 * seconds);
    if (share >= 1) {
      const gaps = frames.slice(1).map((t, i) => t - frames[i]).sort((a, b) => a - b);
      resolve({ fps: 1000 * (frames.length - 1) / (frames.at(-1) - frames[0]),
        slow: gaps[Math.floor(0.95 * gaps.length)],
        drawn: drawn / frames.length, shown: timeline.visible(timeline.marks).length });
      return;
    }
    timeline.setView(share * (timeline.duration - length), share * (timeline.duration - length) + length);
    requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
})"""


def write_video(path: Path, frames: int, rate: int, size: tuple[int, int] = (320, 240)) -> None:
    """Drifting noise, so that the file has the size of a film."""
    noise = np.random.default_rng(0).integers(0, 90, (16, size[1], size[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=rate, options={"preset": "ultrafast", "crf": "32", "g": "250"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(noise[(k // 8) % 16] + np.uint8(k % 160), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def two_hours(browser: Any, folder: Path) -> str:
    write_video(folder / "long.mp4", 2 * 3600 * 10, 10)
    size = (folder / "long.mp4").stat().st_size / 1e6
    server = Server(folder)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{server.url}#/annotate/long")
        page.wait_for_function(
            "() => document.querySelector('.frame-no')?.textContent.includes(' of ')", timeout=60_000
        )
        page.wait_for_function("() => document.querySelector('.stage video').readyState >= 2", timeout=60_000)
        places = np.random.default_rng(1).integers(0, 72_000, 30).tolist()
        times = sorted(page.evaluate(SEEK, index) for index in places)
        page.close()
    finally:
        server.stop()
    return (
        f"two hours ({size:.0f} MB, a key frame every 25 s): 30 seeks to random pictures, median "
        f"{statistics.median(times):.0f} ms, longest {times[-1]:.0f} ms"
    )


def many_segments(browser: Any, folder: Path) -> str:
    write_video(folder / "v.mp4", 3600, 1, (96, 72))
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 3590, 5000)).tolist()
    rows = [{"segment": [s, s + 1 + 4 * (i % 3)], "label": f"class {i % 8}"} for i, s in enumerate(starts)]
    database = {"v": {"annotations": rows, "video": {"path": "v.mp4"}}}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "project.yaml").write_text("name: many\nannotations: annotations.json\n")
    server = Server(folder)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{server.url}#/annotate/v")
        page.wait_for_function(
            "() => document.querySelector('wt-annotate').marks.length === 5000", timeout=60_000
        )
        page.wait_for_timeout(3000)
        page.evaluate(SCROLL, 2.0)  # small pictures are there afterwards
        found = page.evaluate(SCROLL, 4.0)
        page.close()
    finally:
        server.stop()
    return (
        f"5,000 segments: the timeline scrolls at {found['fps']:.0f} frames a second, 95 % of them within "
        f"{found['slow']:.1f} ms, drawn in {found['drawn']:.0%} of them"
    )


def many_videos(browser: Any, folder: Path) -> str:
    database = {
        f"video_{i:04}": {
            "duration": 60 + i % 600,
            "annotations": [{"segment": [j, j + 1], "label": f"class {j % 9}"} for j in range(10)],
            "video": {"path": f"video_{i:04}.mp4"},
        }
        for i in range(2000)
    }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "project.yaml").write_text("name: many\nannotations: annotations.json\n")
    for i in range(2000):
        (folder / f"video_{i:04}.mp4").write_bytes(b"x")
    server = Server(folder)
    times = []
    try:
        for _ in range(5):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            begun = time.perf_counter()
            page.goto(server.url)
            page.wait_for_selector(".row")
            times.append(time.perf_counter() - begun)
            page.close()
    finally:
        server.stop()
    return (
        f"2,000 videos, 20,000 segments: the first page shows rows after {1000 * times[0]:.0f} ms the first "
        f"time, then {1000 * statistics.median(times[1:]):.0f} ms (median of four)"
    )


def main() -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=ARGS)
        for measure in (many_videos, many_segments, two_hours):
            with tempfile.TemporaryDirectory() as folder:
                print(measure(browser, Path(folder)), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
