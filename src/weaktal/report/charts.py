"""Charts of a page, as numbers that a template draws: curves over an axis, and values on lanes.

A curve's chart has a fixed size in its own units and is scaled by the page. A lane is as wide as the page
allows: its places are percent, so that circles stay round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLORS = 8  # of groups; a ninth has the first one's, with dashes
LEFT, TOP, RIGHT, BOTTOM = 46, 10, 12, 40  # around what a chart draws in


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low, high: values at its ends.
        ticks: round values in between.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: ArrayLike, *, zero: bool = False, most: int = 6) -> Scale:
        """A scale that holds the finite ones of some values and ends at round ones.

        Args:
            values: any.
            zero: let it hold 0.
            most: about how many ticks.

        >>> Scale.of([3.1, 8.7]).ticks
        (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
        """
        found = np.asarray(values, np.float64).ravel()
        found = found[np.isfinite(found)]
        low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-8):  # ticks keep ten decimals
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / most)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(round(step * i, 10) for i in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    def at(self, value: ArrayLike) -> NDArray[np.float64]:
        """Where values lie: 0 at the low end, 1 at the high one."""
        return (np.asarray(value, np.float64) - self.low) / (self.high - self.low)

    def percent(self, value: float) -> float:
        """Where a value lies, in percent of the axis, kept on it."""
        return float(np.clip(100 * self.at(value), 0, 100))

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Ticks in [0, 1], and their texts."""
        return [(float(self.at(t)), f"{t:g}") for t in self.ticks]


def _round_step(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return size * next(s for s in (1, 2, 5, 10) if step <= s * size * (1 + 1e-9))


@dataclass(frozen=True, eq=False)
class Line:
    """A curve.

    Attributes:
        name: of the group.
        color: index of the group.
        x, y: (N,) places; a value that is not finite is left out.
        low, high: (N,) a band around it.
        titles: (N,) what its dots say; none for no dots.
        faint: one of several of a group.
    """

    name: str
    color: int
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    titles: Sequence[str] = ()
    faint: bool = False


@dataclass(frozen=True)
class Drawn:
    """A line in the units of its chart: SVG points, and dots with what they say."""

    name: str
    color: int
    points: str
    band: str
    dots: Sequence[tuple[float, float, str]]
    faint: bool


@dataclass(frozen=True)
class LineChart:
    """Curves over an axis; `label` describes them for those who do not see the picture."""

    label: str
    x_label: str
    y_label: str
    width: int
    height: int
    lines: Sequence[Drawn]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    x: Scale | None = None,
    y: Scale | None = None,
    width: int = 400,
    height: int = 270,
) -> LineChart:
    """Lay out curves.

    Args:
        lines: at least one, from back to front.
        label: what the picture shows, in a sentence.
        x_label, y_label: of the axes.
        x, y: axes; by default such that all curves are on them.
        width, height: in the chart's units, axes included.
    """
    x = x or Scale.of(np.concatenate([np.ravel(line.x) for line in lines]), most=5)
    if y is None:
        parts = [np.ravel(v) for line in lines for v in (line.y, line.low, line.high) if v is not None]
        y = Scale.of(np.concatenate(parts), most=5)
    inner = width - LEFT - RIGHT, height - TOP - BOTTOM

    def place(across: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
        both = np.stack(
            [LEFT + inner[0] * x.at(across), TOP + inner[1] * (1 - np.clip(y.at(up), 0, 1))], axis=-1
        )
        return both.reshape(-1, 2)

    drawn = []
    for line in lines:
        at = place(line.x, line.y)
        kept = np.isfinite(at).all(axis=1)
        band = ""
        if line.low is not None and line.high is not None:
            band = _points(np.concatenate([place(line.x, line.high), place(line.x, line.low)[::-1]]))
        dots = [
            (float(a), float(b), t)
            for (a, b), t in zip(at, line.titles, strict=False)
            if math.isfinite(a + b)
        ]
        drawn.append(Drawn(line.name, line.color, _points(at[kept]), band, dots, line.faint))
    return LineChart(
        label,
        x_label,
        y_label,
        width,
        height,
        drawn,
        [(LEFT + inner[0] * at, text) for at, text in x.labels if at <= 1 + 1e-9],
        [(TOP + inner[1] * (1 - at), text) for at, text in y.labels],
    )


def _points(at: NDArray[np.float64]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in at)


@dataclass(frozen=True)
class Mark:
    """A value on a lane, in percent of its width and units of its height; `kind` decides its shape."""

    kind: str
    at: float
    up: float
    title: str


@dataclass(frozen=True)
class Lane:
    """Values of a group on an axis that it shares with others.

    Attributes:
        name: of the lane.
        color: index of its group.
        label: its values as text, for those who do not see the picture.
        text: beside it.
        height: in pixels.
        marks: values.
        joins: horizontal lines between two marks: from, to, up.
        span: from, to, title of an interval; None for none.
        mean: where a vertical line stands; None for none.
    """

    name: str
    color: int
    label: str
    text: str
    height: float
    marks: Sequence[Mark] = ()
    joins: Sequence[tuple[float, float, float]] = ()
    span: tuple[float, float, str] | None = None
    mean: float | None = None


@dataclass(frozen=True)
class LaneChart:
    """Lanes under each other; ticks in percent."""

    x_label: str
    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]
    zero: float | None = None


def lane_chart(lanes: Sequence[Lane], scale: Scale, x_label: str) -> LaneChart:
    """Lanes with the ticks of a scale; 0 stands out where it is inside."""
    inside = scale.low < 0 < scale.high
    ticks = [(100 * at, text) for at, text in scale.labels]
    return LaneChart(x_label, lanes, ticks, scale.percent(0) if inside else None)


def thinned(x: ArrayLike, y: ArrayLike, most: int = 160) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of at most `most` bins of equally many neighbours; of what is not finite, nothing is kept.

    >>> thinned([0, 1, 2, 3], [1, 3, 5, 7], most=2)
    (array([0.5, 2.5]), array([2., 6.]))
    """
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = np.isfinite(up)
    across, up = across[kept], up[kept]
    if len(up) <= most:
        return across, up
    edges = np.linspace(0, len(up), most + 1).astype(int)[:-1]
    counts = np.diff([*edges, len(up)])
    return np.add.reduceat(across, edges) / counts, np.add.reduceat(up, edges) / counts
