"""The best alternation of background and action that agrees with point labels (LAC, Lee & Byun, ICCV 2021).

A beam search over the times at which a video switches between background and action, scored by outer-inner
contrast. Many (video, class) pairs advance together, each to its next open decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

FREE, BACKGROUND, ACTION = -1, 0, 1
_PAIRS_AT_ONCE = 256  # bounds memory; more pairs in one array are not faster


@dataclass(frozen=True, eq=False)
class Segments:
    """Alternating segments that cover each of P sequences, ordered by (pair, start). (M,) each.

    Attributes:
        pair: which sequence a segment belongs to.
        start, end: its positions [start, end).
        action: true for action, false for background.
    """

    pair: IntArray
    start: IntArray
    end: IntArray
    action: BoolArray

    def __len__(self) -> int:
        return len(self.pair)

    def __getitem__(self, rows: BoolArray | IntArray) -> Segments:
        return Segments(self.pair[rows], self.start[rows], self.end[rows], self.action[rows])

    def of(self, pairs: IntArray) -> Segments:
        """The segments of some pairs; pair `pairs[i]` becomes pair i."""
        first = np.searchsorted(self.pair, pairs, side="left")
        count = np.searchsorted(self.pair, pairs, side="right") - first
        rows = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
        return Segments(
            np.repeat(np.arange(len(pairs)), count), self.start[rows], self.end[rows], self.action[rows]
        )


def alternating_segments(labels: NDArray[np.int8], lengths: IntArray) -> Segments:
    """The segments of dense labels.

    Args:
        labels: (P, T) of `BACKGROUND` and `ACTION`; positions at and after a sequence's length do not count.
        lengths: (P,).
    """
    inside = np.arange(labels.shape[1]) < lengths[:, None]
    change = np.ones(labels.shape, np.bool_)
    change[:, 1:] = labels[:, 1:] != labels[:, :-1]
    pair, start = np.nonzero(change & inside)
    last = np.append(pair[1:] != pair[:-1], True)[: len(pair)]
    end = np.where(last, lengths[pair], np.append(start[1:], 0)[: len(start)])
    return Segments(pair, start, end, labels[pair, start] == ACTION)


def search_pairs(
    scores: Sequence[Float32Array], marks: Sequence[NDArray[np.int8]], **options: Any
) -> tuple[Segments, Float32Array]:
    """`search_sequences` for curves of unequal length.

    Args:
        scores, marks: of each of P (video, class) pairs, (T,).
        options: of `search_sequences`.

    Returns:
        The best segments of each pair, and their scores (P,).
    """
    lengths = np.array([len(s) for s in scores], np.int64)
    shape = (len(scores), int(lengths.max(initial=1)))
    score, mark = np.zeros(shape, np.float32), np.full(shape, FREE, np.int8)
    for i, n in enumerate(lengths):
        score[i, :n], mark[i, :n] = scores[i], marks[i]
    labels, best = search_sequences(score, mark, lengths, **options)
    return alternating_segments(labels, lengths), best


def search_sequences(
    scores: Float32Array,
    marks: NDArray[np.int8],
    lengths: IntArray,
    *,
    budget: int = 25,
    min_score: float = 0.1,
    margin: float = 0.25,
) -> tuple[NDArray[np.int8], Float32Array]:
    """Best alternation of background and action through given seeds.

    A hypothesis is a list of switch times; its score is the mean outer-inner contrast of its closed segments
    (of the action score inside actions, of one minus it inside background). After every position hypotheses
    below `min_score` are dropped (never the best), then all but the `budget` best and their ties. At the end
    the last segment counts too, and the best hypothesis wins.

    Args:
        scores: (P, T) action scores of P (video, class) pairs, padded.
        marks: (P, T) seeds: `ACTION`, `BACKGROUND`, or `FREE` where the search decides.
        lengths: (P,) valid positions, at least 1.
        budget: hypotheses kept.
        min_score: see above.
        margin: width of the outside on each side, as a share of a segment's length.

    Returns:
        labels: (P, T) of `BACKGROUND` and `ACTION`, zero in the padding.
        score: (P,) score of the best hypothesis.

    Raises:
        ValueError: a pair has no seed at all.
    """
    marks = np.where(np.arange(marks.shape[1]) < lengths[:, None], marks, FREE).astype(np.int8)
    if not bool(np.all((marks != FREE).any(1))):
        raise ValueError("the search needs at least one seed for every pair")
    labels = np.zeros(marks.shape, np.int8)
    score = np.zeros(len(marks), np.float32)
    by_length = np.argsort(-lengths, kind="stable")
    for low in range(0, len(marks), _PAIRS_AT_ONCE):
        rows = by_length[low : low + _PAIRS_AT_ONCE]
        width = int(lengths[rows[0]])
        found = _Beam(scores[rows, :width], marks[rows, :width], lengths[rows], budget, min_score, margin)
        labels[rows, :width], score[rows] = found.run()
    return labels, score


def _compulsory(marks: NDArray[np.int8]) -> NDArray[np.int8]:
    """Positions whose neighbouring seeds on both sides agree belong to them; borders agree with anything."""
    width = marks.shape[1]
    place, known = np.arange(width), marks != FREE
    left = np.maximum.accumulate(np.where(known, place, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, place, width)[:, ::-1], axis=1)[:, ::-1]
    left, right = np.where(left < 0, right, left), np.where(right == width, left, right)
    before, after = np.take_along_axis(marks, left, 1), np.take_along_axis(marks, right, 1)
    return np.where(before == after, before, FREE).astype(np.int8)


class _Beam:
    """Hypotheses of several pairs, (rows, width) padded with score -infinity, in order of enumeration.

    Between two compulsory stretches i and i + 1 a hypothesis has either switched or not; nowhere else is
    there anything to decide, so a pair's steps are its open positions and the forced switch that ends them.
    """

    def __init__(
        self,
        scores: Float32Array,
        marks: NDArray[np.int8],
        lengths: IntArray,
        budget: int,
        min_score: float,
        margin: float,
    ) -> None:
        self.budget, self.min_score, self.margin = budget, np.float32(min_score), margin
        self.compulsory = _compulsory(marks)
        state, before = self.compulsory[:, 1:], self.compulsory[:, :-1]
        free = state == FREE
        inside = np.arange(1, marks.shape[1]) < lengths[:, None]
        decide = (free | (state != before)) & inside
        count = decide.sum(1)
        # pairs with many decisions first: those still running are then always the first rows
        self.order = np.argsort(-count, kind="stable")
        self.count = count[self.order]
        self.lengths = lengths[self.order]
        self.sums = np.zeros((len(marks), marks.shape[1] + 1))
        np.cumsum(scores[self.order], axis=1, dtype=np.float64, out=self.sums[:, 1:])
        self.first_state = self.compulsory[self.order, 0]

        row, column = np.nonzero(decide[self.order])
        step = np.arange(len(row)) - np.repeat(np.cumsum(self.count) - self.count, self.count)
        shape = (len(marks), int(count.max(initial=0)))
        self.time = np.zeros(shape, np.int64)
        self.time[row, step] = column + 1
        self.forced = np.zeros(shape, np.bool_)
        self.forced[row, step] = ~free[self.order][row, column]
        # a boundary begins at a pair's first step and after every forced switch
        begins = np.ones(shape, np.bool_)
        begins[:, 1:] = self.forced[:, :-1]
        self.begins = begins
        self.closed = np.cumsum(begins, axis=1) - 1  # segments closed before this boundary

    def contrast(self, rows: IntArray, start: IntArray, end: IntArray, action: BoolArray) -> Float32Array:
        """Outer-inner contrast of [start, end) in `rows`; all four of one shape.

        Rounded to float32, so that equal means are equal whatever the order of summation.
        """
        sums, width = self.sums.reshape(-1), self.sums.shape[1]
        base, length = rows * width, end - start
        reach = self.margin * length
        low = np.maximum(start - reach, 0).astype(np.int64)
        high = np.minimum(np.trunc(end - 1 + reach).astype(np.int64) + 1, self.lengths[rows])
        high = np.maximum(high, end)
        inner_sum = sums[base + end] - sums[base + start]
        outside = (high - low) - length
        outer = (sums[base + high] - sums[base + low] - inner_sum) / np.maximum(outside, 1)
        inner = inner_sum / np.maximum(length, 1)
        value = np.where(action, inner - outer, 1 - inner - np.where(outside > 0, 1 - outer, 0))
        return np.asarray(value, np.float32)

    def run(self) -> tuple[NDArray[np.int8], Float32Array]:
        pairs = len(self.order)
        self.parents: list[IntArray] = []
        self.times: list[IntArray] = []
        self.nodes = 0
        best_node = np.full(pairs, -1)
        best_score = np.zeros(pairs, np.float32)
        start = np.zeros((pairs, 1), np.int64)
        score = np.full((pairs, 1), np.inf, np.float32)
        node = np.full((pairs, 1), -1)
        waiting = np.ones((pairs, 1), np.bool_)  # has not switched at the present boundary yet
        running = pairs
        for step in range(self.time.shape[1] + 1):
            still = int(np.searchsorted(-self.count, -step, side="left"))  # pairs with count > step
            if still < running:
                done = slice(still, running)
                best_node[done], best_score[done] = self.finish(
                    np.arange(still, running), start[done], score[done], node[done]
                )
                start, score, node, waiting = start[:still], score[:still], node[:still], waiting[:still]
                running = still
            if not running:
                break
            waiting = waiting | self.begins[:running, step, None]
            start, score, node, waiting = self.advance(step, start, score, node, waiting)
        labels = np.empty(self.compulsory.shape, np.int8)
        labels[self.order] = self.trace(best_node)
        values = np.empty(pairs, np.float32)
        values[self.order] = best_score
        return labels, values

    def advance(
        self, step: int, start: IntArray, score: Float32Array, node: IntArray, waiting: BoolArray
    ) -> tuple[IntArray, Float32Array, IntArray, BoolArray]:
        """One decision of every running pair: stay, switch, prune."""
        running, width = score.shape
        time = self.time[:running, step, None]
        forced = self.forced[:running, step, None]
        closed = self.closed[:running, step, None]
        alive = score > -np.inf
        row, column = np.nonzero(waiting & alive)
        closes_action = (self.first_state[row] + closed[row, 0]) % 2 == ACTION
        value = self.contrast(row, start[row, column], time[row, 0], closes_action)
        n = closed[row, 0].astype(np.float32)
        before = np.where(n > 0, score[row, column], np.float32(0))

        # each hypothesis's "stay" child before its "switch" child
        child_score = np.full((running, width, 2), -np.inf, np.float32)
        child_score[..., 0] = np.where(waiting & forced, np.float32(-np.inf), score)
        child_score[row, column, 1] = (before * n + value) / (n + 1)
        flat = child_score.reshape(running, 2 * width)
        best = flat.max(axis=1, keepdims=True)
        keep = ((flat >= self.min_score) | (flat == best)) & (flat > -np.inf)
        if int(keep.sum(1).max()) > self.budget:
            kept = np.where(keep, flat, np.float32(-np.inf))
            lowest = np.partition(kept, 2 * width - self.budget, axis=1)[:, 2 * width - self.budget, None]
            keep &= flat >= lowest

        row, column = np.nonzero(keep)
        place = np.arange(len(row)) - np.repeat(np.cumsum(keep.sum(1)) - keep.sum(1), keep.sum(1))
        shape = (running, int(place.max()) + 1)
        parent, switched = column // 2, (column % 2).astype(np.bool_)
        new_node = node[row, parent]
        born = int(switched.sum())
        self.parents.append(new_node[switched])
        self.times.append(time[row[switched], 0])
        new_node[switched] = self.nodes + np.arange(born)
        self.nodes += born
        out_start = np.zeros(shape, np.int64)
        out_score = np.full(shape, -np.inf, np.float32)
        out_node = np.full(shape, -1)
        out_waiting = np.zeros(shape, np.bool_)
        out_start[row, place] = np.where(switched, time[row, 0], start[row, parent])
        out_score[row, place] = flat[row, column]
        out_node[row, place] = new_node
        out_waiting[row, place] = waiting[row, parent] & ~switched
        return out_start, out_score, out_node, out_waiting

    def finish(
        self, rows: IntArray, start: IntArray, score: Float32Array, node: IntArray
    ) -> tuple[IntArray, Float32Array]:
        """The best hypothesis of finished pairs, with the last segment counted."""
        at = np.repeat(rows[:, None], score.shape[1], axis=1)
        closed = (self.closed[rows, self.count[rows] - 1] + 1 if self.time.shape[1] else 0 * rows).astype(
            np.int64
        )
        closed = np.where(self.count[rows] > 0, closed, 0)[:, None]
        action = np.broadcast_to((self.first_state[rows, None] + closed) % 2 == ACTION, at.shape)
        value = self.contrast(at, start, self.lengths[at], action)
        n = closed.astype(np.float32)
        total = (np.where((n > 0) & (score > -np.inf), score, np.float32(0)) * n + value) / (n + 1)
        total = np.where(score > -np.inf, total, np.float32(-np.inf))
        last_best = score.shape[1] - 1 - np.argmax(total[:, ::-1], axis=1)  # among equals the last one
        pick = np.arange(len(rows)), last_best
        return node[pick], total[pick].astype(np.float32)

    def trace(self, node: IntArray) -> NDArray[np.int8]:
        """Dense labels of hypotheses, (pairs, T): every switch on the way back changes the state."""
        none = np.empty(0, np.int64)
        parents, times = np.concatenate([none, *self.parents]), np.concatenate([none, *self.times])
        switch = np.zeros((len(node), self.sums.shape[1] - 1), np.int8)
        row = np.nonzero(node >= 0)[0]
        node = node[row]
        while len(row):
            switch[row, times[node]] = 1
            node = parents[node]
            row, node = row[node >= 0], node[node >= 0]
        labels = (self.first_state[:, None] + np.cumsum(switch, axis=1)) % 2
        return np.where(np.arange(labels.shape[1]) < self.lengths[:, None], labels, 0).astype(np.int8)
