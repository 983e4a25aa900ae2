"""Where snippet positions and seconds meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def piecewise_linear(
    x: ArrayLike, knots_x: FloatArray, knots_y: FloatArray, *, side: Literal["left", "right"] = "right"
) -> FloatArray:
    """Linear interpolation through knots, continued along the first and last piece outside of them.

    At a knot, `side` chooses the piece: "right" the one that starts there, "left" the one that ends there (as
    scipy's `interp1d` does). They differ in the last bit at most.
    """
    x = np.asarray(x, dtype=np.float64)
    piece = np.clip(np.searchsorted(knots_x, x, side=side) - 1, 0, len(knots_x) - 2)
    x0, y0 = knots_x[piece], knots_y[piece]
    slope = (knots_y[piece + 1] - y0) / (knots_x[piece + 1] - x0)
    return np.asarray(y0 + (x - x0) * slope)


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """Maps positions of a sequence of ``length`` rows to seconds and back.

    A position is a real number in [0, length]: row ``i`` covers the positions [i, i + 1). The map is
    increasing and piecewise linear, so it survives every resampling of the field: uniform, random
    per bin, linear interpolation, and the non-uniform sampling of ASM-Loc.

    Args:
        length: number of rows.
        positions: knots of the map in positions, increasing, at least two.
        seconds: the same knots in seconds, increasing.

    >>> axis = TimeAxis.uniform(100, rate=25 / 16)
    >>> axis.seconds_at([0, 50, 100]).tolist()
    [0.0, 32.0, 64.0]
    >>> axis.resampled(50).seconds_at(25).item()
    32.0
    """

    length: int
    positions: FloatArray
    seconds: FloatArray

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions, dtype=np.float64)
        seconds = np.asarray(self.seconds, dtype=np.float64)
        if positions.ndim != 1 or positions.shape != seconds.shape or len(positions) < 2:
            raise ValueError(f"a time axis needs two or more knots, got {positions.shape}, {seconds.shape}")
        if not ((positions[1:] > positions[:-1]).all() and (seconds[1:] > seconds[:-1]).all()):
            raise ValueError("the knots of a time axis must increase")
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "seconds", seconds)

    @classmethod
    def uniform(cls, length: int, rate: float, offset: float = 0.0) -> TimeAxis:
        """Rows of equal length: ``rate`` rows per second, the first one starting at ``offset`` seconds."""
        if length < 1 or not rate > 0:
            raise ValueError(f"a time axis needs length >= 1 and rate > 0, got {length} and {rate}")
        return cls(length, np.array([0.0, length]), np.array([offset, offset + length / rate]))

    @property
    def start(self) -> float:
        """Where the first row starts, in seconds."""
        return float(self.seconds_at(0))

    @property
    def end(self) -> float:
        """Where the last row ends, in seconds."""
        return float(self.seconds_at(self.length))

    def seconds_at(self, positions: ArrayLike) -> FloatArray:
        """Seconds of (real-valued) positions, continued linearly outside [0, length]."""
        return piecewise_linear(positions, self.positions, self.seconds)

    def positions_at(self, seconds: ArrayLike) -> FloatArray:
        """Positions of seconds, the inverse of :meth:`seconds_at`."""
        return piecewise_linear(seconds, self.seconds, self.positions)

    def centers(self) -> FloatArray:
        """The middle of every row, seconds, shape (length,)."""
        return self.seconds_at(np.arange(self.length) + 0.5)

    def resampled(self, length: int) -> TimeAxis:
        """The same stretch of time in ``length`` rows; up-sampling by 20 is ``resampled(20 * length)``."""
        return TimeAxis(length, self.positions * (length / self.length), self.seconds)

    def warped(self, cumulative: ArrayLike, length: int) -> TimeAxis:
        """The axis after non-uniform sampling.

        Args:
            cumulative: (length + 1,) increasing; entry ``i`` is where the start of old row ``i`` lies in
                units of the new sampling, so ``[0, cumsum(weights)]`` for sampling weights.
            length: rows of the new sequence; it covers [0, cumulative[-1]] evenly.
        """
        c = np.asarray(cumulative, dtype=np.float64)
        if c.shape != (self.length + 1,):
            raise ValueError(f"expected {self.length + 1} cumulative weights, got shape {c.shape}")
        return TimeAxis(length, c * (length / c[-1]), self.seconds_at(np.arange(self.length + 1)))
