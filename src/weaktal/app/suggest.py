"""What should be labelled next: the videos and moments where a click helps most, and why.

A run can tell where it is unsure, but not what it has never learnt: of a class with few labels it finds few
moments, mostly wrong ones, and whoever labels only what it names never gets to the class. Videos are named in
two ways, therefore, in turn.

*By lot*, among those without labels, whatever the runs say: these show what the runs do not know. Before
there is a run, this is all.

*By the runs*: a moment is a peak of a run's activation in a video that is not done. What speaks for it:

- *uncertain*: something is there, but the runs can hardly tell which class it is, or whether;
- *disagreeing*: runs (other methods, or other starts of one) differ about it;
- *rare*: its class has few labels so far;
- *new*: its features are far from everything that is labelled.

The weighted sum is its value, and the part that adds most is the reason that is shown. Of a video at most
`PER_VIDEO` moments are named, so that a person sees many videos, and a list spreads over the rare classes.

The runs have as large a share of the videos as their classes are known: n / (n + `ENOUGH`) for a class with n
labels, the mean over the classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core import SnippetScores, TimeAxis

FloatArray = NDArray[np.float64]
Features = Callable[[str], "tuple[NDArray[np.float32], TimeAxis] | None"]

WEIGHTS = {"uncertain": 0.25, "disagreeing": 0.2, "rare": 0.4, "new": 0.15}
PER_VIDEO = 3
ENOUGH = 8  # labels of a class from which on its runs name as many videos as are named without them
APART = 1.0  # seconds between two moments, and from a label
LEAST = 0.15  # activation of a peak, of the strongest in the run


@dataclass(frozen=True)
class Label:
    """Something that a person said of a video: a class from `start` to `end` (equal for a click), seconds."""

    start: float
    end: float
    label: int


@dataclass(frozen=True)
class Moment:
    """A suggestion.

    Attributes:
        video, time: where; time is None where the whole video is meant.
        label: the class that is likely there, or None.
        value: how much a click there is worth, 0 to 1.
        reasons: the parts of it, each from 0 to 1.
    """

    video: str
    time: float | None
    label: int | None
    value: float
    reasons: Mapping[str, float]

    @property
    def reason(self) -> str:
        """The part that adds most."""
        return max(self.reasons, key=lambda k: WEIGHTS.get(k, 1.0) * self.reasons[k])


def suggest(
    runs: Sequence[Mapping[str, SnippetScores]],
    labels: Mapping[str, Sequence[Label]],
    candidates: Sequence[str],
    classes: int,
    *,
    features: Features | None = None,
    excluded: frozenset[tuple[str, int]] = frozenset(),
    most: int = 50,
) -> list[Moment]:
    """The moments worth most, the best first.

    Args:
        runs: snippet scores of each run by video, over the same `classes` columns.
        labels: what is known, by video.
        candidates: videos to choose from.
        classes: number of classes.
        features: gives (L, D) features and their time axis; None where a video has none.
        excluded: (video, class) pairs that a person has ruled out.
        most: how many to return.
    """
    counts = np.zeros(classes)
    for said in labels.values():
        for each in said:
            counts[each.label] += 1
    rare = _rare(counts)
    known = _labelled_rows(labels, features) if features is not None else None
    distances = _distances(candidates, known, features) if runs else {}
    scale = [_scale(run) for run in runs]
    found: list[tuple[Moment, float]] = []
    for video in candidates:
        theirs = [(run[video], s) for run, s in zip(runs, scale, strict=True) if video in run]
        if theirs:
            found += _moments(video, theirs, labels.get(video, ()), rare, distances.get(video), excluded)
    share = float(np.mean(counts / (counts + ENOUGH))) if found else 0.0
    drawn = _drawn([v for v in candidates if not labels.get(v)], 1 - share)
    return _in_turn(_varied(found, counts), drawn, share)[:most]


def _rare(counts: FloatArray) -> FloatArray:
    """0 for the class with most labels, 1 for one without any."""
    out: FloatArray = 1 - counts / max(1.0, counts.max(initial=0.0))
    return out


def _scale(run: Mapping[str, SnippetScores]) -> tuple[float, float]:
    """The range of activation in a run: its 5 % and 99.5 % quantiles."""
    values = [s.cas.reshape(-1) for s in run.values() if s.cas.size]
    if not values:
        return 0.0, 1.0
    low, high = np.quantile(np.concatenate(values), [0.05, 0.995])
    return float(low), float(max(high, low + 1e-6))


def _moments(
    video: str,
    theirs: Sequence[tuple[SnippetScores, tuple[float, float]]],
    said: Sequence[Label],
    rare: FloatArray,
    distance: tuple[FloatArray, TimeAxis] | None,
    excluded: frozenset[tuple[str, int]],
) -> list[tuple[Moment, float]]:
    """The moments of a video, each with what "rare" would be for a class without any label."""
    axis = theirs[0][0].axis
    times = axis.centers()
    curves = []
    for scores, (low, high) in theirs:
        level = np.clip((scores.cas - low) / (high - low), 0, 1)
        if scores.axis.length != axis.length:  # another sampling of the same video
            rows = np.clip(scores.axis.positions_at(times), 0, scores.axis.length - 1).astype(np.int64)
            level = level[rows]
        curves.append(level)
    stack = np.stack(curves)  # (runs, T, C)
    mean, spread = stack.mean(0), 2 * stack.std(0)
    new = None
    if distance is not None:
        far, snippets = distance
        new = far[np.clip(snippets.positions_at(times), 0, len(far) - 1).astype(np.int64)]
    out = []
    for c in range(mean.shape[1]):
        if (video, c) in excluded:
            continue
        for t in _peaks(mean[:, c], times):
            if any(a.start - APART <= times[t] <= a.end + APART for a in said):
                continue
            level = float(mean[t, c])
            # of its class, another, or nothing; where nothing is likely there is little to ask
            share = level / float(mean[t].sum() + 1 - mean[t].max())
            unsure, there = 4 * share * (1 - share) * level, share * level
            reasons = {"uncertain": unsure, "rare": float(rare[c]) * there}
            if len(theirs) > 1:
                reasons["disagreeing"] = float(np.clip(spread[t, c], 0, 1))
            if new is not None:
                reasons["new"] = float(new[t])
            weight = sum(WEIGHTS[k] for k in reasons)
            value = sum(WEIGHTS[k] * v for k, v in reasons.items()) / weight
            out.append((Moment(video, float(times[t]), c, value, reasons), there))
    return out


def _peaks(curve: FloatArray, times: FloatArray) -> list[int]:
    """Local maxima at least `LEAST` high and `APART` seconds apart, the highest first."""
    padded = np.concatenate([[-1.0], curve, [-1.0]])
    top = (padded[1:-1] >= padded[:-2]) & (padded[1:-1] > padded[2:]) & (curve >= LEAST)
    kept: list[int] = []
    for t in sorted(np.flatnonzero(top).tolist(), key=lambda i: -curve[i]):
        if all(abs(times[t] - times[k]) >= APART for k in kept):
            kept.append(t)
    return kept


def _unit_rows(rows: NDArray[np.float32]) -> FloatArray:
    x = np.asarray(rows, np.float64)
    out: FloatArray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return out


def _labelled_rows(labels: Mapping[str, Sequence[Label]], features: Features) -> FloatArray | None:
    """Features at what is labelled, as unit vectors."""
    parts = []
    for video, said in labels.items():
        got = features(video) if said else None
        if got is not None:
            rows, axis = got
            at = axis.positions_at([(a.start + a.end) / 2 for a in said])
            parts.append(rows[np.clip(at, 0, len(rows) - 1).astype(np.int64)])
    return _unit_rows(np.concatenate(parts)) if parts else None


def _distances(
    candidates: Sequence[str], known: FloatArray | None, features: Features | None
) -> dict[str, tuple[FloatArray, TimeAxis]]:
    """How far the snippets of each video are from what is labelled: 0 to 1 of the far ones among them all."""
    if features is None or known is None:
        return {}
    raw: dict[str, tuple[FloatArray, TimeAxis]] = {}
    for video in candidates:
        got = features(video)
        if got is not None:
            raw[video] = ((1 - (_unit_rows(got[0]) @ known.T).max(1)) / 2, got[1])
    if not raw:
        return {}
    far = max(float(np.quantile(np.concatenate([d for d, _ in raw.values()]), 0.95)), 1e-6)
    return {video: (np.clip(d / far, 0, 1), axis) for video, (d, axis) in raw.items()}


def _drawn(fresh: Sequence[str], value: float) -> list[Moment]:
    """Whole videos by lot, the same every time."""
    order = sorted(fresh, key=lambda video: hashlib.sha256(video.encode()).digest())
    return [Moment(video, None, None, value, {"drawn": value}) for video in order]


def _in_turn(by_runs: Sequence[Moment], drawn: Sequence[Moment], share: float) -> list[Moment]:
    """Moments that runs name and whole videos, in turn: of the videos, this share is named by runs first."""
    out: list[Moment] = []
    named: set[str] = set()
    by_run = 0
    waiting = iter(drawn)
    for moment in by_runs:
        if moment.video not in named:
            while by_run + 1 > share * (len(named) + 1):
                other = next((m for m in waiting if m.video not in named), None)
                if other is None:
                    break
                named.add(other.video)
                out.append(other)
        if moment.video not in named:
            named.add(moment.video)
            by_run += 1
        out.append(moment)
    return out + [m for m in waiting if m.video not in named]


def _varied(found: Sequence[tuple[Moment, float]], counts: FloatArray) -> list[Moment]:
    """The best moments, one after another, few of a video, and apart from each other.

    Each counts as a label of its class for those after it, so that not all are of the class that is rarest
    now. Their value and reasons are those of today's labels.
    """
    label = np.array([m.label for m, _ in found], np.int64)
    weight = np.array([sum(WEIGHTS[k] for k in m.reasons) for m, _ in found])
    rare = WEIGHTS["rare"] * np.array([there for _, there in found]) / weight
    rest = np.array([m.value for m, _ in found]) - rare * _rare(counts)[label]
    counts, open_ = counts.copy(), np.ones(len(found), np.bool_)
    kept: list[Moment] = []
    taken: dict[str, list[float]] = {}
    while open_.any():
        best = int(np.argmax(np.where(open_, rest + rare * _rare(counts)[label], -1)))
        moment, open_[best] = found[best][0], False
        times = taken.setdefault(moment.video, [])
        time = moment.time or 0.0
        if len(times) < PER_VIDEO and all(abs(time - t) >= APART for t in times):
            times.append(time)
            kept.append(moment)
            counts[moment.label] += 1
    return kept
