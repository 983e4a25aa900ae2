"""What a threshold costs: precision, recall, false alarms an hour, and errors in seconds.

Average precision says nothing of the threshold that somebody who uses the segments must choose. These
functions look at one threshold, or at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weaktal.core import Annotations, Detections
from weaktal.evaluate.matching import BoolArray, FloatArray, IntArray, Segments, match, overlapping

ALL = "all classes"


@dataclass(frozen=True)
class Intersection:
    """A match by intersections in place of tIoU, as Bilen et al. (ICASSP 2020) have it for sounds.

    Attributes:
        detection: a detection is right if at least this share of it lies in instances of its class.
        truth: an instance is found if right detections cover at least this share of it.
    """

    detection: float = 0.5
    truth: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.detection <= 1 and 0 < self.truth <= 1):
            raise ValueError(f"shares lie in (0, 1], got {self.detection} and {self.truth}")


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall at every threshold of the score; (K,) each, by falling threshold.

    Attributes:
        threshold: the K different scores; detections with at least this score count.
        precision: right detections / detections.
        recall: instances found / instances.
        false_alarms: wrong detections an hour of annotated video; NaN where no duration is known.
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    false_alarms: FloatArray

    @property
    def f1(self) -> FloatArray:
        """(K,) harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)

    def best(self) -> dict[str, float] | None:
        """Where F1 is largest (of equals the highest threshold); None without detections."""
        if not len(self.threshold):
            return None
        f1 = self.f1
        at = int(f1.argmax())
        return {
            "f1": float(f1[at]),
            "threshold": float(self.threshold[at]),
            "precision": float(self.precision[at]),
            "recall": float(self.recall[at]),
            "false_alarms_per_hour": float(self.false_alarms[at]),
        }


def operating_curves(
    detections: Detections, annotations: Annotations, criterion: float | Intersection = 0.5
) -> dict[str, Curve]:
    """Curves of every class with instances, and of all together under the name `ALL`.

    Args:
        detections, annotations: in seconds; detections in videos that are not annotated, and of classes
            without instances, are left out.
        criterion: tIoU of a match, each instance once; or an `Intersection`.
    """
    table = annotations.instance_table()
    present = sorted(set(table.label.tolist()))
    names = [annotations.classes[c] for c in present]
    place = {c: i for i, c in enumerate(present)}
    found, score = _found(detections, annotations, names)
    label = np.array([place[c] for c in table.label.tolist()], np.int64)
    truth = Segments(table.video, table.start, table.end, label)
    hours = sum(v.duration or np.nan for v in annotations) / 3600 if len(annotations) else np.nan
    if isinstance(criterion, Intersection):
        right, reached = _by_intersection(truth, found, score, criterion)
    else:
        matches = match(truth, found, score, len(names), [criterion])
        taken = np.full(len(found), -1, np.int64)
        taken[matches.order] = matches.instance[0]
        right = taken >= 0
        reached = np.full(len(truth), -np.inf)
        reached[taken[right]] = score[right]
    curves = {
        name: _curve(score[found.label == c], right[found.label == c], reached[truth.label == c], hours)
        for c, name in enumerate(names)
    }
    curves[ALL] = _curve(score, right, reached, hours)
    return curves


def _found(detections: Detections, annotations: Annotations, names: list[str]) -> tuple[Segments, FloatArray]:
    kept = detections.relabelled(names)
    places = {name: i for i, name in enumerate(annotations.videos)}
    video = np.array([places.get(n, -1) for n in kept.names] or [-1], np.int64)[kept.video]
    rows = np.flatnonzero(video >= 0)
    return Segments(video[rows], kept.start[rows], kept.end[rows], kept.label[rows]), kept.score[rows]


def _curve(score: FloatArray, right: BoolArray, reached: FloatArray, hours: float) -> Curve:
    """`reached` is the score from which each instance is found, -inf for never."""
    threshold = np.unique(score)[::-1]
    order = np.argsort(-score, kind="stable")
    ranked = -score[order]
    count = np.searchsorted(ranked, -threshold, side="right")
    hits = np.concatenate([[0], np.cumsum(right[order])])[count]
    instances = np.searchsorted(np.sort(-reached), -threshold, side="right")
    return Curve(
        threshold,
        hits / np.maximum(count, 1),
        instances / max(len(reached), 1),
        (count - hits) / hours if hours > 0 else np.full(len(threshold), np.nan),
    )


def _by_intersection(
    truth: Segments, found: Segments, score: FloatArray, rule: Intersection
) -> tuple[BoolArray, FloatArray]:
    """Which detections are right (N,), and the score from which each instance is found (G,)."""
    classes = 1 + int(max(truth.label.max(initial=0), found.label.max(initial=0)))
    mine, theirs = (s.video * classes + s.label for s in (found, truth))
    left, other = overlapping(mine, found.start, found.end, theirs, truth.start, truth.end)
    low = np.maximum(found.start[left], truth.start[other])
    high = np.minimum(found.end[left], truth.end[other])
    pairs = high > low
    left, other, low, high = left[pairs], other[pairs], low[pairs], high[pairs]
    right = np.zeros(len(found), bool)
    for i, rows in _groups(left):
        length = found.end[i] - found.start[i]
        right[i] = _union(low[rows], high[rows]) >= rule.detection * length * (1 - 1e-12)
    reached = np.full(len(truth), -np.inf)
    good = right[left]
    left, other, low, high = left[good], other[good], low[good], high[good]
    for j, rows in _groups(other):
        rows = rows[np.argsort(-score[left[rows]], kind="stable")]
        needed = rule.truth * (truth.end[j] - truth.start[j]) * (1 - 1e-12)
        small, large = 0, len(rows)  # the fewest of the surest that cover enough
        if _union(low[rows], high[rows]) < needed:
            continue
        while large - small > 1:
            middle = (small + large) // 2
            enough = _union(low[rows[:middle]], high[rows[:middle]]) >= needed
            small, large = (small, middle) if enough else (middle, large)
        reached[j] = score[left[rows[large - 1]]]
    return right, reached


def _groups(key: IntArray) -> list[tuple[int, IntArray]]:
    """(value, rows) of every value."""
    order = np.argsort(key, kind="stable")
    values, first = np.unique(key[order], return_index=True)
    return list(zip(values.tolist(), np.split(order, first[1:]), strict=True)) if len(values) else []


def _union(start: FloatArray, end: FloatArray) -> float:
    """Length of the union of intervals."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order])
    before = np.concatenate([start[:1], end[:-1]])
    return float(np.maximum(end - np.maximum(start, before), 0).sum())


@dataclass(frozen=True, eq=False)
class Seconds:
    """Errors at one threshold, in seconds of annotated video.

    Attributes:
        annotated: seconds that were looked at, the collars left out; of each class the same.
        truth, detected: class -> seconds in instances and in detections.
        false_alarm, missed: class -> seconds detected and not annotated, annotated and not detected.
        pieces: class -> detections that an instance is cut into, the mean over instances that are touched.
        merged: class -> instances that a detection covers, the mean over detections that touch one.
    """

    annotated: float
    truth: Mapping[str, float]
    detected: Mapping[str, float]
    false_alarm: Mapping[str, float]
    missed: Mapping[str, float]
    pieces: Mapping[str, float]
    merged: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN as None."""
        clean = {
            name: {k: None if np.isnan(v) else v for k, v in getattr(self, name).items()}
            for name in ("truth", "detected", "false_alarm", "missed", "pieces", "merged")
        }
        return {"annotated": self.annotated, **clean}


def errors_in_seconds(
    detections: Detections, annotations: Annotations, *, least: float = -np.inf, collar: float = 0.0
) -> Seconds:
    """False alarms and misses in seconds, over- and under-segmentation, of each class and of `ALL` together.

    Args:
        detections, annotations: in seconds. A video without a duration lasts until its last segment's end.
        least: score from which detections count.
        collar: seconds around every border of an instance (of the class) that do not count.
    """
    if collar < 0:
        raise ValueError(f"a collar is at least 0 seconds, got {collar}")
    table = annotations.instance_table()
    names = [annotations.classes[c] for c in sorted(set(table.label.tolist()))]
    found, _ = _found(detections[detections.score >= least], annotations, names)
    place = {name: i for i, name in enumerate(names)}
    label = np.array([place[annotations.classes[c]] for c in table.label.tolist()], np.int64)
    truth = Segments(table.video, table.start, table.end, label)
    last = np.zeros(len(annotations))
    for s in (truth, found):
        np.maximum.at(last, s.video, s.end)
    duration = [last[i] if v.duration is None else v.duration for i, v in enumerate(annotations)]
    columns: dict[str, dict[str, float]] = {
        n: {} for n in ("truth", "detected", "false_alarm", "missed", "pieces", "merged")
    }
    looked_at = 0.0
    for c, name in enumerate(names):
        mine, theirs = truth[truth.label == c], found[found.label == c]
        sums = np.zeros(5)
        for v, length in enumerate(duration):
            sums += _overlap_seconds(mine[mine.video == v], theirs[theirs.video == v], length, collar)
        for key, value in zip(("truth", "detected", "false_alarm", "missed"), sums, strict=False):
            columns[key][name] = float(value)
        looked_at += float(sums[4])
        left, right = overlapping(theirs.video, theirs.start, theirs.end, mine.video, mine.start, mine.end)
        real = np.minimum(theirs.end[left], mine.end[right]) > np.maximum(
            theirs.start[left], mine.start[right]
        )
        columns["pieces"][name] = _mean_size(right[real])
        columns["merged"][name] = _mean_size(left[real])
    for key in ("truth", "detected", "false_alarm", "missed"):
        columns[key][ALL] = float(sum(columns[key].values()))
    for key in ("pieces", "merged"):
        known = [x for x in columns[key].values() if not np.isnan(x)]
        columns[key][ALL] = float(np.mean(known)) if known else np.nan
    return Seconds(looked_at / max(len(names), 1), **columns)


def _mean_size(key: IntArray) -> float:
    return float(np.unique(key, return_counts=True)[1].mean()) if len(key) else np.nan


def _overlap_seconds(truth: Segments, found: Segments, duration: float, collar: float) -> FloatArray:
    """Seconds in truth, detections, false alarms, misses, and in all, of one class in one video."""
    borders = np.concatenate([truth.start, truth.end]) if collar else np.empty(0)
    edges = np.concatenate(
        [[0.0, duration], truth.start, truth.end, found.start, found.end, borders - collar, borders + collar]
    )
    edges = np.unique(np.clip(edges, 0.0, duration))
    middle, length = (edges[1:] + edges[:-1]) / 2, np.diff(edges)

    def inside(start: FloatArray, end: FloatArray) -> BoolArray:
        within: BoolArray = ((start[:, None] < middle) & (middle < end[:, None])).any(axis=0)
        return within

    counts = ~inside(borders - collar, borders + collar) if collar else np.ones(len(middle), bool)
    is_truth, is_found = inside(truth.start, truth.end), inside(found.start, found.end)
    cells = (is_truth, is_found, is_found & ~is_truth, is_truth & ~is_found, np.ones_like(is_truth))
    return np.array([float(length[counts & cell].sum()) for cell in cells])
