import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import TimeAxis

weights = st.lists(st.floats(0.1, 12), min_size=2, max_size=30)


@given(st.integers(1, 500), st.floats(0.1, 60), st.floats(-5, 5), st.integers(1, 700))
def test_resampling_keeps_the_stretch_of_time(length: int, rate: float, offset: float, size: int) -> None:
    axis = TimeAxis.uniform(length, rate, offset)
    other = axis.resampled(size)
    assert other.length == size
    assert other.start == pytest.approx(axis.start)
    assert other.end == pytest.approx(axis.end) == pytest.approx(offset + length / rate)


@given(weights, st.integers(2, 80), st.floats(0.2, 5))
def test_positions_and_seconds_are_inverse(w: list[float], size: int, rate: float) -> None:
    axis = TimeAxis.uniform(len(w), rate).warped(np.concatenate([[0], np.cumsum(w)]), size)
    positions = np.linspace(-3, size + 3, 50)
    np.testing.assert_allclose(axis.positions_at(axis.seconds_at(positions)), positions, atol=1e-7)
    assert np.all(np.diff(axis.seconds_at(positions)) > 0)


@given(weights)
def test_warp_gives_heavy_rows_more_room(w: list[float]) -> None:
    axis = TimeAxis.uniform(len(w), 1.0)
    warped = axis.warped(np.concatenate([[0], np.cumsum(w)]), 100)
    room = np.diff(warped.positions_at(np.arange(len(w) + 1)))
    np.testing.assert_allclose(room, np.array(w) * 100 / np.sum(w), rtol=1e-6)


def test_centers_of_the_public_i3d_grid() -> None:
    axis = TimeAxis.uniform(3, 25 / 16)
    np.testing.assert_allclose(axis.centers(), [0.32, 0.96, 1.6])


@pytest.mark.parametrize("knots", [([0.0], [0.0]), ([0, 0], [0, 1]), ([0, 1], [1, 1]), ([0, 1], [0, 1, 2])])
def test_knots_must_increase(knots: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="knots"):
        TimeAxis(2, np.array(knots[0]), np.array(knots[1]))


def test_a_warp_needs_a_weight_per_row() -> None:
    with pytest.raises(ValueError, match="cumulative"):
        TimeAxis.uniform(4, 1.0).warped([0, 1, 2], 4)
