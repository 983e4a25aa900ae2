"""How far two annotators, or a run and an annotator, agree: in frames, in events and in clicks.

Frames: Cohen's kappa (Cohen, 1960), which is 1 for the same label on every frame, and 0 for what two who
label as often, and independently, would reach. Events: segments of a class matched one to one from a tIoU on,
with F1 and the mean distance of their borders. Both sides count alike; none is the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, NameIndex, Video
from weaktal.evaluate.matching import BoolArray, FloatArray, IntArray, overlapping, temporal_iou

ALL = "all classes"
FPS = 25.0  # frames per second of videos that do not say


@dataclass(frozen=True)
class Agreed:
    """Agreement on one class, or on all.

    Attributes:
        kappa: Cohen's kappa in frames: labelled with the class or not; of all classes, with the same set of
            classes. NaN where both sides say one and the same thing of every frame.
        frames: share of frames on which both sides say the same.
        segments: number of segments of either side.
        matched: pairs of segments with the tIoU or more.
        f1: 2 x matched / segments of both; NaN without any.
        border_error: mean distance in seconds of the starts and ends of matched segments; NaN without any.
        seconds: annotated by either side, summed over segments.
        clicks, clicks_matched, clicks_f1, click_error: the same for clicks, matched within the tolerance.
    """

    kappa: float
    frames: float
    segments: tuple[int, int]
    matched: int
    f1: float
    border_error: float
    seconds: tuple[float, float]
    clicks: tuple[int, int]
    clicks_matched: int
    clicks_f1: float
    click_error: float


@dataclass(frozen=True)
class Agreement:
    """What two sides say of the same videos.

    Attributes:
        classes: by name, every class that either side has used; `ALL` comes first.
        videos: compared, by name.
        only: videos that one side alone has, (A's, B's).
        duration: of the compared videos together, seconds.
        tiou, tolerance: of a match of segments, and of clicks in seconds.
    """

    classes: Mapping[str, Agreed]
    videos: tuple[str, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    duration: float
    tiou: float
    tolerance: float

    @property
    def overall(self) -> Agreed:
        """All classes together."""
        return self.classes[ALL]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined is null."""

        def plain(value: object) -> object:
            return None if isinstance(value, float) and np.isnan(value) else value

        return {
            "videos": list(self.videos),
            "only": [list(names) for names in self.only],
            "duration": self.duration,
            "tiou": self.tiou,
            "tolerance": self.tolerance,
            "classes": {
                name: {k: plain(v) for k, v in asdict(agreed).items()}
                for name, agreed in self.classes.items()
            },
        }


def agreement(
    a: Annotations, b: Annotations, *, tiou: float = 0.5, tolerance: float = 1.0, fps: float = FPS
) -> Agreement:
    """Compare what two sides say of the videos that both have.

    Args:
        a, b: in any order: exchanging them exchanges the sides and changes nothing else.
        tiou: of a match of segments, in (0, 1].
        tolerance: between two clicks that are one, seconds.
        fps: frames per second of videos of which neither side knows the rate.

    Raises:
        InputError: no video in common; numbers out of range.
    """
    if not 0 < tiou <= 1:
        raise InputError("a tIoU lies above 0 and at most at 1", found=tiou)
    if not (tolerance >= 0 and fps > 0):
        raise InputError("a tolerance is at least 0 and a frame rate above 0", found=[tolerance, fps])
    known = NameIndex(b.videos)
    names = {name: known.find(name) for name in a.videos}
    pairs = [(a.videos[name], b.videos[other]) for name, other in names.items() if other is not None]
    if not pairs:
        raise InputError(
            "no video in common",
            found=f"{next(iter(a.videos), None)!r} and others, and {next(iter(b.videos), None)!r} and others",
        )
    classes = [*a.classes, *(c for c in b.classes if c not in a.classes)]
    place = {name: i for i, name in enumerate(classes)}
    own = np.array([place[c] for c in a.classes], np.int64)
    theirs = np.array([place[c] for c in b.classes], np.int64)
    counts = np.zeros((len(classes), 3), np.int64)  # frames of both, of A, of B
    sets: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    events, clicks = _Pairs(len(classes)), _Pairs(len(classes))
    total, duration = 0, 0.0
    for one, other in pairs:
        rate = one.fps or other.fps or fps
        length = _length(one, other)
        frames, duration = round(length * rate), duration + length
        grids = _grid(one, own, len(classes), frames, rate), _grid(other, theirs, len(classes), frames, rate)
        total += frames
        counts += np.stack([(grids[0] & grids[1]).sum(1), grids[0].sum(1), grids[1].sum(1)], axis=1)
        _count_sets(sets, *grids)
        events.segments(one, other, own, theirs, tiou)
        clicks.clicks(one, other, own, theirs, tolerance)
    kappas = [_binary(both, x, y, total) for both, x, y in counts.tolist()]
    used = (counts[:, 1:].sum(1) + events.number.sum(1) + clicks.number.sum(1)) > 0
    everything = np.arange(len(classes))
    out = {ALL: _agreed(_nominal(sets, total), events, clicks, everything)}
    out |= {
        name: _agreed(kappas[i], events, clicks, np.array([i])) for i, name in enumerate(classes) if used[i]
    }
    found = set(names.values())
    only = (
        tuple(name for name, other in names.items() if other is None),
        tuple(name for name in b.videos if name not in found),
    )
    return Agreement(out, tuple(v.name for v, _ in pairs), only, duration, tiou, tolerance)


def _length(one: Video, other: Video) -> float:
    """Seconds of a video: as either side says, or up to what is annotated last."""
    if one.duration or other.duration:
        return max(one.duration or 0.0, other.duration or 0.0)
    return float(max(v.instances.end.max(initial=0) for v in (one, other)))


def _grid(video: Video, place: IntArray, classes: int, frames: int, rate: float) -> BoolArray:
    """(C, F): which classes lie on which frame, by the middle of the frame."""
    it = video.instances
    edges = np.zeros((classes, frames + 1), np.int64)
    for times, step in ((it.start, 1), (it.end, -1)):
        at = np.clip(np.ceil(times * rate - 0.5), 0, frames).astype(np.int64)
        np.add.at(edges, (place[it.label], at), step)
    return edges.cumsum(axis=1)[:, :frames] > 0


def _count_sets(sets: Counter[tuple[tuple[int, ...], tuple[int, ...]]], a: BoolArray, b: BoolArray) -> None:
    """Count the frames of every pair of label sets."""
    if not a.shape[1]:
        return
    present = np.flatnonzero((a | b).any(axis=1))
    both = np.concatenate([a[present], b[present]])
    changes = np.flatnonzero(np.concatenate([[True], (both[:, 1:] != both[:, :-1]).any(axis=0)]))
    lengths = np.diff(np.append(changes, a.shape[1]))
    for at, n in zip(changes.tolist(), lengths.tolist(), strict=True):
        sets[tuple(present[a[present, at]].tolist()), tuple(present[b[present, at]].tolist())] += n


def _binary(both: int, a: int, b: int, total: int) -> tuple[float, float]:
    """Kappa and observed agreement of "labelled or not"."""
    if not total:
        return np.nan, np.nan
    observed = (total - a - b + 2 * both) / total
    chance = (a * b + (total - a) * (total - b)) / total**2
    return _kappa(observed, chance), observed


def _nominal(sets: Counter[tuple[tuple[int, ...], tuple[int, ...]]], total: int) -> tuple[float, float]:
    """Kappa and observed agreement of label sets."""
    if not total:
        return np.nan, np.nan
    rows, columns = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for (x, y), n in sets.items():
        rows[x] += n
        columns[y] += n
    observed = sum(n for (x, y), n in sets.items() if x == y) / total
    chance = sum(n * columns[x] for x, n in rows.items()) / total**2
    return _kappa(observed, chance), observed


def _kappa(observed: float, chance: float) -> float:
    return np.nan if chance >= 1 else (observed - chance) / (1 - chance)


class _Pairs:
    """Items of both sides, and those that were matched, by class."""

    def __init__(self, classes: int) -> None:
        self.number = np.zeros((classes, 2), np.int64)
        self.seconds = np.zeros((classes, 2))
        self.matched = np.zeros(classes, np.int64)
        self.error = np.zeros(classes)  # summed over matches

    def segments(self, one: Video, other: Video, own: IntArray, theirs: IntArray, tiou: float) -> None:
        x, y = one.instances, other.instances
        label, label_y = own[x.label], theirs[y.label]
        self._count(label, label_y)
        np.add.at(self.seconds[:, 0], label, x.end - x.start)
        np.add.at(self.seconds[:, 1], label_y, y.end - y.start)
        i, j = overlapping(label, x.start, x.end, label_y, y.start, y.end)
        overlap = temporal_iou(x.start[i], x.end[i], y.start[j], y.end[j])
        near = overlap >= tiou
        apart = (np.abs(x.start[i] - y.start[j]) + np.abs(x.end[i] - y.end[j])) / 2
        self._match(i[near], j[near], -overlap[near], apart[near], label)

    def clicks(self, one: Video, other: Video, own: IntArray, theirs: IntArray, tolerance: float) -> None:
        x, y = one.points, other.points
        label = np.empty(0, np.int64) if x is None else own[x.label]
        label_y = np.empty(0, np.int64) if y is None else theirs[y.label]
        self._count(label, label_y)
        if x is None or y is None:
            return
        apart = np.abs(x.time[:, None] - y.time)
        i, j = np.nonzero((apart <= tolerance) & (label[:, None] == label_y))
        self._match(i, j, apart[i, j], apart[i, j], label)

    def _count(self, label: IntArray, other: IntArray) -> None:
        np.add.at(self.number[:, 0], label, 1)
        np.add.at(self.number[:, 1], other, 1)

    def _match(self, i: IntArray, j: IntArray, cost: FloatArray, apart: FloatArray, label: IntArray) -> None:
        """One to one, the best pairs first, of equal ones the nearer borders; no side comes first."""
        free_i, free_j = set(i.tolist()), set(j.tolist())
        for k in np.lexsort((i + j, apart, cost)).tolist():
            if i[k] in free_i and j[k] in free_j:
                free_i.remove(int(i[k]))
                free_j.remove(int(j[k]))
                self.matched[label[i[k]]] += 1
                self.error[label[i[k]]] += apart[k]

    def of(self, rows: IntArray) -> tuple[tuple[int, int], int, float, float]:
        """Numbers, matches, F1 and mean error of some classes."""
        a, b = (int(n) for n in self.number[rows].sum(axis=0))
        matched = int(self.matched[rows].sum())
        f1 = 2 * matched / (a + b) if a + b else np.nan
        return (a, b), matched, f1, float(self.error[rows].sum() / matched) if matched else np.nan


def _agreed(kappa: tuple[float, float], events: _Pairs, clicks: _Pairs, rows: IntArray) -> Agreed:
    segments, matched, f1, border = events.of(rows)
    points, points_matched, points_f1, error = clicks.of(rows)
    first, second = events.seconds[rows].sum(axis=0).tolist()
    return Agreed(
        kappa[0],
        kappa[1],
        segments,
        matched,
        f1,
        border,
        (first, second),
        points,
        points_matched,
        points_f1,
        error,
    )
