"""The beam search against every possible alternation, tried one by one."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weaktal.localize.sequence_search import (
    ACTION,
    BACKGROUND,
    FREE,
    alternating_segments,
    search_sequences,
)


def contrast(p: NDArray[np.float32], start: int, end: int, action: bool) -> float:
    channel = p.astype(np.float64) if action else 1 - p.astype(np.float64)
    reach = (end - start) / 4
    low, high = max(0, int(start - reach)), min(len(p) - 1, int(end - 1 + reach))
    outside = np.concatenate([channel[low:start], channel[end : max(high + 1, end)]])
    return channel[start:end].mean() - (outside.mean() if len(outside) else 0.0)


def mean_contrast(p: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    cuts = [0, *(np.nonzero(np.diff(labels))[0] + 1).tolist(), len(labels)]
    return float(np.mean([contrast(p, a, b, labels[a] == ACTION) for a, b in pairwise(cuts)]))


def runs_of_seeds(marks: list[int]) -> list[int]:
    known = [m for m in marks if m != FREE]
    return [m for i, m in enumerate(known) if i == 0 or known[i - 1] != m]


def best_by_trying(p: NDArray[np.float32], marks: list[int]) -> float:
    """Every labelling that has the seeds, and no more segments than they tell."""
    best = -np.inf
    choices = [(0, 1) if m == FREE else (m,) for m in marks]
    for labels in product(*choices):
        if runs_of_seeds(list(labels)) == runs_of_seeds(marks):
            best = max(best, mean_contrast(p, np.array(labels, np.int8)))
    return best


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_with_room_for_every_hypothesis_the_best_alternation_is_found(data: st.DataObject) -> None:
    pairs = data.draw(st.integers(1, 4))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=pairs, max_size=pairs))
    lengths = np.array(sizes)
    width = int(lengths.max())
    scores = np.zeros((pairs, width), np.float32)
    marks = np.full((pairs, width), FREE, np.int8)
    for i, n in enumerate(sizes):
        mark = data.draw(st.lists(st.sampled_from([FREE, BACKGROUND, ACTION]), min_size=n, max_size=n))
        mark[data.draw(st.integers(0, n - 1))] = ACTION
        scores[i, :n] = data.draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n))
        marks[i, :n] = mark
    labels, found = search_sequences(scores, marks, lengths, budget=10**6, min_score=-np.inf)
    for i, n in enumerate(sizes):
        p, mark = scores[i, :n], marks[i, :n].tolist()
        assert runs_of_seeds(labels[i, :n].tolist()) == runs_of_seeds(mark)
        assert all(m in (FREE, x) for m, x in zip(mark, labels[i, :n], strict=True))
        assert not labels[i, n:].any()
        assert found[i] == pytest.approx(best_by_trying(p, mark), abs=1e-5)
        assert mean_contrast(p, labels[i, :n]) == pytest.approx(found[i], abs=1e-5)


@pytest.mark.parametrize("budget", [1, 4, 25])
def test_pairs_do_not_influence_each_other(budget: int) -> None:
    rng = np.random.default_rng(budget)
    lengths = rng.integers(1, 120, 300)  # more pairs than are searched at once
    scores = rng.random((300, 120)).astype(np.float32)
    marks = rng.choice([FREE, FREE, FREE, FREE, BACKGROUND, ACTION], (300, 120)).astype(np.int8)
    marks[:, 0] = ACTION
    together = search_sequences(scores, marks, lengths, budget=budget)
    for i in range(0, 300, 29):
        n = lengths[i]
        labels, score = search_sequences(
            scores[i : i + 1, :n], marks[i : i + 1, :n], lengths[i : i + 1], budget=budget
        )
        np.testing.assert_array_equal(labels[0], together[0][i, :n])
        assert score[0] == together[1][i]


def test_a_pair_without_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        search_sequences(np.zeros((1, 3), np.float32), np.full((1, 3), FREE, np.int8), np.array([3]))


def test_no_pair_at_all_is_no_error() -> None:
    labels, score = search_sequences(
        np.zeros((0, 5), np.float32), np.zeros((0, 5), np.int8), np.zeros(0, int)
    )
    assert labels.shape == (0, 5)
    assert score.shape == (0,)


def test_segments_cover_each_sequence_and_alternate() -> None:
    labels = np.array([[1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1]], np.int8)
    s = alternating_segments(labels, np.array([4, 6]))
    assert s.pair.tolist() == [0, 0, 0, 1, 1]
    assert s.start.tolist() == [0, 2, 3, 0, 3]
    assert s.end.tolist() == [2, 3, 4, 3, 6]
    assert s.action.tolist() == [True, False, True, False, True]
    swapped = s.of(np.array([1, 0]))
    assert swapped.pair.tolist() == [0, 0, 1, 1, 1]
    assert swapped.end.tolist() == [3, 6, 2, 3, 4]
