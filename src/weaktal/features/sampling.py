"""Temporal sampling: from the L snippets of a video to the S that a network sees, whole batches at once.

Functions give row indices (B, S), or real positions (B, S) to interpolate at; `FeatureBank.rows` and
`FeatureBank.interpolated` take them. What is random is split in two: the edges between which a row is drawn,
and the draw, so that any generator can be used. With NumPy's legacy `RandomState` the draws of a batch are,
in order, the single draws that the published code makes video after video and row after row.

What becomes of a video's `TimeAxis`: sampling S rows evenly (uniform, random per bin, perturbed, linear
interpolation) covers the same stretch of time in S rows, ``axis.resampled(S)``; a warp gives
``axis.warped(cumulative, M)``; a window gives ``window_axis(axis, start, size)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from weaktal.core import TimeAxis, piecewise_linear
from weaktal.features.bank import FeatureBank

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
AnyGenerator = np.random.Generator | np.random.RandomState


def _lengths(lengths: ArrayLike) -> IntArray:
    out = np.asarray(lengths, dtype=np.int64).reshape(-1)
    if len(out) and out.min() < 1:
        raise ValueError("a video without snippets cannot be sampled")
    return out


def uniform_rows(lengths: ArrayLike, size: int) -> IntArray:
    """Rows ``floor(i L / S)``; a video shorter than S repeats its rows.

    Args:
        lengths: (B,) snippets per video, L >= 1.
        size: S.

    Returns:
        (B, S) rows, ascending.

    >>> uniform_rows([4, 10], 5).tolist()
    [[0, 0, 1, 2, 3], [0, 2, 4, 6, 8]]
    """
    return np.arange(size) * _lengths(lengths)[:, None] // size


def at_most_rows(lengths: ArrayLike, size: int) -> tuple[IntArray, IntArray]:
    """All rows of a video of at most S snippets, `uniform_rows` of a longer one; a single snippet twice.

    How ASM-Loc and SAL (ActivityNet) look at test videos.

    Args:
        lengths: (B,).
        size: S, at least 2.

    Returns:
        rows (B, T) with T at most S, and how many of them count, (B,); those after repeat the last snippet.

    >>> rows, count = at_most_rows([1, 3, 8], 4)
    >>> rows.tolist(), count.tolist()
    ([[0, 0, 0, 0], [0, 1, 2, 2], [0, 2, 4, 6]], [2, 3, 4])
    """
    length = _lengths(lengths)
    count = np.where(length <= size, np.maximum(length, 2), size)
    rows = np.arange(count.max(initial=0)) * length[:, None] // count[:, None]
    return np.minimum(rows, length[:, None] - 1), count


def bin_edges(lengths: ArrayLike, size: int) -> tuple[IntArray, IntArray]:
    """Bins of which one row each is drawn (ASM-Loc, equal to LAC's): ``rint(linspace(0, L - 1, S + 1))``.

    For videos of more than S snippets. The last snippet is in no bin, as published.

    Returns:
        low and high, (B, S) each; a row r of bin i has ``low[i] <= r < high[i]``.

    >>> [edge.tolist() for edge in bin_edges([9], 4)]
    [[[0, 2, 4, 6]], [[2, 4, 6, 8]]]
    """
    length = _lengths(lengths)
    if len(length) and length.min() <= size:
        raise ValueError(f"bins of {size} rows need more than {size} snippets, got {length.min()}")
    edges = np.rint(np.linspace(0, length - 1, size + 1, axis=-1)).astype(np.int64)
    return edges[:, :-1], edges[:, 1:]


def perturbed_edges(lengths: ArrayLike, size: int) -> tuple[IntArray, IntArray]:
    """Between which rows `perturbed_rows` draws: from one uniform row to the next, both included.

    Returns:
        low and high, (B, S) each; ``low[i] <= r < high[i]``. A video of exactly S snippets keeps them all.
    """
    length = _lengths(lengths)
    edges = np.arange(size + 1) * length[:, None] // size
    high = np.minimum(edges[:, 1:] + (length != size)[:, None], length[:, None])
    return edges[:, :-1], high


def draw_rows(low: IntArray, high: IntArray, rng: AnyGenerator) -> IntArray:
    """One integer from each ``[low, high)``, uniformly; a bin of one row uses up no legacy draw."""
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    return np.asarray(draw(low, high), dtype=np.int64)


def random_rows(lengths: ArrayLike, size: int, rng: AnyGenerator) -> IntArray:
    """One random row of each of `bin_edges`, (B, S); for videos of more than S snippets."""
    return draw_rows(*bin_edges(lengths, size), rng)


def perturbed_rows(lengths: ArrayLike, size: int, rng: AnyGenerator) -> IntArray:
    """Uniform rows, each moved at random up to the next one (SAL on THUMOS14, STCL-Net), (B, S).

    Rows need not ascend strictly: neighbours may meet. A video shorter than S repeats rows.
    """
    return draw_rows(*perturbed_edges(lengths, size), rng)


def chained_rows(lengths: ArrayLike, size: int, rng: AnyGenerator) -> IntArray:
    """The rule of SAL on ActivityNet, (B, S).

    A shorter video draws S rows with replacement and sorts them. A longer one is perturbed as in
    `perturbed_rows`, but its last row is drawn from where the row before it came to lie.
    """
    length = _lengths(lengths)
    if isinstance(rng, np.random.RandomState) and len(length) > 1:
        # the published order is video after video; drawing the last rows at the end would change it
        return np.concatenate([chained_rows([n], size, rng) for n in length])
    low, high = perturbed_edges(length, size)
    short = (length < size)[:, None]
    low, high = np.where(short, 0, low), np.where(short, length[:, None], high)
    if size == 1 or (length <= size).all():
        return np.sort(draw_rows(low, high, rng), 1)
    rows = draw_rows(low[:, :-1], high[:, :-1], rng)
    chained = length > size
    last = draw_rows(np.where(chained, rows[:, -1], low[:, -1]), high[:, -1], rng)
    return np.sort(np.concatenate([rows, last[:, None]], 1), 1)


def linear_positions(lengths: ArrayLike, size: int) -> FloatArray:
    """Positions for linear interpolation to S rows, from the first to the last snippet, (B, S).

    >>> linear_positions([3], 5).tolist()
    [[0.0, 0.5, 1.0, 1.5, 2.0]]
    """
    return np.asarray(np.linspace(0, _lengths(lengths) - 1, size, axis=-1), np.float64)


def random_positions(
    rows: IntArray, size: int, rng: AnyGenerator, *, sample_last: bool = False
) -> FloatArray:
    """One random row from each of `size` bins, or interpolated positions in a video of too few: (B, `size`).

    Args:
        rows: (B,) rows of the videos.
        size: positions to take.
        rng: source of the draws.
        sample_last: the bins cover the last row too.
    """
    out = linear_positions(rows, size)
    many = rows > size
    if many.any():
        out[many] = random_rows(rows[many] + sample_last, size, rng)
    return out


def interpolate(x: NDArray[np.floating], positions: ArrayLike) -> NDArray[np.floating]:
    """Rows of x (L, D) at real positions (S,), linear; outside of [0, L - 1] the end pieces go on; (S, D)."""
    at = np.asarray(positions, np.float64)
    low = np.clip(np.floor(at), 0, max(len(x) - 2, 0)).astype(np.int64)
    a, b = x[low], x[np.minimum(low + 1, len(x) - 1)]
    return np.asarray(a + (at - low).astype(x.dtype)[:, None] * (b - a))


def warp(weights: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Dynamic sampling (ASM-Loc): snippets of large weight get more rows.

    Args:
        weights: (L,) positive; a snippet of weight w takes w rows of the new sequence.

    Returns:
        Positions (M,) in the old sequence to interpolate at, M the rounded sum of the weights; and the
        cumulative weights (L + 1,) that ``TimeAxis.warped`` takes. The published code sets a snippet at the
        end of its stretch, so that the first positions may be negative (extrapolation). A single snippet is
        taken twice, whatever its weight.

    >>> positions, cumulative = warp([1, 2, 1])
    >>> positions.tolist(), cumulative.tolist()
    ([0.0, 0.5, 1.0, 2.0], [0.0, 1.0, 3.0, 4.0])
    """
    w = np.asarray(weights, np.float64)
    if w.ndim != 1 or not len(w) or not (w > 0).all():
        raise ValueError("weights are positive, one per snippet")
    if len(w) == 1:
        return np.zeros(2), np.array([0.0, 1.0])
    cumulative = np.concatenate([[0.0], np.cumsum(w)])
    rows = max(1, int(np.rint(cumulative[-1])))
    return piecewise_linear(np.arange(1, rows + 1), cumulative, np.arange(len(w) + 1.0)) - 1, cumulative


class Warp:
    """Dynamic sampling of V videos, see `warp`.

    Args:
        weights: (L,) per video, how densely to sample each snippet. A video of one snippet stays as it is.
        at_end: a snippet's feature is taken to be at the end of its stretch of time, as published; else in
            the middle.

    Attributes:
        source: per video (M,) positions among its snippets.
        rows: (V,) how many rows the warped videos have, M.
        knots: per video (L + 1,) the cumulative weights from 0 on, or None where there is nothing to warp.
    """

    def __init__(self, weights: Sequence[FloatArray], *, at_end: bool = True) -> None:
        self.at_end = at_end
        self.source: list[FloatArray] = []
        self.knots: list[FloatArray | None] = []
        for w in weights:
            positions, knots = (np.zeros(1), None) if len(w) == 1 else warp(w)
            if knots is not None and not at_end:
                middles = np.arange(len(positions)) + 0.5
                positions = piecewise_linear(middles, knots, np.arange(len(knots), dtype=np.float64)) - 0.5
            self.source.append(positions)
            self.knots.append(knots)
        self.rows: IntArray = np.array([len(x) for x in self.source], np.int64)

    def positions(self, video: IntArray, rows: IntArray) -> FloatArray:
        """Where rows (B, S) of the warped videos (B,) lie among the snippets, (B, S)."""
        return np.stack([self.source[v][r] for v, r in zip(video, rows, strict=True)])

    def warped(self, video: int | np.integer, position: FloatArray) -> FloatArray:
        """Positions on the time line of a video, in snippets, on the warped one, in rows."""
        knots = self.knots[video]
        if knots is None:
            return position
        shift = 1.0 if self.at_end else 0.0
        snippets = np.arange(len(knots), dtype=np.float64)
        return piecewise_linear(position + shift, snippets, knots, side="left") - shift


def sampled(
    bank: FeatureBank, video: IntArray, rows: FloatArray, length: IntArray, warp: Warp | None = None
) -> Tensor:
    """Features of videos (B,) at the (fractional) `rows` (B, T), the first `length` (B,): (B, T, D).

    With `warp`, rows of the warped video, which are interpolated between snippets themselves.
    """
    if warp is None:
        x = bank.interpolated(video, rows)
    else:
        last = warp.rows[video][:, None] - 1
        low = np.clip(np.floor(rows), 0, np.maximum(last - 1, 0)).astype(np.int64)
        a, b = (bank.interpolated(video, warp.positions(video, r)) for r in (low, np.minimum(low + 1, last)))
        x = torch.lerp(a, b, torch.from_numpy(rows - low).to(a)[..., None])
    inside = np.arange(rows.shape[1]) < length[:, None]
    return x * torch.from_numpy(inside).to(x)[..., None]


def window_starts(length: int, size: int, stride: int) -> IntArray:
    """First rows of sliding windows that cover a video: every `stride` rows, the last one at the end.

    >>> window_starts(10, 4, 4).tolist(), window_starts(3, 4, 4).tolist()
    ([0, 4, 6], [0])
    """
    if min(length, size, stride) < 1 or stride > size:
        raise ValueError(f"windows of {size} rows every {stride} do not cover {length} rows")
    last = max(length - size, 0)
    return np.unique(np.append(np.arange(0, last, stride), last))


def window_rows(length: int, size: int, stride: int) -> IntArray:
    """Rows of sliding windows, (W, size); a video shorter than a window repeats its last snippet."""
    rows: IntArray = window_starts(length, size, stride)[:, None] + np.arange(size)
    return np.minimum(rows, length - 1)


def window_axis(axis: TimeAxis, start: int, size: int) -> TimeAxis:
    """The time axis of the rows ``start : start + size``."""
    inside = axis.positions[(axis.positions > start) & (axis.positions < start + size)]
    knots = np.concatenate([[start], inside, [start + size]])
    return TimeAxis(size, knots - start, axis.seconds_at(knots))
