"""Thresholding and outer-inner contrast against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weaktal.localize.curves import Runs, above, find_runs, outer_inner_contrast, upsample

curves = arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 25)), elements=st.integers(0, 4))


def plain_runs(curve: np.ndarray, threshold: float, strict: bool) -> list[tuple[int, int]]:
    runs, start = [], None
    for i, value in enumerate([*curve, -np.inf]):
        inside = value > threshold if strict else value >= threshold
        if inside and start is None:
            start = i
        if not inside and start is not None:
            runs.append((start, i))
            start = None
    return runs


@given(curves, st.lists(st.integers(0, 4), min_size=1, max_size=4), st.booleans(), st.integers(1, 3))
def test_runs_equal_plain_loops(x: np.ndarray, thresholds: list[int], strict: bool, shortest: int) -> None:
    runs = find_runs(x, thresholds, strict=strict, min_length=shortest)
    found = list(zip(runs.curve, runs.threshold, runs.start, runs.end, strict=True))
    expected = [
        (k, h, s, e)
        for k in range(len(x))
        for h, threshold in enumerate(thresholds)
        for s, e in plain_runs(x[k], threshold, strict)
        if e - s >= shortest
    ]
    assert found == expected


@given(curves, st.sampled_from([0.0, 0.2, 0.25, 1.0]))
def test_contrast_equals_plain_loops(x: np.ndarray, margin: float) -> None:
    runs = find_runs(x, [1, 2])
    n = x.shape[1]
    for i, score in enumerate(outer_inner_contrast(x, runs, margin)):
        curve, a, b = x[runs.curve[i]], runs.start[i], runs.end[i] - 1
        width = margin * (b - a + 1)
        outside = [*range(max(0, int(a - width)), a), *range(b + 1, min(n - 1, int(b + width)) + 1)]
        outer = np.mean(curve[outside]) if outside else 0.0
        assert score == pytest.approx(np.mean(curve[a : b + 1]) - outer)


def test_values_may_depend_on_the_threshold() -> None:
    x = np.array([[0.0, 0.3, 0.9, 0.9, 0.3, 0.0]])
    thresholds = np.array([0.2, 0.5])
    runs = find_runs(x, thresholds)
    zeroed = np.where(x[:, None] >= thresholds[:, None], x[:, None], 0)
    np.testing.assert_allclose(outer_inner_contrast(zeroed, runs, 0.5), [0.6, 0.9])


def test_a_lone_first_position_can_be_dropped() -> None:
    x = [[1.0, 0, 0], [1, 0, 1]]
    assert len(find_runs(x, [0.5])) == 3
    assert find_runs(x, [0.5], drop_lone_first=True).curve.tolist() == [1, 1]


def test_upsampling_continues_the_last_slope() -> None:
    np.testing.assert_allclose(
        upsample([[0.0, 1.0], [1.0, 0.0]], 4)[:, 4:], [[1, 1.25, 1.5, 1.75], [0, -0.25, -0.5, -0.75]]
    )
    assert upsample([3.0], 3).tolist() == [3, 3, 3]
    assert upsample([[0.0, 1.0], [1.0, 0.0]], 2, extrapolate=False).tolist() == [
        [0, 0.5, 1, 1],
        [1, 0.5, 0, 0],
    ]


def test_runs_of_one_curve_serve_others_too() -> None:
    curve = np.array([[0.0, 2.0, 2.0, 0.0, 1.0]])
    one = find_runs(curve, [1, 2])
    many, expected = one.for_each(3), find_runs(np.repeat(curve, 3, 0), [1, 2])
    joined = Runs.concatenate([one, many[many.curve > 0]])
    for found in (many, joined):
        for column in ("curve", "threshold", "start", "end"):
            assert getattr(found, column).tolist() == getattr(expected, column).tolist()
    assert len(one[one.start < 0].for_each(2)) == 0


def test_curves_are_zero_below_a_threshold() -> None:
    assert above([[0.1, 0.3, -1.0]], [0.2, 0.3]).tolist() == [[[0, 0.3, 0], [0, 0.3, 0]]]
