"""Fusion of runs: its definition one segment at a time, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weaktal.core import Detections, SnippetScores, TimeAxis
from weaktal.localize.fusion import Scale, agreed, fuse_detections, fuse_scores, fuse_segments, voices
from weaktal.localize.nms import nms

CLASSES = ("a", "b")


def detections(seed: int, count: int, videos: int = 2, noise: float = 1.0) -> Detections:
    """Segments around the same places in every run, with scores of the run's own scale."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, 6, count) * 10.0 + noise * rng.standard_normal(count)
    half = 2 + rng.random(count)
    columns = (rng.integers(0, videos, count), centre - half, centre + half, rng.integers(0, 2, count))
    names = tuple(f"v{i}" for i in range(videos))
    return Detections(names, CLASSES, *columns, (1 + seed) * rng.random(count) - 0.5)


def one_by_one(start, end, score, group, run, iou):  # type: ignore[no-untyped-def]
    """The definition."""
    fused: list[dict] = []  # type: ignore[type-arg]
    for i in sorted(range(len(start)), key=lambda i: (group[i], -score[i], start[i], end[i])):
        best, most = None, iou
        for f in fused:
            if f["group"] != group[i] or run[i] in f["runs"]:
                continue
            a, b = f["s"] / f["w"], f["e"] / f["w"]
            inter = max(0.0, min(b, end[i]) - max(a, start[i]))
            overlap = inter / ((b - a) + (end[i] - start[i]) - inter)
            if overlap > most:
                best, most = f, overlap
        if best is None:
            best = {"group": group[i], "runs": set(), "s": 0.0, "e": 0.0, "w": 0.0, "score": 0.0}
            fused.append(best)
        w = score[i] + 1e-12
        best["s"] += w * start[i]
        best["e"] += w * end[i]
        best["w"] += w
        best["score"] += score[i]
        best["runs"].add(run[i])
    return sorted((f["group"], f["s"] / f["w"], f["e"] / f["w"], f["score"]) for f in fused)


@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.3, 0.55, 0.8]))
@settings(max_examples=60, deadline=None)
def test_all_groups_at_once_give_what_the_definition_gives(seed: int, count: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    start = rng.random(count) * 20
    columns = (start, start + 1 + 5 * rng.random(count), rng.random(count))
    group, run = rng.integers(0, 4, count) * 7, rng.integers(0, 3, count)
    s, e, c, g = fuse_segments(*columns, group, run, iou=iou)
    found = sorted(zip(g.tolist(), s.tolist(), e.tolist(), c.tolist(), strict=True))
    np.testing.assert_allclose(found, one_by_one(*columns, group, run, iou), rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10**6), st.permutations(range(3)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_runs_has_no_part_in_it(seed: int, order: list[int]) -> None:
    runs = [detections(seed + i, 30) for i in range(3)]
    one, other = fuse_detections(runs), fuse_detections([runs[i] for i in order])
    assert len(one) == len(other)
    rows = [
        sorted(zip(*(np.round(x, 9).tolist() for x in c), strict=True))
        for c in ((d.video, d.label, d.start, d.end, d.score) for d in (one, other))
    ]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_one_run_fused_is_itself_up_to_the_scale_of_scores(seed: int) -> None:
    run = detections(seed, 50)
    kept = run[nms(run.start, run.end, run.score, 0.5, plus_one=False, group=run.video * 2 + run.label)]
    fused = fuse_detections([run])
    for name in run.names:
        for label in range(2):
            mine, its = (d.of(name)[d.of(name).label == label] for d in (kept, fused))
            order = np.argsort(-mine.score)
            np.testing.assert_allclose(its.start, mine.start[order], atol=1e-9)
            np.testing.assert_allclose(its.end, mine.end[order], atol=1e-9)


def test_what_several_runs_found_is_their_mean_and_surer() -> None:
    def run(*rows: tuple[float, float, float]) -> Detections:
        start, end, score = (np.array(x) for x in zip(*rows, strict=True))
        zeros = np.zeros(len(rows), np.int64)
        return Detections(("v",), ("a",), zeros, start, end, zeros, score)

    # scales: 0 to 1 and 10 to 20
    one = run((10, 20, 1.0), (40, 50, 0.5), (90, 91, 0.0))
    other = run((12, 22, 20.0), (70, 80, 15.0), (95, 96, 10.0))
    found = fuse_detections([one, other])
    assert found.score.tolist() == [1.0, 0.25, 0.25, 0.0, 0.0]
    assert (found.start[0], found.end[0]) == pytest.approx((11.0, 21.0))
    assert sorted(found.start[1:3].tolist()) == [40.0, 70.0]
    # on given scales a weaker video stays weaker
    half = fuse_detections([one, other], scales=[Scale(np.zeros(1), np.full(1, 2.0)), Scale.of(other)])
    assert half.score[0] == pytest.approx(0.75)
    # the strongest of each run alone
    assert len(fuse_detections([one, other], most=1)) == 1


def test_what_more_than_half_of_the_runs_found() -> None:
    def run(*rows: tuple[float, float, int, float]) -> Detections:
        start, end, label, score = (np.array(x) for x in zip(*rows, strict=True))
        return Detections.in_video("v0", CLASSES, start, end, label, score)

    runs = [
        run((0, 10, 0, 0.9), (30, 40, 1, 0.2), (50, 60, 0, 0.5), (51, 61, 0, 0.4)),
        run((2, 12, 0, 0.1), (30, 40, 0, 0.9)),
        run((1, 11, 0, 5.0), (31, 41, 1, 0.3), (90, 99, 1, 0.3)),
        run((0.5, 10.5, 1, 0.5)),
    ]
    found = agreed(runs[:3])
    # neither another class nor a run's own second segment is another voice
    assert found.columns()["start"].tolist() == [1, 30.5]
    assert found.end.tolist() == [11, 40.5]
    assert found.label.tolist() == [0, 1]
    assert found.score.tolist() == [1, pytest.approx(2 / 3)]
    assert agreed(runs).start.tolist() == [1]  # two of four are not most
    assert agreed(runs[:1]).start.tolist() == [0, 30, 50, 51]
    assert len(agreed([Detections.empty(("v0",), CLASSES)] * 2)) == 0
    with pytest.raises(ValueError, match="same classes"):
        agreed([runs[0], Detections.empty(("v0",), ("b", "a"))])


@given(st.integers(0, 10**6), st.permutations([0, 1, 2]))
@settings(max_examples=30, deadline=None)
def test_the_order_of_voters_does_not_matter(seed: int, order: list[int]) -> None:
    runs = [detections(seed + i, 12) for i in range(3)]
    one, other = agreed(runs), agreed([runs[i] for i in order])
    np.testing.assert_allclose(one.start, other.start, atol=1e-9)
    np.testing.assert_allclose(one.score, other.score)


@pytest.mark.parametrize("kind", ["empty", "constant", "inverted", "elsewhere"])
def test_one_bad_run_does_little_harm(kind: str) -> None:
    """Of five runs, one of which says nothing or the opposite: what the four agree on stays on top."""
    good = [detections(seed, 60, videos=1, noise=0.3) for seed in range(4)]
    bad = good[0]
    score = {"constant": np.full(len(bad), 3.0), "inverted": -bad.score}.get(kind, bad.score)
    shift = 5.0 if kind == "elsewhere" else 0.0
    bad = Detections(
        bad.names, CLASSES, bad.video, bad.start + shift, bad.end + shift, bad.label, np.asarray(score)
    )
    if kind == "empty":
        bad = bad[:0]
    four, five = fuse_detections(good), fuse_detections([*good, bad])
    assert np.isfinite(five.score).all()
    for label in range(2):
        best, now = (d[d.label == label] for d in (four, five))
        top = best[:6]  # the six places, per class
        assert np.abs(now.start[:6, None] - top.start).min(axis=1).max() < 1.0


def ranked(seed: int, quality: NDArray[np.float64], noise: float) -> Detections:
    """A run that finds a segment in each of N places, and scores it by its quality and noise of its own."""
    rng = np.random.default_rng(seed)
    n = len(quality)
    start = 10.0 * (np.arange(n) // 4) + 0.3 * rng.random(n)
    score = quality + noise * rng.standard_normal(n)
    return Detections(("v", "w"), CLASSES, np.arange(n) % 2, start, start + 5, np.arange(n) // 2 % 2, score)


@pytest.mark.parametrize("kind", ["constant", "inverted", "noise"])
@given(st.integers(0, 10**6), st.permutations(range(5)))
@settings(max_examples=15, deadline=None)
def test_a_run_that_ranks_as_no_other_does_has_no_voice(kind: str, seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    quality = rng.random(120)
    score = {"constant": np.ones(120), "inverted": -quality, "noise": rng.random(120)}[kind]
    runs = [*(ranked(seed + i, quality, 0.2) for i in range(4)), ranked(seed + 4, score, 0.0)]
    assert voices([runs[i] for i in order]).tolist() == [i < 4 for i in order]


def test_two_that_agree_stay_whatever_the_majority_says() -> None:
    one, other = np.random.default_rng(0).random((2, 120))
    runs = [ranked(i, one if i < 3 else other, 0.2) for i in range(5)]
    assert voices(runs).all()


def test_a_likelihood_speaks_for_one_that_stands_alone() -> None:
    one, other = np.random.default_rng(0).random((2, 120))
    runs = [ranked(i, one if i < 3 else other, 0.2) for i in range(4)]
    assert voices(runs).tolist() == [True, True, True, False]
    assert voices(runs, likelihood=[-2.0, -2.0, -2.0, -1.0]).all()
    for less in ([-1.0, -1.0, -1.0, -2.0], [np.nan] * 4):
        assert voices(runs, likelihood=less).tolist() == [True, True, True, False]


def test_where_nobody_agrees_or_too_little_is_shared_all_have_a_voice() -> None:
    rng = np.random.default_rng(0)
    quality = rng.random(120)
    assert voices([ranked(0, quality, 0.0), ranked(1, -quality, 0.0)]).all()
    assert voices([ranked(i, q, 0.0) for i, q in enumerate(rng.random((3, 12)))]).all()
    assert voices([ranked(0, quality, 0.0), Detections.empty(("v",), CLASSES)]).all()
    assert voices([ranked(0, quality, 0.0)]).all()
    with pytest.raises(ValueError, match="same classes"):
        voices([ranked(0, quality, 0.0), Detections.empty(("v",), ("b", "a"))])


def test_nothing_found_stays_nothing() -> None:
    none = Detections.empty(("v", "w"), CLASSES)
    fused = fuse_detections([none, Detections.empty(("x",), CLASSES)])
    assert len(fused) == 0
    assert fused.names == ("v", "w", "x")
    with pytest.raises(ValueError, match="same classes"):
        fuse_detections([none, Detections.empty(("v",), ("b", "a"))])


def scores(video: str, length: int, values: float, axis: TimeAxis | None = None) -> SnippetScores:
    ramp = np.linspace(0, 1, length, dtype=np.float32) + np.float32(values)
    axis = axis or TimeAxis.uniform(length, 2.0)
    return SnippetScores(
        video, np.stack([ramp, 2 * ramp], 1), ramp, np.array([values, 0.5], np.float32), axis
    )


def test_scores_of_one_axis_are_averaged_as_they_are() -> None:
    runs = [[scores("v", 10, x), scores("w", 7, x)] for x in (0.0, 1.0)]
    found = fuse_scores([runs[0], runs[1][::-1]])
    assert [s.video for s in found] == ["v", "w"]
    np.testing.assert_allclose(found[0].cas, (runs[0][0].cas + runs[1][0].cas) / 2)
    np.testing.assert_allclose(found[1].foreground, (runs[0][1].foreground + runs[1][1].foreground) / 2)
    assert found[0].video_scores.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="same videos"):
        fuse_scores([runs[0], runs[1][:1]])


def test_scores_on_a_warped_axis_are_moved_in_time() -> None:
    # a line in time stays one on whatever axis it is sampled
    uniform, uneven = TimeAxis.uniform(40, 2.0), TimeAxis(30, np.array([0.0, 20, 30]), np.array([0.0, 5, 20]))

    def line(axis: TimeAxis) -> SnippetScores:
        y = axis.centers().astype(np.float32)
        return SnippetScores("v", y[:, None], y, np.ones(1, np.float32), axis)

    found = fuse_scores([[line(uneven)], [line(uniform)]])[0]
    assert found.axis.length == 40
    inner = (found.axis.centers() > 0.5) & (found.axis.centers() < 19)
    np.testing.assert_allclose(found.foreground[inner], found.axis.centers()[inner], atol=1e-4)
