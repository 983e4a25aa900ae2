"""Suppression against loops that follow its definition, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.localize.nms import nms, overlapping_pairs, soft_nms, soft_nms_once

Segments = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def segments(draw: st.DrawFn) -> Segments:
    """Start, end, score, group on a coarse grid, so that ties, duplicates and zero lengths are common."""
    n = draw(st.integers(0, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    start = rng.integers(0, 20, n) / 2
    return start, start + rng.integers(0, 10, n) / 2, rng.integers(-3, 8, n) / 4, rng.integers(0, 3, n) * 5


def iou(a: tuple[float, float], b: tuple[float, float], one: float) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]) + one)
    union = (a[1] - a[0] + one) + (b[1] - b[0] + one) - inter
    return inter / union if union > 0 else 0.0


def loop_nms(s, e, c, threshold, one, own=False):  # type: ignore[no-untyped-def]
    """Kept rows, then (row, suppressor) pairs, of one group."""
    left = list(np.argsort(c, kind="stable")[::-1])
    kept, lost = [], []
    while left:
        top = left.pop(0)
        kept.append(int(top))
        rest = []
        for j in left:
            if own:
                inter = max(0.0, min(e[top], e[j]) - max(s[top], s[j]) + one)
                length = e[j] - s[j] + one
                drop = (inter / length if length > 0 else 0.0) > threshold
            else:
                drop = iou((s[top], e[top]), (s[j], e[j]), one) >= threshold
            if drop:
                lost.append((int(j), int(top)))
            else:
                rest.append(j)
        left = rest
    return kept, lost


@given(segments(), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.booleans(), st.booleans())
def test_hard_equals_the_loop(x: Segments, threshold: float, plus_one: bool, own: bool) -> None:
    s, e, c, g = x
    expected: list[int] = []
    for group in np.unique(g):
        rows = np.flatnonzero(g == group)
        kept, _ = loop_nms(s[rows], e[rows], c[rows], threshold, float(plus_one), own)
        expected += rows[kept].tolist()
    overlap = "own" if own else "iou"
    assert nms(s, e, c, threshold, plus_one=plus_one, overlap=overlap, group=g).tolist() == expected


@given(segments(), st.sampled_from([0.3, 0.5, 1.0]), st.booleans())
def test_one_pass_equals_the_loop(x: Segments, threshold: float, plus_one: bool) -> None:
    s, e, c, g = x
    rows_out: list[int] = []
    scores_out: list[float] = []
    for group in np.unique(g):
        rows = np.flatnonzero(g == group)
        kept, lost = loop_nms(s[rows], e[rows], c[rows], threshold, float(plus_one))
        rows_out += rows[kept].tolist()
        scores_out += c[rows[kept]].tolist()
        for j, by in lost:
            a, b = rows[j], rows[by]
            rows_out.append(int(a))
            scores_out.append(c[a] * np.exp(-(iou((s[a], e[a]), (s[b], e[b]), float(plus_one)) ** 2) / 0.35))
    rows, scores = soft_nms_once(s, e, c, threshold, 0.35, plus_one=plus_one, group=g)
    assert rows.tolist() == rows_out
    np.testing.assert_allclose(scores, scores_out, rtol=1e-12)


@given(segments(), st.sampled_from(["gaussian", "linear", "hard"]), st.booleans())
def test_iterative_equals_the_loop(x: Segments, kind: str, plus_one: bool) -> None:
    s, e, c, g = x
    rows_out: list[int] = []
    scores_out: list[float] = []
    for group in np.unique(g):
        table = [[s[i], e[i], c[i], i] for i in np.flatnonzero(g == group)]
        for i in range(len(table)):
            top = max(range(i, len(table)), key=lambda j: (table[j][2], -j))
            table[i], table[top] = table[top], table[i]
            for row in table[i + 1 :]:
                o = iou((table[i][0], table[i][1]), (row[0], row[1]), float(plus_one))
                if kind == "gaussian":
                    row[2] *= np.exp(-(o**2) / 0.3)
                elif o > 0.4:
                    row[2] *= 1 - o if kind == "linear" else 0.0
        rows_out += [row[3] for row in table]
        scores_out += [row[2] for row in table]
    rows, scores = soft_nms(s, e, c, kind=kind, sigma=0.3, threshold=0.4, plus_one=plus_one, group=g)
    assert rows.tolist() == rows_out
    np.testing.assert_allclose(scores, scores_out, rtol=1e-12)


@given(segments())
def test_groups_do_not_meet(x: Segments) -> None:
    s, e, c, _ = x
    alone = np.arange(len(s))
    assert sorted(nms(s, e, c, 0.1, group=alone).tolist()) == alone.tolist()
    rows, scores = soft_nms(s, e, c, group=alone)
    assert rows.tolist() == alone.tolist()
    np.testing.assert_array_equal(scores, c)


def test_a_unit_in_seconds_makes_neighbours_overlap() -> None:
    touching = ([0.0, 1.0], [1.0, 2.0], [0.9, 0.8])
    assert len(nms(*touching, threshold=1 / 3)) == 1
    assert len(nms(*touching, threshold=1 / 3, plus_one=False)) == 2


def test_own_length_spares_the_long_segment() -> None:
    short_first = ([4.0, 0.0], [6.0, 20.0], [0.9, 0.8])
    long_first = ([4.0, 0.0], [6.0, 20.0], [0.8, 0.9])
    assert nms(*short_first, threshold=0.45, overlap="own").tolist() == [0, 1]
    assert nms(*long_first, threshold=0.45, overlap="own").tolist() == [1]


def test_overlap_in_float32_with_a_tiny_length() -> None:
    # IoU is 9/20 exactly; 1e-6 on both lengths pushes it below
    segment = ([0.0, 0.0], [9.0, 20.0], [0.9, 0.8])
    assert len(nms(*segment, threshold=0.45, plus_one=False)) == 1
    assert len(nms(*segment, threshold=0.45, overlap="actionformer")) == 2


def test_negative_scores_rise() -> None:
    _, scores = soft_nms([0, 0], [10, 10], [-1.0, -2.0], sigma=0.3)
    assert scores[0] == -1.0
    assert scores[1] == pytest.approx(-2.0 * np.exp(-1 / 0.3))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: nms([0], [1], [float("nan")], 0.5),
        lambda: nms([0, 1], [1], [1.0], 0.5),
        lambda: nms([0], [1], [1.0], 0.5, overlap="giou"),  # type: ignore[arg-type]
        lambda: soft_nms([0], [1], [1.0], kind="cubic"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(bad) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        bad()


@given(
    starts=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    plus_one=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pairs_that_are_left_out_do_not_overlap(starts: list[int], plus_one: bool, seed: int) -> None:
    s = np.array(starts, float)
    e = s + np.random.default_rng(seed).integers(0, 8, len(s))
    found = np.zeros((len(s), len(s)))
    one, other, iou = overlapping_pairs(s, e, plus_one=plus_one)
    assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(one)
    found[one, other] = found[other, one] = iou
    extra = float(plus_one)
    for i in range(len(s)):
        for j in range(len(s)):
            inter = max(0.0, min(e[i], e[j]) - max(s[i], s[j]) + extra)
            union = (e[i] - s[i] + extra) + (e[j] - s[j] + extra) - inter
            assert found[i, j] == pytest.approx(inter / union if union > 0 else 0.0)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=20
    ),
    kind=st.sampled_from(["gaussian", "linear", "hard"]),
)
def test_few_groups_and_many_are_suppressed_alike(rows: list[tuple[int, int, int]], kind: str) -> None:
    """One group goes pair by pair, many go in rounds; ties and zeros abound here."""
    start, length, score = np.array(rows, float).T
    alone = soft_nms(start, start + length, score, kind=kind, threshold=0.3)  # type: ignore[arg-type]
    copies = 40
    n = len(rows)
    group = np.repeat(np.arange(copies), n)
    columns = (np.tile(x, copies) for x in (start, start + length, score))
    many = soft_nms(*columns, kind=kind, threshold=0.3, group=group)  # type: ignore[arg-type, misc]
    for k in range(copies):
        np.testing.assert_array_equal(many[0][k * n : (k + 1) * n] - k * n, alone[0])
        np.testing.assert_array_equal(many[1][k * n : (k + 1) * n], alone[1])
