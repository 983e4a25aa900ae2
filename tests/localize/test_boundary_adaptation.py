"""Boundary adaptation against the plain procedure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weaktal.localize.boundary_adaptation import adapt_boundaries


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inter
    return inter / union if union > 0 else 0.0


def plainly(segments: list[tuple[float, float]], score: list[float], threshold: float) -> list[list[float]]:
    out, locked = [list(s) for s in segments], set[int]()
    for i in reversed(np.argsort(score, kind="stable").tolist()):
        if i in locked:
            continue
        similar = [j for j, s in enumerate(segments) if iou(segments[i], s) > threshold]
        weight = [score[j] * iou(segments[i], segments[j]) for j in similar]
        total = sum(weight)
        for side in (0, 1):
            mean = sum(w * segments[j][side] for w, j in zip(weight, similar, strict=True))
            out[i][side] = mean / total if total > 0 else 0.0
        locked |= set(similar)
    return out


@given(
    starts=arrays(np.float64, st.integers(1, 14), elements=st.integers(0, 20)),
    classes=st.integers(1, 3),
    threshold=st.sampled_from([0.0, 0.4, 0.7]),
    seed=st.integers(0, 100),
)
def test_it_does_what_the_plain_procedure_does(
    starts: np.ndarray, classes: int, threshold: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ends = starts + rng.integers(0, 8, len(starts))  # some without length
    scores = rng.integers(0, 5, (classes, len(starts))) / 4  # ties and zeros
    start, end = adapt_boundaries(starts, ends, scores, threshold)
    segments = list(zip(starts.tolist(), ends.tolist(), strict=True))
    for k in range(classes):
        expected = plainly(segments, scores[k].tolist(), threshold)
        np.testing.assert_allclose(np.stack([start[k], end[k]], 1), expected, atol=1e-9)
        one = adapt_boundaries(starts, ends, scores[k], threshold)
        np.testing.assert_array_equal(np.stack(one), np.stack([start[k], end[k]]))


def test_means_stay_between_the_borders_they_are_made_of() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, 200)
    end = start + rng.uniform(1, 20, 200)
    new_start, new_end = adapt_boundaries(start, end, rng.uniform(0.1, 1, 200), 0.4)
    assert (new_end > new_start).all()
    assert new_start.min() >= start.min()
    assert new_end.max() <= end.max()
    moved = new_start != start
    assert 0 < moved.sum() < 200


def test_a_segment_alone_stays_and_one_without_length_goes_to_zero() -> None:
    start, end = adapt_boundaries([2.0, 5.0], [4.0, 5.0], [0.5, 0.9], 0.4)
    assert (start.tolist(), end.tolist()) == ([2.0, 0.0], [4.0, 0.0])
