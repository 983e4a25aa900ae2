"""The page and the figures, from made-up detections; the page's script in a real browser, if there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weaktal.core import Annotations, Detections, Instances, SnippetScores, TimeAxis, Video
from weaktal.evaluate import get_protocol
from weaktal.report import RunView, best_cut, run_view, write_report
from weaktal.report.figures import map_figure, save_figure, timeline_figure
from weaktal.report.timeline import clock, curve_points, ticks, view_video

ANNOTATIONS = Annotations.of(
    ["Jump", "Run <b>", "Never"],
    [
        Video("a", duration=60.0, instances=Instances([5, 20, 40], [10, 30, 45], [0, 0, 1]), labels=(0, 1)),
        Video(
            "b",
            duration=30.0,
            instances=Instances([3], [9], [1]),
            labels=(1,),
            ignored=np.array([[20.0, 25]]),
        ),
    ],
)


def detections() -> Detections:
    """Two correct in a, one duplicate, one invented, one in the wrong place; the instance of b is missed."""
    return Detections(
        ("a", "b"),
        ANNOTATIONS.classes,
        [0, 0, 0, 0, 1],
        [5, 5.2, 20, 50, 15],
        [10, 10, 29, 55, 18],
        [0, 0, 0, 1, 1],
        [0.9, 0.5, 0.8, 0.7, 0.2],
    )


@pytest.fixture
def run() -> RunView:
    axis = TimeAxis.uniform(40, 40 / 60)
    cas = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    scores = SnippetScores("a", cas, cas[:, 0], cas.mean(0), axis)
    return run_view("mine", detections(), ANNOTATIONS, get_protocol("activitynet"), scores=[scores])


def test_found_and_invented_are_told_apart(run: RunView) -> None:
    assert run.correct.tolist() == [True, False, True, False, False]
    view = view_video(ANNOTATIONS, "a", [run])
    assert [b.correct for b in view.truth[0]] == [True, True, False]
    assert [b.key for b in view.truth[0]] == [0.9, 0.8, None]
    assert sorted((b.key, b.correct) for b in view.tracks[0].bars) == [
        (0.5, False),
        (0.7, False),
        (0.8, True),
        (0.9, True),
    ]
    assert view.classes == [0, 1]


def test_places_are_proportional_to_time(run: RunView) -> None:
    bar = view_video(ANNOTATIONS, "a", [run]).truth[0][1]
    assert bar.x == pytest.approx(1000 * 20 / 60)
    assert bar.width == pytest.approx(1000 * 10 / 60)


def test_the_best_cut_balances_precision_and_recall(run: RunView) -> None:
    # sorted: right (.9), right (.8), wrong (.7), wrong (.5), wrong (.2); F1 is largest after two
    assert best_cut(run, 4) == 0.8
    empty = run_view(
        "none", Detections.empty(["a"], ANNOTATIONS.classes), ANNOTATIONS, get_protocol("activitynet")
    )
    assert best_cut(empty, 4) == 0.0


def test_only_the_strongest_are_drawn(run: RunView) -> None:
    track = view_video(ANNOTATIONS, "a", [run], most=2).tracks[0]
    assert [b.key for b in track.bars] == [0.9, 0.8]
    assert track.hidden == 2


def test_long_curves_keep_their_peaks() -> None:
    values = np.zeros(5000)
    values[1234] = 1
    points = curve_points(values, np.linspace(0, 10, 5000), 10, 44).split()
    assert len(points) <= 600
    assert min(float(p.split(",")[1]) for p in points) == 0


@pytest.mark.parametrize("duration", [0.4, 7, 61, 600, 10_000, 100_000])
def test_ticks_are_few_and_round(duration: float) -> None:
    places = ticks(duration)
    assert 1 <= len(places) <= 12
    assert places[0] == (0, "0:00.0")


def test_clock() -> None:
    assert (clock(0), clock(59.99), clock(61.5)) == ("0:00.0", "0:59.9", "1:01.5")


def test_the_page_is_whole_and_escapes_names(run: RunView, tmp_path: Path) -> None:
    write_report(
        tmp_path / "r.html",
        ANNOTATIONS,
        [run],
        title="T & T",
        facts={"data": "<x>"},
        baselines={"chance": [0.01] * 7},
    )
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "T &amp; T" in page
    assert "Run &lt;b&gt;" in page
    assert "<x>" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page), "nothing is fetched"
    assert "Never" not in re.search(r'<table id="classes">.*?</table>', page, re.S)[0], (
        "a class without instances"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser on this machine")
def test_the_script_counts_in_a_real_browser(run: RunView, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", ANNOTATIONS, [run], title="t", facts={})
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    )
    done = subprocess.run(
        [
            "chromium",
            *flags.split(),
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=4000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            f"file://{tmp_path / 'r.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    counts = [
        re.findall(r"<b>(\d+)</b>", c) for c in re.findall(r'data-count="0".*?</header>', done.stdout, re.S)
    ]
    # at the cut of 0.8: two found and one missed in a; one missed in b; nothing invented
    assert counts == [["2", "1", "0"], ["0", "1", "0"]]
    assert done.stdout.count("bar wrong off") == 3


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_are_written(run: RunView, tmp_path: Path, suffix: str, magic: bytes) -> None:
    for name, figure in (("map", map_figure([run])), ("a", timeline_figure(ANNOTATIONS, "a", [run], [0.8]))):
        save_figure(figure, tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"{name}.{suffix}").read_bytes().startswith(magic)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_for_everybody(browser: Any, run: RunView, tmp_path: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    write_report(
        tmp_path / "r.html", ANNOTATIONS, [run], title="t", facts={}, baselines={"chance": [0.01] * 7}
    )
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.goto((tmp_path / "r.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing beside the screen"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 25)"
        assert dark == (scheme == "dark")
        found = Axe().run(page).response["violations"]
        assert {v["id"]: [n["html"][:200] for n in v["nodes"]] for v in found} == {}, width
        page.close()
