"""Axes of charts, and what is drawn on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weaktal.report.charts import Line, Scale, line_chart, thinned

VALUES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20)


@given(VALUES, st.booleans(), st.integers(3, 8))
@example([0.0, 1.1641532182693481e-10], False, 3)
@example([0.0, 1.1e-8], False, 8)
def test_a_scale_holds_all_values_and_has_few_round_ticks(values: list[float], zero: bool, most: int) -> None:
    scale = Scale.of(values, zero=zero, most=most)
    slack = 1e-6 * (scale.high - scale.low) + 1e-9
    assert scale.low - slack <= min(values)
    assert max(values) <= scale.high + slack
    assert not zero or scale.low - slack <= 0 <= scale.high + slack
    assert 2 <= len(scale.ticks) <= most + 2
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert (scale.ticks[0], scale.ticks[-1]) == (scale.low, scale.high)
    assert 0 <= scale.percent(values[0]) <= 100


def test_values_that_are_no_numbers_are_left_out() -> None:
    scale = Scale.of([np.nan, 1.0, np.inf, 2.0])
    assert (scale.low, scale.high) == (1.0, 2.0)
    assert Scale.of([np.nan]).ticks
    chart = line_chart(
        [Line("a", 0, [0, 1, 2], [1.0, np.nan, 3.0], titles=["x", "y", "z"])],
        label="",
        x_label="",
        y_label="",
    )
    assert [title for *_, title in chart.lines[0].dots] == ["x", "z"]
    assert "nan" not in chart.lines[0].points
    x, y = thinned([0, 1, 2], [1.0, np.nan, 3.0])
    assert (x.tolist(), y.tolist()) == ([0, 2], [1, 3])


def test_thinned_keeps_the_mean() -> None:
    values = np.random.default_rng(0).random(1600)
    x, y = thinned(np.arange(1600), values, most=160)
    assert len(x) == len(y) == 160
    assert y.mean() == pytest.approx(values.mean())
    assert (np.diff(x) > 0).all()
