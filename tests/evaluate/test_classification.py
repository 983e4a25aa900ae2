"""Video-level classification against definitions written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.evaluate import (
    classification_ap,
    classification_map,
    diving_rule,
    exact_accuracy,
    top1_accuracy,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 4)))
    return rng.integers(0, 6, shape) / 5, rng.random(shape) < 0.4


@given(tables())
def test_ranked(table: tuple[np.ndarray, np.ndarray]) -> None:
    score, label = table
    ap = classification_ap(score, label)
    for c in range(score.shape[1]):
        order = sorted(range(len(score)), key=lambda v: (-score[v, c], v))
        hits = [bool(label[v, c]) for v in order]
        at = [sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit]
        assert ap[c] == pytest.approx(np.mean(at)) if at else np.isnan(ap[c])


@given(tables())
def test_joint(table: tuple[np.ndarray, np.ndarray]) -> None:
    score, label = table
    ap = classification_ap(score, label, ties="joint")
    for c in range(score.shape[1]):
        positives = label[:, c].sum()
        total, recall = 0.0, 0.0
        for level in sorted(set(score[:, c]), reverse=True):
            above = score[:, c] >= level
            now = (label[:, c] & above).sum() / max(positives, 1)
            total += (now - recall) * (label[:, c] & above).sum() / above.sum()
            recall = now
        assert ap[c] == pytest.approx(total) if positives else np.isnan(ap[c])


@given(tables(), st.integers(0, 2**32))
def test_joint_ties_depend_on_no_order(table: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    score, label = table
    p = np.random.default_rng(seed).permutation(len(score))
    a = classification_ap(score, label, ties="joint")
    np.testing.assert_allclose(a, classification_ap(score[p], label[p], ties="joint"))


def test_a_class_that_never_occurs() -> None:
    score, label = [[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]]
    assert classification_map(score, label) == 1
    assert np.isnan(classification_map(score, label, nan_classes=True))
    assert np.isnan(classification_map([[0.5]], [[0]]))


def test_diving_rule() -> None:
    score = np.array([[0.2, 0.9], [0.8, 0.1]])
    assert diving_rule(score, diving=0, cliff_diving=1)[:, 0].tolist() == [0.9, 0.8]
    assert score[0, 0] == 0.2


def test_accuracy() -> None:
    score, label = [[0.9, 0.1], [0.6, 0.5], [0.4, 0.3]], [[1, 0], [1, 0], [0, 1]]
    assert exact_accuracy(score, label, 0.5) == pytest.approx(1 / 3)
    assert top1_accuracy(score, label) == pytest.approx(2 / 3)
    assert np.isnan(top1_accuracy([[0.1, 0.2]], [[0, 0]]))


@pytest.mark.parametrize("bad", [([[1.0]], [[1, 0]]), ([1.0], [1]), ([[np.nan]], [[1]])])
def test_bad_input(bad) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        classification_ap(*bad)
    with pytest.raises(ValueError, match="ranked"):
        classification_ap([[1.0]], [[1]], ties="none")  # type: ignore[arg-type]
