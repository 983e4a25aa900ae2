"""False alarms by video: the rate, and the threshold that keeps to one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import Detections
from weaktal.evaluate.false_alarms import (
    any_class,
    false_alarm_rate,
    least_rate,
    pair_recall,
    threshold_for,
    top_scores,
    wrong_videos,
)


def test_the_highest_score_of_each_class_and_video() -> None:
    found = Detections(
        ("b", "a", "elsewhere"),
        ("x", "y"),
        np.array([0, 0, 1, 2, 0]),
        np.zeros(5),
        np.ones(5),
        np.array([1, 1, 0, 0, 0]),
        np.array([0.2, 0.7, -0.5, 0.9, 0.1]),
    )
    none = -math.inf
    assert top_scores(found, ["a", "b", "c"]).tolist() == [[-0.5, none], [0.1, 0.7], [none, none]]
    assert top_scores(Detections.empty(("a",), ("x",)), ["a"]).tolist() == [[none]]


def test_rate_and_recall_by_hand() -> None:
    none = -math.inf
    top = np.array([[0.9, none, 0.1], [0.8, 0.4, none], [0.2, 0.6, 0.3], [none, 0.7, 0.2]])
    present = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    # x: absent in two, shown in one; y: absent in three, shown in two; z: absent in four, in none
    assert false_alarm_rate(top, ~present, 0.5) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert pair_recall(top, present, 0.5) == pytest.approx(1 / 3)
    assert wrong_videos(top, ~present, 0.5) == 3 / 4
    assert wrong_videos(top[:2], np.array([[0, 0, 0], [0, 0, 1]], bool), 0.5) == 0
    # without a threshold everything that was found is shown, and nothing else
    assert pair_recall(top, present, none) == pytest.approx(2 / 3)
    assert false_alarm_rate(top, ~present, none) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    # a class that every video has is no part of the mean
    assert false_alarm_rate([[0.9, 0.9], [0.9, 0.1]], [[False, True], [False, True]], 0.5) == 0.5
    assert math.isnan(false_alarm_rate(top, np.zeros_like(present), 0.5))
    assert math.isnan(wrong_videos(top, np.zeros_like(present), 0.5))
    assert math.isnan(pair_recall(top, np.zeros_like(present), 0.5))


@given(
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_the_threshold_is_the_lowest_that_keeps_the_promise(
    videos: int, classes: int, rate: float, seed: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    top = rng.random((videos, classes))
    top = np.where(rng.random(top.shape) < 0.2, -np.inf, np.round(top, 1) if ties else top)
    absent = rng.random(top.shape) < 0.7
    weights = absent / np.maximum(absent.sum(axis=0), 1) / max(1, (absent.any(axis=0)).sum())
    n = int(weights.any(axis=1).sum())

    def promised(threshold: float) -> float:
        return float((n * false_alarm_rate(top, absent, threshold) + n * weights.sum(axis=1).max()) / (n + 1))

    found = threshold_for(top, absent, rate)
    if found is None:
        assert n == 0 or promised(math.inf) > rate  # not even showing nothing would do
        assert least_rate(absent) > rate
        return
    assert least_rate(absent) <= rate + 1e-9
    assert promised(found) <= rate + 1e-9
    lower = top[absent & (top < found)]
    if found == -math.inf:
        return
    assert promised(float(lower.max())) > rate


def test_the_promise_holds_on_average_and_is_used() -> None:
    rng, kept, wrong, recalls = np.random.default_rng(0), [], [], []
    for _ in range(400):
        labels = rng.random((460, 5)) < 0.25
        # classes of one video are wrong together, and one class is worse than the others
        top = rng.normal(size=(460, 5)) + rng.normal(size=(460, 1)) + 2.5 * labels + [0, 0, 0, 0, 1]
        found = threshold_for(top[:60], ~labels[:60], 0.05)
        assert found is not None
        kept.append(false_alarm_rate(top[60:], ~labels[60:], found))
        recalls.append(pair_recall(top[60:], labels[60:], found))
        stricter = threshold_for(*any_class(top[:60], ~labels[:60]), 0.1)
        assert stricter is not None
        wrong.append(wrong_videos(top[60:], ~labels[60:], stricter))
    assert 0.07 < np.mean(wrong) < 0.103
    assert 0.03 < np.mean(kept) < 0.052
    assert np.mean(recalls) > 0.4


def test_too_few_videos_promise_nothing() -> None:
    absent = np.ones((18, 2), bool)
    assert threshold_for(np.zeros((18, 2)), absent, 0.05) is None
    assert threshold_for(np.zeros((19, 2)), np.ones((19, 2), bool), 0.05) == np.nextafter(0.0, 1.0)
    assert threshold_for(np.zeros((18, 2)), ~absent, 0.05) is None
    assert least_rate(~absent) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold_for(np.zeros((18, 2)), absent, 1.0)
