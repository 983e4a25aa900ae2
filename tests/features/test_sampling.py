"""Temporal sampling: the published numbers, and what must hold for any video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import TimeAxis
from weaktal.features import sampling as s

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "tests/golden", ROOT.parent / "shared/golden")


def golden(pattern: str) -> list[Path]:
    found = {p.name: p for folder in FOLDERS for p in sorted(folder.glob(pattern))}
    assert found, f"no golden file {pattern}"
    return list(found.values())


def ragged(rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("path", golden("asm_loc/sampling*.npz"), ids=lambda p: p.stem)
def test_asm_loc(path: Path) -> None:
    z, size = np.load(path), int(np.load(path)["sample_len"])
    want = {
        k: ragged(z[k], z[f"{k}_lens"])
        for k in ("uniform", "random", "interp", "dynamic", "cumsum", "dynamic_uniform")
    }
    parts = zip(ragged(z["features"], z["lens"]), ragged(z["dyn_weights"], z["lens"]), strict=True)
    for i, (x, weights) in enumerate(parts):
        rows, count = s.at_most_rows([len(x)], size)
        np.testing.assert_array_equal(x[rows[0, : count[0]]], want["uniform"][i])
        if len(x) > 1:
            at = s.linear_positions([len(x)], size)[0]
            np.testing.assert_allclose(s.interpolate(x, at), want["interp"][i], rtol=0, atol=1e-12)
            if len(x) > size:
                rng = np.random.RandomState(int(z["np_seed"]))
                got = x[s.random_rows([len(x)], size, rng)[0]]
            else:
                got = x if len(x) == size else s.interpolate(x, at)
            np.testing.assert_allclose(got, want["random"][i], rtol=0, atol=1e-12)
        positions, cumulative = s.warp(weights)
        warped = s.interpolate(x, positions)
        np.testing.assert_allclose(warped, want["dynamic"][i], rtol=0, atol=1e-12)
        if len(x) > 1:
            np.testing.assert_allclose(cumulative, want["cumsum"][i], rtol=1e-15)
        rows, count = s.at_most_rows([len(warped)], size)
        np.testing.assert_allclose(
            warped[rows[0, : count[0]]], want["dynamic_uniform"][i], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("path", [*golden("sal/sampling*.npz"), *golden("stcl_net/sampling*.npz")], ids=str)
def test_uniform_and_perturbed(path: Path) -> None:
    z = np.load(path)
    lengths = z["in/lengths"]
    for size in z["in/num_segments"].tolist():
        uniform = next(z[k] for k in z.files if k.endswith(f"uniform_{size}"))
        random = next(z[k] for k in z.files if k.endswith(f"random_{size}"))
        np.testing.assert_array_equal(s.uniform_rows(lengths, size), uniform)
        got = [s.perturbed_rows([n], size, np.random.RandomState(int(z["in/seed"])))[0] for n in lengths]
        np.testing.assert_array_equal(got, random)


@pytest.mark.parametrize("path", golden("sal/anet_sampling*.npz"), ids=lambda p: p.stem)
def test_at_most_and_chained(path: Path) -> None:
    z = np.load(path)
    lengths = z["in/lengths"]
    for size in z["in/sample_len"].tolist():
        rows, count = s.at_most_rows(lengths, size)
        np.testing.assert_array_equal(count, z[f"out/uniform_len_{size}"])
        got = np.concatenate([r[:n] for r, n in zip(rows, count, strict=True)])
        np.testing.assert_array_equal(got, z[f"out/uniform_{size}"])
        seed = int(z["in/seed"])
        random = [s.chained_rows([n], size, np.random.RandomState(seed))[0] for n in lengths]
        np.testing.assert_array_equal(random, z[f"out/random_{size}"])


@pytest.mark.parametrize("path", golden("stcl_net/draw*.npz"), ids=lambda p: p.stem)
def test_one_legacy_generator_through_a_batch_and_exemplars(path: Path) -> None:
    """The draws of the published training step in their order, our rows in between: one stray draw shows."""
    z = np.load(path)
    size, lengths = int(z["in/num_segments"]), z["in/lengths"]
    of_class = ragged(z["in/class_videos"], z["in/class_lengths"])
    rng = np.random.RandomState(int(z["in/seed"]))
    batch: list[int] = []
    pairs = (len(z["out/batch_video"]) - 4) // 2
    for c in rng.choice(len(of_class), size=pairs):
        batch += rng.choice(of_class[c], size=2, replace=False).tolist()
    batch += rng.choice(z["in/trainidx"], size=4).tolist()
    np.testing.assert_array_equal(batch, z["out/batch_video"])
    np.testing.assert_array_equal(s.perturbed_rows(lengths[batch], size, rng), z["out/batch_snippet"])
    for videos, want, rows in zip(of_class, z["out/exemplar_video"], z["out/exemplar_snippet"], strict=True):
        drawn = rng.choice(videos, size=len(want), replace=False)
        np.testing.assert_array_equal(drawn, want)
        np.testing.assert_array_equal(s.perturbed_rows(lengths[drawn], size, rng), rows)


batches = st.lists(st.integers(1, 300), min_size=1, max_size=6)
sizes = st.integers(1, 80)


@given(batches, sizes, st.integers(0, 2**31))
def test_rows_stay_inside_and_ascend(lengths: list[int], size: int, seed: int) -> None:
    last = np.array(lengths)[:, None] - 1
    rng = np.random.default_rng(seed)
    for rows in (s.uniform_rows(lengths, size), s.chained_rows(lengths, size, rng)):
        assert rows.shape == (len(lengths), size)
        assert (rows >= 0).all()
        assert (rows <= last).all()
        assert (np.diff(rows) >= 0).all()
    rows, (low, high) = s.perturbed_rows(lengths, size, rng), s.perturbed_edges(lengths, size)
    assert ((rows >= low) & (rows < high) & (rows <= last)).all()


@given(batches, sizes, st.integers(0, 2**31))
def test_a_legacy_batch_is_its_videos_one_after_the_other(lengths: list[int], size: int, seed: int) -> None:
    for rule in (s.perturbed_rows, s.chained_rows):
        whole, single = np.random.RandomState(seed), np.random.RandomState(seed)
        one_by_one = [rule([n], size, single)[0] for n in lengths]
        np.testing.assert_array_equal(rule(lengths, size, whole), one_by_one)


def test_the_new_generator_draws_from_the_same_distribution() -> None:
    lengths, size = [23], 10
    draws = 4000
    new = s.perturbed_rows(lengths * draws, size, np.random.default_rng(3))
    low, high = s.perturbed_edges(lengths, size)
    for i in range(size):
        values, counts = np.unique(new[:, i], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(low[0, i], high[0, i]))
        np.testing.assert_allclose(counts / draws, 1 / len(values), atol=0.04)


@given(st.integers(2, 60).flatmap(lambda n: st.tuples(st.integers(n + 1, 400), st.just(n))))
def test_bins_follow_one_another_and_leave_the_last_snippet_out(case: tuple[int, int]) -> None:
    length, size = case
    low, high = s.bin_edges([length], size)
    assert (high > low).all()
    np.testing.assert_array_equal(low[0, 1:], high[0, :-1])
    assert (low[0, 0], high[0, -1]) == (0, length - 1)


def test_bins_need_more_snippets_than_rows() -> None:
    with pytest.raises(ValueError, match="more than 4 snippets"):
        s.bin_edges([9, 4], 4)
    with pytest.raises(ValueError, match="without snippets"):
        s.uniform_rows([3, 0], 4)


@given(st.lists(st.floats(1, 12), min_size=2, max_size=40))
def test_a_warp_keeps_time(weights: list[float]) -> None:
    """Features that say when they are still say so, through the warped axis."""
    axis = TimeAxis.uniform(len(weights), rate=25 / 16)
    positions, cumulative = s.warp(weights)
    warped = axis.warped(cumulative, len(positions))
    # a snippet stands for the end of its stretch: position p in the old sequence is the boundary p + 1
    boundary = axis.seconds_at(np.arange(len(weights)) + 1.0)[:, None]
    seconds = s.interpolate(boundary, positions)[:, 0]
    # the number of rows is the rounded sum of the weights, so a row is off by no more than half a row in all
    got = warped.seconds_at(np.arange(1, len(positions) + 1.0))
    slack = 0.5 / cumulative[-1] * axis.end * max(weights) + 1e-9
    assert np.abs(got - seconds).max() <= slack


def test_a_warp_of_equal_weights_changes_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((7, 3))
    positions, cumulative = s.warp(np.ones(7))
    np.testing.assert_allclose(s.interpolate(x, positions), x, rtol=1e-14)
    axis = TimeAxis.uniform(7, 2.0)
    np.testing.assert_allclose(axis.warped(cumulative, 7).seconds_at(np.arange(8)), np.arange(8) / 2)


@given(st.integers(1, 200), st.integers(1, 50), st.data())
def test_windows_cover_every_row(length: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    rows = s.window_rows(length, size, stride)
    assert set(rows.ravel().tolist()) == set(range(length))
    axis = TimeAxis(length, np.array([0, length / 3, length]), np.array([1.0, 2.0, 9.0]))
    for start in s.window_starts(length, size, stride):
        part = s.window_axis(axis, int(start), size)
        np.testing.assert_allclose(
            part.seconds_at(np.arange(size + 1)), axis.seconds_at(start + np.arange(size + 1))
        )


def test_interpolation_of_one_snippet_is_that_snippet() -> None:
    x = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(s.interpolate(x, [-1, 0, 0.5]), np.repeat(x, 3, 0))
    np.testing.assert_array_equal(s.interpolate(x, s.warp([3.0])[0]), np.repeat(x, 2, 0))
