"""Resampled values are those of an evaluation of the resampled videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.evaluate.scenes import Row, annotate, detect, scenes
from weaktal.core import Annotations, Detections, InputError
from weaktal.evaluate import compare_groups, differences, evaluate, holm, intervals
from weaktal.evaluate.detection import matched
from weaktal.evaluate.intervals import Interval, _weighted_map, draws

Scene = tuple[list[Row], list[Row], list[float]]


def repeated(
    annotations: Annotations, detections: Detections, times: Sequence[int]
) -> tuple[Annotations, Detections]:
    """Every video so many times, under other names."""
    videos, parts = [], []
    for video, n in zip(annotations, times, strict=True):
        for i in range(n):
            name = f"{video.name}-{i}"
            videos.append(replace(video, name=name))
            parts.append(
                replace(
                    detections.of(video.name),
                    names=(name,),
                    video=np.zeros(len(detections.of(video.name)), int),
                )
            )
    return Annotations.of(annotations.classes, videos), Detections.concatenate(parts, detections.classes)


@given(scenes(distinct=True))
@settings(max_examples=50)
def test_weights_are_videos(scene: Scene) -> None:
    """A weight of 0 or 1 is an evaluation without or with the video; all twice is all once."""
    truth, rows, score = scene
    annotations, detections = annotate(truth), detect(rows, score)
    run = matched(detections, annotations)
    ones = np.ones((1, 3), np.int64)
    assert _weighted_map(run, ones)[0] == pytest.approx(evaluate(detections, annotations).mean_ap)
    once = np.array([[1, 1, 0]])
    assume(any(r[0] < 2 for r in truth) and any(r[0] < 2 for r in rows))
    less = repeated(annotations, detections, once[0])
    assert _weighted_map(run, once)[0] == pytest.approx(evaluate(less[1], less[0]).mean_ap)
    assert _weighted_map(run, 2 * ones)[0] == pytest.approx(_weighted_map(run, ones)[0])


def test_certain_runs_have_narrow_intervals() -> None:
    truth = [(v, 10.0 * i, 10.0 * i + 5, i % 2) for v in range(6) for i in range(3)]
    annotations = annotate(truth, n_videos=6)
    right = detect(truth, np.linspace(0.9, 0.1, len(truth)).tolist(), n_videos=6)
    found = intervals(right, annotations, resamples=50)
    assert (found.average.low, found.average.value, found.average.high) == (1, 1, 1)
    half = right[right.video < 3]
    found = intervals(half, annotations, resamples=200, level=0.9)
    assert found.average.low < found.average.value == 0.5 < found.average.high
    assert found.to_dict()["at"][0]["n"] == 200
    same = intervals(half, annotations, resamples=200, level=0.9)
    assert np.array_equal(found.average.resamples, same.average.resamples)


def test_a_difference_is_paired() -> None:
    """Both miss the same half of the videos: alone each is unsure, their difference is not."""
    truth = [(v, 10.0 * i, 10.0 * i + 5, 0) for v in range(8) for i in range(4)]
    annotations = annotate(truth, n_videos=8)
    better = detect(truth, np.linspace(0.9, 0.1, len(truth)).tolist(), n_videos=8)
    better = better[better.video < 4]
    worse = better[np.arange(len(better)) % 4 != 0]
    found = differences([worse], [better], annotations, resamples=300)
    assert found.average.value == pytest.approx(0.125)
    assert found.average.low > 0
    assert found.average.p_value < 0.02
    assert intervals(better, annotations, resamples=300).average.low < 0.375
    same = differences([better], [better], annotations, resamples=50)
    assert (same.average.low, same.average.high, same.average.p_value) == (0, 0, 1)
    seeds = differences([worse, better], [better, worse], annotations, resamples=300)
    assert seeds.average.low < 0 < seeds.average.high


def test_groups_side_by_side_are_pairs_of_groups() -> None:
    truth = [(v, 10.0 * i, 10.0 * i + 5, i % 2) for v in range(8) for i in range(4)]
    annotations = annotate(truth, n_videos=8)
    all_right = detect(truth, np.linspace(0.9, 0.1, len(truth)).tolist(), n_videos=8)
    groups = [[all_right[all_right.video < n] for n in seeds] for seeds in ((4, 5), (6,), (3, 7, 8))]
    found = compare_groups(groups, annotations, resamples=80)
    assert set(found.differences) == {(0, 1), (0, 2), (1, 2)}
    for (i, j), moved in found.differences.items():
        pair = differences(groups[i], groups[j], annotations, resamples=80)
        assert np.array_equal(moved.average.resamples, pair.average.resamples)
        assert moved.average.value == pair.average.value
    alone = intervals(groups[1][0], annotations, resamples=80)
    assert np.array_equal(found.means[1].average.resamples, alone.average.resamples)
    each = [evaluate(d, annotations).average for d in groups[2]]
    assert found.means[2].average.value == pytest.approx(np.mean(each))
    wide = found.means[2].average.high - found.means[2].average.low
    one = intervals(groups[2][1], annotations, resamples=80).average
    assert wide > one.high - one.low, "runs that differ make their mean unsure"
    with pytest.raises(ValueError, match="at least one run"):
        compare_groups([groups[0], []], annotations)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= min(1.0, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert adjusted[order[-1]] >= max(p_values)


def test_draws() -> None:
    assert draws(5, 7, 0).sum(axis=1).tolist() == [5] * 7
    assert np.array_equal(draws(5, 7, 1), draws(5, 7, 1))
    assert not np.array_equal(draws(5, 7, 1), draws(5, 7, 2))


def test_bad_input() -> None:
    one = annotate([(0, 0.0, 10.0, 0)], n_videos=1)
    with pytest.raises(InputError, match="at least two"):
        intervals(detect([(0, 0.0, 10.0, 0)], [0.9], n_videos=1), one)
    with pytest.raises(ValueError, match="level"):
        intervals(detect([(0, 0.0, 10.0, 0)], [0.9]), annotate([(0, 0.0, 10.0, 0)]), level=1.5)


def test_p_value() -> None:
    assert Interval.of(1, np.arange(1.0, 100.0), 0.95).p_value == pytest.approx(0.02)
