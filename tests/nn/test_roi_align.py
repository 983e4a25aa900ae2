"""One-dimensional RoI alignment against its definition, sample by sample, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from weaktal.nn.roi_align import contrast, roi_align, roi_align_naive, segment_bins, segment_parts


def plainly(x: NDArray[np.float64], start: float, end: float, bins: int) -> NDArray[np.float64]:
    """The definition, sample by sample."""
    extent = max(end - start, 1.0)
    size = extent / bins
    samples = math.ceil(size)

    def at(y: float) -> NDArray[np.float64]:
        low = math.floor(y)
        value = np.zeros(x.shape[1])
        for row, weight in ((low, 1 - (y - low)), (low + 1, y - low)):
            if 0 <= row < len(x):
                value += weight * x[row]
        return value

    return np.stack(
        [
            np.mean([at(start + b * size + (g + 0.5) * size / samples) for g in range(samples)], axis=0)
            for b in range(bins)
        ]
    )


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    bins=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_both_ways_are_the_mean_of_evenly_spaced_samples(lengths: list[int], bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((sum(lengths), 3))
    count = 6
    sequence = rng.integers(0, len(lengths), count)
    start = rng.uniform(-10, 25, count)
    end = start + rng.uniform(0, 30, count)
    offsets = np.cumsum([0, *lengths])
    for way in (roi_align, roi_align_naive):
        out = way(
            torch.from_numpy(x),
            torch.from_numpy(offsets[sequence]),
            torch.tensor(lengths)[sequence],
            torch.from_numpy(start),
            torch.from_numpy(end),
            bins,
        )
        for m, v in enumerate(sequence):
            expected = plainly(x[offsets[v] : offsets[v + 1]], start[m], end[m], bins)
            np.testing.assert_allclose(out[m], expected, atol=1e-9)


def value_and_gradient(way: Callable[..., Tensor], lengths: list[int], dtype: torch.dtype) -> list[Tensor]:
    """Of segments in all of these videos, from tiny to longer than them, at places that dtypes share."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((sum(lengths), 4))).to(dtype).requires_grad_()
    video = np.repeat(np.arange(len(lengths)), 7)
    size = np.maximum(np.array(lengths), 1)[video]
    start = np.round(rng.uniform(-0.3, 1, len(video)) * size * 64) / 64
    end = start + np.round(rng.uniform(0, 1.2, len(video)) * size * 64) / 64
    first, length = np.cumsum([0, *lengths])[video], np.array(lengths)[video]
    places = [torch.from_numpy(p) for p in (first, length)]
    out = way(features, *places, *(torch.from_numpy(p).to(dtype) for p in (start, end)), 8)
    if not features.numel():
        return [out]
    given = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    return [out, *torch.autograd.grad(out, features, given)]


@pytest.mark.parametrize("lengths", [[1], [2], [63], [700], [0, 5], [30, 0, 1, 300], [0]])
def test_value_and_gradient_of_both_ways(lengths: list[int]) -> None:
    exact = value_and_gradient(roi_align_naive, lengths, torch.float64)
    torch.testing.assert_close(value_and_gradient(roi_align, lengths, torch.float64), exact)
    ours, plain = (value_and_gradient(way, lengths, torch.float32) for way in (roi_align, roi_align_naive))
    for x, y, z in zip(ours, plain, exact, strict=True):
        assert (x - z).abs().max() <= 2 * (y - z).abs().max() + 2e-6


def test_its_gradient_is_the_numerical_one() -> None:
    features = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    first, length = torch.tensor([0, 4, 4, 4]), torch.tensor([4, 5, 5, 5])
    start = torch.tensor([0.3, -2.0, 1.0, 4.9], dtype=torch.float64)
    end = torch.tensor([3.9, 9.0, 1.2, 30.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, first, length, start, end, 4), (features,))


def test_a_moved_origin_moves_nothing_else() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    first, length = torch.zeros(2, dtype=torch.int64), torch.tensor([20, 20])
    start, end = torch.tensor([2.0, -3.0]), torch.tensor([9.0, 40.0])
    here = roi_align(x, first, length, start, end, 6)
    origin = torch.tensor([16, 64])
    torch.testing.assert_close(roi_align(x, first, length, start + origin, end + origin, 6, origin), here)


def test_a_constant_inside_stays_constant() -> None:
    x = torch.full((50, 1), 3.0)
    out = roi_align(x, torch.tensor([0]), torch.tensor([50]), torch.tensor([5.0]), torch.tensor([41.5]), 12)
    torch.testing.assert_close(out, torch.full((1, 12, 1), 3.0))


def test_no_segments_give_no_rows() -> None:
    none = torch.zeros(0)
    out = roi_align(torch.ones(3, 2), none.long(), none.long(), none, none, 5)
    assert out.shape == (0, 5, 2)


@pytest.mark.parametrize("short", [0.0, 0.4])
def test_a_segment_shorter_than_a_snippet_is_read_as_one(short: float) -> None:
    x = torch.arange(10.0)[:, None]
    first, length = torch.tensor([0]), torch.tensor([10])
    one = roi_align(x, first, length, torch.tensor([4.0]), torch.tensor([5.0]), 3)
    torch.testing.assert_close(
        roi_align(x, first, length, torch.tensor([4.0]), torch.tensor([4.0 + short]), 3), one
    )


@pytest.mark.parametrize("bins", [6, 12, 13])
def test_parts_are_the_largest_values_of_a_sixth_the_middle_and_the_rest(bins: int) -> None:
    rng = np.random.default_rng(0)
    length, count = torch.tensor([40, 3, 90]), 700  # more than are read at once
    video = torch.from_numpy(rng.integers(0, 3, count))
    start = torch.from_numpy(rng.uniform(-5, 80, count)).float()
    end = start + torch.from_numpy(rng.gamma(1.5, 8, count)).float()
    longest = torch.full((3,), 50.0)[video]
    features, first = torch.randn(int(length.sum()), 5), length.cumsum(0) - length
    places = first[video], length[video], longest, start, end
    parts = segment_parts(features, *places, bins)
    every, side = segment_bins(features, *places, bins), bins // 6
    pieces = every[:, :side], every[:, side : 5 * side], every[:, 5 * side :]
    left, inside, right = (x.amax(dim=1) for x in pieces)
    torch.testing.assert_close(parts, torch.stack([left, inside, right], 1))
    torch.testing.assert_close(contrast(parts), torch.cat([inside - left, inside, inside - right], 1))
    assert segment_parts(features, *(x[:0] for x in places), bins).shape == (0, 3, 5)
