"""The array core against plain loops, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate import oracle
from tests.evaluate.scenes import scenes, segments
from weaktal.evaluate.matching import Matches, average_precision, match

LEVELS = (0.1, 0.3, 0.5, 0.7, 1.0)


def run(truth, found, score, **options) -> Matches:  # type: ignore[no-untyped-def]
    return match(segments(truth), segments(found), np.asarray(score, float), 2, LEVELS, **options)


@given(
    scenes(),
    st.sampled_from(["overlap", "listed"]),
    st.sampled_from(["last", "first"]),
    st.booleans(),
    st.booleans(),
)
def test_equals_the_loop(scene, preference, ties, nan_matches, interpolated) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    matches = run(truth, found, score, preference=preference, ties=ties, nan_matches=nan_matches)
    ap = average_precision(matches, interpolated=interpolated)
    for h, level in enumerate(LEVELS):
        for c in range(2):
            if not any(r[3] == c for r in truth):
                assert np.isnan(ap[h, c])
                continue
            expected = oracle.average_precision(
                truth,
                found,
                score,
                c,
                level,
                preference=preference,
                ties=ties,
                empty=np.inf if nan_matches else 0.0,
                interpolated=interpolated,
            )
            assert ap[h, c] == pytest.approx(expected, abs=1e-12)


@given(scenes())
def test_range_and_monotone_in_threshold(scene) -> None:  # type: ignore[no-untyped-def]
    matches = run(*scene)
    ap = average_precision(matches)
    known = ap[:, ~np.isnan(ap[0])]
    assert np.all((known >= 0) & (known <= 1))
    # a higher threshold never gives more matches
    assert np.all(np.diff((matches.instance >= 0).sum(axis=1)) <= 0)


@given(scenes())
def test_an_instance_is_taken_once_and_by_its_own(scene) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    matches = run(truth, found, score)
    for h, level in enumerate(LEVELS):
        taken = matches.instance[h]
        held = taken[taken >= 0]
        assert len(set(held.tolist())) == len(held)
        for row, j in zip(matches.order, taken, strict=True):
            if j >= 0:
                assert (found[row][0], found[row][3]) == (truth[j][0], truth[j][3])
                assert oracle.overlap(found[row], truth[j], 0.0) >= level


@given(scenes(distinct=True), st.integers(0, 2**32))
def test_order_of_rows_does_not_matter_with_distinct_scores(scene, seed) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    p = np.random.default_rng(seed).permutation(len(found))
    ap = average_precision(run(truth, found, score))
    again = average_precision(run(truth, [found[i] for i in p], [score[i] for i in p]))
    np.testing.assert_array_equal(ap, again)


@given(scenes())
def test_perfect_detections(scene) -> None:  # type: ignore[no-untyped-def]
    truth = [r for r in scene[0] if r[2] > r[1]]
    ap = average_precision(run(truth, truth, np.arange(len(truth))))
    present = [c for c in range(2) if any(r[3] == c for r in truth)]
    assert np.all(ap[:, present] == 1)


@given(scenes())
def test_numpy_ties_change_equal_overlaps_only(scene) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    stable, other = run(truth, found, score), run(truth, found, score, numpy_ties=True)
    np.testing.assert_array_equal(stable.order, other.order)
    tied = set()
    for row in found:
        group = (row[0], row[3])
        values = [oracle.overlap(row, t, 0.0) for t in truth if (t[0], t[3]) == group]
        values = [v for v in values if v > 0]
        if len(values) != len(set(values)):
            tied.add(group)
    for column, row in enumerate(stable.order):
        if (found[row][0], found[row][3]) not in tied:
            np.testing.assert_array_equal(stable.instance[:, column], other.instance[:, column])


def test_numpy_ties_follow_numpy() -> None:
    # forty instances that fit equally well: the one that NumPy's own sort puts last is taken
    n = 40
    matches = run([(0, 0.0, 1.0, 0)] * n, [(0, 0.0, 1.0, 0)], [1.0], numpy_ties=True)
    assert np.all(matches.instance == np.argsort(np.ones(n))[-1])


def test_second_best_instance_is_taken_when_the_best_is() -> None:
    truth = [(0, 0.0, 10.0, 0), (0, 4.0, 14.0, 0)]
    found = [(0, 0.0, 10.0, 0), (0, 1.0, 11.0, 0)]
    matches = run(truth, found, [0.9, 0.8])
    assert matches.instance[LEVELS.index(0.3)].tolist() == [0, 1]
    assert matches.instance[LEVELS.index(0.7)].tolist() == [0, -1]


def test_exact_threshold_matches() -> None:
    truth, found = [(0, 0.0, 10.0, 0)], [(0, 0.0, 3.0, 0)]
    matches = match(segments(truth), segments(found), np.ones(1), 1, [0.3, 0.30000000000000004])
    assert matches.instance[:, 0].tolist() == [0, -1]


@pytest.mark.parametrize("levels", [[], [0.0], [1.1], [float("nan")]])
def test_bad_thresholds(levels: list[float]) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        match(segments([(0, 0, 1, 0)]), segments([]), np.empty(0), 1, levels)
