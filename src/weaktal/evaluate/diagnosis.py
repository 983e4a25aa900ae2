"""What kinds of mistakes detections make, and what each kind costs.

After Alwassel et al., "Diagnosing Error in Temporal Action Detectors" (ECCV 2018), without the faults of its
code, and beyond it: what repairing a mistake would bring (Bolya et al., "TIDE", ECCV 2020), and which
classes are taken for which. docs/diagnosis.md explains every number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, Detections, InputError
from weaktal.evaluate.matching import (
    BoolArray,
    FloatArray,
    IntArray,
    Segments,
    match,
    overlapping,
    temporal_iou,
)

KINDS = (
    "true positive",
    "double detection",
    "wrong label",
    "localization error",
    "confusion",
    "background",
)
TRUE, DOUBLE, LABEL, LOCATION, CONFUSION, BACKGROUND = range(len(KINDS))
TOUCH = 0.1  # least tIoU at which a false positive has to do with an instance at all
MISSES_PRECISION = 0.05  # a hit of lower precision does not save an instance from being missed

Rule = Literal["detad", "own-class-first"]


@dataclass(frozen=True)
class Buckets:
    """Edges of one characteristic of instances; bucket b holds values in (edges[b], edges[b + 1]].

    The lowest edge belongs to the first bucket, too.
    """

    names: tuple[str, ...]
    edges: tuple[float, ...]

    def of(self, value: FloatArray) -> IntArray:
        """Bucket of each value, -1 for NaN and what lies outside."""
        edges = np.asarray(self.edges)
        found = np.searchsorted(edges, value, side="left") - 1
        found[value == edges[0]] = 0
        found[~((value >= edges[0]) & (value <= edges[-1]))] = -1
        return found


_FIVE, _FOUR = ("XS", "S", "M", "L", "XL"), ("XS", "S", "M", "L")
# name -> characteristic -> buckets; as DETAD has them for its two data sets
BUCKETS: dict[str, dict[str, Buckets]] = {
    "activitynet": {
        "coverage": Buckets(_FIVE, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        "length": Buckets(_FIVE, (0, 30, 60, 120, 180, np.inf)),
        "instances": Buckets(_FOUR, (-1, 1, 4, 8, np.inf)),
    },
    "thumos14": {
        "coverage": Buckets(_FIVE, (0, 0.02, 0.04, 0.06, 0.08, 1)),
        "length": Buckets(_FIVE, (0, 3, 6, 12, 18, np.inf)),
        "instances": Buckets(_FOUR, (-1, 1, 40, 80, np.inf)),
    },
}


def quantile_buckets(value: FloatArray, names: Sequence[str]) -> Buckets:
    """Buckets that hold about equally many instances each; fewer where values repeat."""
    value = value[np.isfinite(value)]
    if not len(value):
        return Buckets(("all",), (0.0, np.inf))
    edges = np.unique(np.quantile(value, np.linspace(0, 1, len(names) + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0] - 1, edges[0]])
    return Buckets(tuple(names[: len(edges) - 1]), tuple(edges.tolist()))


@dataclass(frozen=True, eq=False)
class Truth:
    """The instances that count, (G,) each.

    Attributes:
        row: their rows in `Annotations.instance_table()`.
        segments: seconds; `label` indexes `Diagnosis.classes`, `video` the annotated videos in order.
        values: characteristic ("coverage": length / duration, NaN without a duration; "length" in seconds;
            "instances": instances of the same video, of any class) to (G,).
        bucket: characteristic to (G,) bucket indices, -1 where the value is unknown.
    """

    row: IntArray
    segments: Segments
    values: Mapping[str, FloatArray]
    bucket: Mapping[str, IntArray]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections of the known classes by class and falling score, M of them, and their hits.

    Attributes:
        order: (M,) rows of the detections.
        label: (M,) classes, ascending.
        instance: (H, M) rows of `Truth` that they matched, -1 for none.
        positives: (C,) instances of each class.
        average_positives: mean number of instances a class, what normalised precision takes for all classes.
    """

    order: IntArray
    label: IntArray
    instance: IntArray
    positives: IntArray
    average_positives: float

    @cached_property
    def rank(self) -> IntArray:
        """(M,) rank within the class, from 0."""
        return np.arange(len(self.label)) - np.searchsorted(self.label, self.label)

    def precision(
        self, hit: BoolArray, keep: BoolArray, positives: IntArray, *, normalised: bool = True
    ) -> FloatArray:
        """(H, M) precision at each rank, of hits and false positives that `keep` leaves.

        Normalised precision R N / (R N + FP) with recall R does not depend on how frequent a class is.
        """
        begin = np.searchsorted(self.label, self.label)

        def count(what: BoolArray) -> IntArray:
            total = np.zeros((what.shape[0], what.shape[1] + 1), np.int64)
            np.cumsum(what, axis=1, out=total[:, 1:])
            return total[:, 1:] - total[:, begin]

        right, wrong = count(hit & keep).astype(np.float64), count(~hit & keep)
        if normalised:
            right *= self.average_positives / np.maximum(positives[self.label], 1)
        out = np.zeros(right.shape)
        np.divide(right, right + wrong, out=out, where=right + wrong > 0)
        return out

    def average_precision(
        self,
        *,
        hit: BoolArray | None = None,
        keep: BoolArray | None = None,
        positives: IntArray | None = None,
        normalised: bool = True,
    ) -> FloatArray:
        """(H, C) area under the precision envelope over recall; NaN for a class without instances.

        Args:
            hit: (H, M), default: those of `instance`.
            keep: (H, M), the detections that take part, default all.
            positives: (C,), default all instances.
            normalised: see `precision`.
        """
        hit = self.instance >= 0 if hit is None else hit
        keep = np.ones_like(hit) if keep is None else keep
        positives = self.positives if positives is None else positives
        precision = np.where(hit & keep, self.precision(hit, keep, positives, normalised=normalised), 0.0)
        # a maximum from the right that starts anew in every class: each on a level of its own
        level = 2.0 * (len(positives) - self.label)
        best = np.maximum.accumulate((precision + level)[:, ::-1], axis=1)[:, ::-1] - level
        rows, at = np.nonzero(hit & keep)
        size = len(positives)
        sums = np.bincount(rows * size + self.label[at], weights=best[rows, at], minlength=len(hit) * size)
        out = np.full((len(hit), size), np.nan)
        np.divide(sums.reshape(len(hit), size), positives, out=out, where=positives > 0)
        return out

    def mean(self, **what: Any) -> float:
        """Mean over classes with instances, then over thresholds, of `average_precision`; 0 without any."""
        ap = self.average_precision(**what)
        present = ~np.isnan(ap).all(axis=0)
        return float(ap[:, present].mean()) if present.any() else 0.0


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Every detection sorted into a kind at every threshold, and what follows from it.

    Attributes:
        tiou: H thresholds of a match.
        rule: how false positives are sorted, see `analyse`.
        classes: the C classes with instances, in order of appearance.
        kind: (H, N) index into `KINDS` for every detection, in its rows' order; -1 in videos that are not
            annotated, which take no part.
        instance: (H, N) row in `Annotations.instance_table()` that it matched, -1 for none.
        nearest: (N,) row of `truth` that it overlaps most, whatever the class (of equals the first); -1 for
            none.
        overlap: (N,) tIoU with that one.
        truth: the instances that count.
        buckets: characteristic to its buckets.
        ranking: the detections of known classes, ranked.
        top: profile and impact look at the `top` x N_class surest detections of a class.
    """

    tiou: tuple[float, ...]
    rule: Rule
    classes: tuple[str, ...]
    kind: IntArray
    instance: IntArray
    nearest: IntArray
    overlap: FloatArray
    truth: Truth
    buckets: Mapping[str, Buckets]
    ranking: Ranking
    top: int
    score: FloatArray

    @property
    def average_map(self) -> float:
        """Mean over classes and thresholds of plain average precision."""
        return self.ranking.mean(normalised=False)

    @property
    def average_map_normalised(self) -> float:
        """The same of normalised average precision."""
        return self.ranking.mean()

    def counts(self, threshold: int = 0) -> dict[str, int]:
        """Number of detections of each kind at one threshold (its index)."""
        kind = self.kind[threshold]
        return dict(zip(KINDS, np.bincount(kind[kind >= 0], minlength=len(KINDS)).tolist(), strict=True))

    def shares(self, threshold: int = 0) -> dict[str, float]:
        """Share of the detections of each kind; they add up to 1, or are all 0 without detections."""
        counts = self.counts(threshold)
        total = sum(counts.values())
        return {kind: n / total if total else 0.0 for kind, n in counts.items()}

    def missed(self, least_precision: float = 0.0) -> BoolArray:
        """(H, G) instances of `truth` without a match of more than this normalised precision."""
        hit = self.ranking.instance >= 0
        if least_precision > 0:
            everything = np.ones_like(hit)
            hit &= self.ranking.precision(hit, everything, self.ranking.positives) > least_precision
        out = np.ones((len(self.tiou), len(self.truth)), bool)
        level, at = np.nonzero(hit)
        out[level, self.ranking.instance[level, at]] = False
        return out

    @cached_property
    def _in_top(self) -> BoolArray:
        """(M,) the `top` x N_class surest detections of each class."""
        return self.ranking.rank < self.top * self.ranking.positives[self.ranking.label]

    def profile(self) -> FloatArray:
        """(`top`, kinds) shares: row g - 1 is of ranks (g - 1) N_class + 1 to g N_class of every class.

        Averaged over thresholds; rows add up to 1 (to 0 where no class has so many detections).
        """
        mine = np.flatnonzero(self._in_top)
        group = self.ranking.rank[mine] // self.ranking.positives[self.ranking.label[mine]]
        kind = self.kind[:, self.ranking.order[mine]]
        cell = (np.arange(len(self.tiou))[:, None] * self.top + group) * len(KINDS) + kind
        counts = np.bincount(cell.reshape(-1), minlength=len(self.tiou) * self.top * len(KINDS))
        counts = counts.reshape(len(self.tiou), self.top, len(KINDS)).astype(np.float64)
        shares: FloatArray = (counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)).mean(axis=0)
        return shares

    def impact(self) -> dict[str, float]:
        """By how much normalised average mAP rises when all detections of a kind go, of the surest ones."""
        kind = self.kind[:, self.ranking.order]
        base = self.ranking.mean()
        return {
            name: self.ranking.mean(keep=~((kind == k) & self._in_top)) - base
            for k, name in enumerate(KINDS)
            if k != TRUE
        }

    def repair(self) -> dict[str, float]:
        """By how much normalised average mAP rises when a kind of mistake is mended, and "missed".

        A wrong label, a localization error or a confusion becomes the hit that it nearly was, where its
        instance is free, and of several only the surest; the others of the kind go, as double detections and
        background do. Missed instances are taken from the count. Never below 0.
        """
        base = self.ranking.mean()
        found = {name: self._mended(k) for k, name in enumerate(KINDS) if k != TRUE}
        positives = np.stack(
            [
                np.bincount(self.truth.segments.label[~missed], minlength=len(self.classes))
                for missed in self.missed()
            ]
        )
        values = []
        for h, count in enumerate(positives):
            ap = self.ranking.average_precision(positives=count)[h]
            values.append(float(np.nanmean(ap)) if (count > 0).any() else 0.0)
        found["missed"] = float(np.mean(values)) if values else 0.0
        return {name: max(0.0, value - base) for name, value in found.items()}

    def _mended(self, kind: int) -> float:
        """Normalised average mAP with the detections of a kind mended."""
        if kind in (DOUBLE, BACKGROUND):
            return self.ranking.mean(keep=self.kind[:, self.ranking.order] != kind)
        known = np.full(self.kind.shape[1], -1, np.int64)
        known[self.ranking.order] = self.ranking.label
        values = []
        for h in range(len(self.tiou)):
            taken = np.zeros(len(self.truth), bool)
            mine = self.ranking.instance[h]
            taken[mine[mine >= 0]] = True
            wrong = np.flatnonzero(self.kind[h] == kind)
            wrong = wrong[~taken[self.nearest[wrong]]]
            wrong = wrong[np.lexsort((-wrong, -self.score[wrong], self.nearest[wrong]))]
            first = np.unique(self.nearest[wrong], return_index=True)[1]
            mended = wrong[first]
            label = known.copy()
            label[mended] = self.truth.segments.label[self.nearest[mended]]
            hit = np.zeros(len(label), bool)
            hit[self.ranking.order] = mine >= 0
            hit[mended] = True
            keep = (self.kind[h] != kind) | hit
            rows = np.flatnonzero(keep & (label >= 0))[::-1]  # of equal scores the last listed first
            rows = rows[np.lexsort((-self.score[rows], label[rows]))]
            again = Ranking(
                rows,
                label[rows],
                np.where(hit[rows], 0, -1)[None],
                self.ranking.positives,
                self.ranking.average_positives,
            )
            values.append(again.mean())
        return float(np.mean(values)) if values else 0.0

    def sensitivity(self) -> dict[str, dict[str, float]]:
        """Normalised average mAP of the instances of each bucket: characteristic -> bucket -> value.

        Counted are detections matched to instances of the bucket and all false positives. Buckets without
        instances are left out.
        """
        out: dict[str, dict[str, float]] = {}
        instance = self.ranking.instance
        for characteristic, buckets in self.buckets.items():
            bucket = self.truth.bucket[characteristic]
            for b, name in enumerate(buckets.names):
                inside = bucket == b
                if not inside.any():
                    continue
                keep = (instance < 0) | np.append(inside, False)[instance]
                positives = np.bincount(self.truth.segments.label[inside], minlength=len(self.classes))
                out.setdefault(characteristic, {})[name] = self.ranking.mean(keep=keep, positives=positives)
        return out

    def misses(self, first: str | None = None, second: str | None = None) -> dict[str, Any]:
        """Share of the instances of each bucket that are missed, averaged over thresholds.

        Args:
            first, second: two characteristics, for their pairs: bucket -> bucket -> share. Without them,
                characteristic -> bucket -> share.
        """
        share = self.missed(MISSES_PRECISION).mean(axis=0)

        def by(characteristic: str, rows: BoolArray) -> dict[str, float]:
            bucket = self.truth.bucket[characteristic]
            names = enumerate(self.buckets[characteristic].names)
            cells = {name: rows & (bucket == b) for b, name in names}
            return {name: float(share[mine].mean()) for name, mine in cells.items() if mine.any()}

        everything = np.ones(len(self.truth), bool)
        if first is None or second is None:
            return {c: found for c in self.buckets if (found := by(c, everything))}
        bucket = self.truth.bucket[first]
        pairs = {n: by(second, bucket == b) for b, n in enumerate(self.buckets[first].names)}
        return {name: found for name, found in pairs.items() if found}

    def bucket_sizes(self) -> dict[str, dict[str, int]]:
        """Number of instances in each bucket, empty ones included."""
        return {
            c: {n: int((self.truth.bucket[c] == b).sum()) for b, n in enumerate(buckets.names)}
            for c, buckets in self.buckets.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; AP as fractions."""
        return {
            "tiou": list(self.tiou),
            "rule": self.rule,
            "classes": list(self.classes),
            "instances": len(self.truth),
            "detections": int((self.kind[0] >= 0).sum()),
            "average_mAP": self.average_map,
            "average_mAP_normalised": self.average_map_normalised,
            "kinds": {f"{t:g}": self.counts(h) for h, t in enumerate(self.tiou)},
            "profile": {"kinds": list(KINDS), "top": self.top, "shares": self.profile().tolist()},
            "impact": self.impact(),
            "repair": self.repair(),
            "buckets": {
                c: {"names": list(b.names), "edges": [None if np.isinf(e) else e for e in b.edges]}
                for c, b in self.buckets.items()
            },
            "bucket_instances": self.bucket_sizes(),
            "sensitivity": self.sensitivity(),
            "misses": self.misses(),
        }


def analyse(
    detections: Detections,
    annotations: Annotations,
    tiou: Sequence[float] | float = (0.5,),
    *,
    rule: Rule = "detad",
    top: int = 10,
    buckets: str | Mapping[str, Buckets] = "quantiles",
    touch: float = TOUCH,
) -> Diagnosis:
    """Sort every detection into one of `KINDS`.

    Matching is greedy by falling score, as in the `activitynet` protocol: each detection takes the free
    instance of its video and class that it overlaps most, if their tIoU reaches the threshold. Of equal
    scores, and of equal overlaps, that listed last comes first. Instances of no length, or longer than their
    video, take no part, and neither do detections in videos that are not annotated. Classes are matched by
    name; detections of a class without instances have a kind and no average precision.

    What did not match is sorted by its largest tIoU o with an instance of its video, of any class (of equals
    that listed first):

    - double detection: o >= threshold with its own class: a surer detection has that instance;
    - wrong label: o >= threshold with another class;
    - localization error: o >= `touch` with its own class;
    - confusion: o >= `touch` with another class;
    - background: everything else.

    Args:
        detections: in seconds.
        annotations: the evaluated subset.
        tiou: thresholds of a match, in [`touch`, 1].
        rule: "detad" as above; "own-class-first" asks for the largest tIoU with the own class before that
            with others: double detection, wrong label, localization error, confusion, background, whichever
            holds first.
        top: see `Diagnosis.top`.
        buckets: "thumos14" or "activitynet" (DETAD's), "quantiles" of the instances at hand, or one's own.
        touch: least tIoU at which a detection has to do with an instance at all.

    Raises:
        ValueError: thresholds or `top` out of range.
        InputError: unknown buckets.
    """
    levels = tuple(float(t) for t in np.atleast_1d(np.asarray(tiou, np.float64)))
    if not levels or not all(0 < touch <= t <= 1 for t in levels):
        raise ValueError(f"0 < touch <= tiou <= 1, got {touch} and {levels}")
    if top < 1:
        raise ValueError(f"top is at least 1, got {top}")
    truth, classes, used = _truth(annotations, buckets)
    places = {name: i for i, name in enumerate(annotations.videos)}
    known = {name: i for i, name in enumerate(classes)}
    none = len(classes)  # one class for all that have no instance
    video = np.array([places.get(n, -1) for n in detections.names] or [-1], np.int64)[detections.video]
    label = np.array([known.get(n, none) for n in detections.classes] or [none], np.int64)[detections.label]
    rows = np.flatnonzero(video >= 0)
    found = Segments(video[rows], detections.start[rows], detections.end[rows], label[rows])

    matches = match(truth.segments, found, detections.score[rows], none + 1, levels)
    taken = np.full((len(levels), len(rows)), -1, np.int64)
    taken[:, matches.order] = matches.instance
    nearest, best, own, other = _overlaps(found, truth.segments)
    kind = np.full((len(levels), len(detections)), -1, np.int64)
    for h, level in enumerate(levels):
        if rule == "detad":
            mine = (nearest >= 0) & (np.append(truth.segments.label, -1)[nearest] == found.label)
            same, strange = np.where(mine, best, 0.0), np.where(mine, 0.0, best)
        else:
            same, strange = own, other
        rules = [taken[h] >= 0, same >= level, strange >= level, same >= touch, strange >= touch]
        kind[h, rows] = np.select(rules, [TRUE, DOUBLE, LABEL, LOCATION, CONFUSION], BACKGROUND)
    instance = np.full((len(levels), len(detections)), -1, np.int64)
    instance[:, rows] = np.append(truth.row, -1)[taken]
    near, overlap = np.full(len(detections), -1, np.int64), np.zeros(len(detections))
    near[rows], overlap[rows] = nearest, best

    in_class = matches.label < none
    ranking = Ranking(
        rows[matches.order[in_class]],
        matches.label[in_class],
        matches.instance[:, in_class],
        matches.positives[:none],
        len(truth) / max(len(classes), 1),
    )
    return Diagnosis(
        levels,
        rule,
        classes,
        kind,
        instance,
        near,
        overlap,
        truth,
        used,
        ranking,
        top,
        detections.score,
    )


def _truth(
    annotations: Annotations, buckets: str | Mapping[str, Buckets]
) -> tuple[Truth, tuple[str, ...], Mapping[str, Buckets]]:
    """The instances that count, their classes in order of appearance, and the buckets in use."""
    table = annotations.instance_table()
    duration = np.array([np.nan if v.duration is None else v.duration for v in annotations], np.float64)
    length = table.end - table.start
    with np.errstate(divide="ignore", invalid="ignore"):
        coverage = length / (duration[table.video] if len(table) else np.empty(0))
    row = np.flatnonzero((length > 0) & ~(coverage > 1))
    appearing = list(dict.fromkeys(table.label[row].tolist()))
    place = {label: i for i, label in enumerate(appearing)}
    label = np.array([place[x] for x in table.label[row].tolist()], np.int64)
    per_video = np.bincount(table.video[row], minlength=len(annotations))
    values = {
        "coverage": coverage[row],
        "length": length[row],
        "instances": per_video[table.video[row]].astype(np.float64),
    }
    if isinstance(buckets, str) and buckets not in (*BUCKETS, "quantiles"):
        raise InputError(
            "no such buckets", found=repr(buckets), expected="one of " + ", ".join((*BUCKETS, "quantiles"))
        )
    if buckets == "quantiles":
        counts = {"coverage": _FIVE, "length": _FIVE, "instances": _FOUR}
        used: Mapping[str, Buckets] = {c: quantile_buckets(values[c], names) for c, names in counts.items()}
    else:
        used = BUCKETS[buckets] if isinstance(buckets, str) else buckets
    segments = Segments(table.video[row], table.start[row], table.end[row], label)
    truth = Truth(row, segments, values, {c: b.of(values[c]) for c, b in used.items()})
    return truth, tuple(annotations.classes[i] for i in appearing), used


def _overlaps(found: Segments, truth: Segments) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Of each detection: the instance of any class that it overlaps most (-1 for none; of equals that listed
    first) and their tIoU, and the largest tIoU with its own class and with other classes; (N,) each."""
    left, right = overlapping(found.video, found.start, found.end, truth.video, truth.start, truth.end)
    tiou = temporal_iou(found.start[left], found.end[left], truth.start[right], truth.end[right])
    real = tiou > 0
    left, right, tiou = left[real], right[real], tiou[real]
    order = np.lexsort((right, -tiou, left))
    head = order[np.unique(left[order], return_index=True)[1]]
    nearest, best = np.full(len(found), -1, np.int64), np.zeros(len(found))
    nearest[left[head]], best[left[head]] = right[head], tiou[head]
    by_class = np.zeros((2, len(found)))
    np.maximum.at(by_class, ((found.label[left] == truth.label[right]).astype(np.int64), left), tiou)
    other, own = by_class
    return nearest, best, own, other


@dataclass(frozen=True, eq=False)
class Confusion:
    """Which classes are taken for which.

    Attributes:
        classes: C names; the last row and column of `counts` is "nothing".
        counts: (C + 1, C + 1); row: class of the instance, or nothing (a false alarm); column: class of the
            detection, or nothing (a miss).
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]


def class_confusion(
    detections: Detections, annotations: Annotations, tiou: float = 0.5, *, least: float | None = None
) -> Confusion:
    """Match detections to instances whatever their classes, and count the pairs.

    Args:
        detections, annotations: in seconds; detections of unknown classes count as "nothing".
        tiou: of a match.
        least: score from which detections count; default: the N_class surest of every class.
    """
    table = annotations.instance_table()
    chosen = detections[
        strongest_rows(detections, annotations) if least is None else detections.score >= least
    ].relabelled(annotations.classes)
    places = {name: i for i, name in enumerate(annotations.videos)}
    video = np.array([places.get(n, -1) for n in chosen.names] or [-1], np.int64)[chosen.video]
    rows = np.flatnonzero(video >= 0)
    one = np.zeros(len(table), np.int64)
    truth = Segments(table.video, table.start, table.end, one)
    found = Segments(video[rows], chosen.start[rows], chosen.end[rows], np.zeros(len(rows), np.int64))
    matches = match(truth, found, chosen.score[rows], 1, [tiou])
    taken = matches.instance[0]
    nothing = len(annotations.classes)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    label = chosen.label[rows][matches.order]
    np.add.at(counts, (np.append(table.label, nothing)[taken], label), 1)
    missed = np.ones(len(table), bool)
    missed[taken[taken >= 0]] = False
    counts[:, nothing] += np.bincount(table.label[missed], minlength=nothing + 1)
    return Confusion(annotations.classes, counts)


def strongest_rows(detections: Detections, annotations: Annotations) -> IntArray:
    """Rows of the surest detections of each class, as many as the class has instances; in row order."""
    count = np.bincount(annotations.instance_table().label, minlength=len(annotations.classes))
    instances = dict(zip(annotations.classes, count.tolist(), strict=True))
    budget = np.array([instances.get(c, 0) for c in detections.classes] or [0])
    order = np.lexsort((-detections.score, detections.label))
    label = detections.label[order]
    rank = np.arange(len(order)) - np.searchsorted(label, label)
    return np.sort(order[rank < budget[label]]) if len(order) else order


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sets of detections, instance by instance.

    Attributes:
        row: (G,) rows in `Annotations.instance_table()`.
        first, second: (G,) bool, found by the one and by the other.
        kinds: kind -> (count in the first, in the second).
    """

    row: IntArray
    first: BoolArray
    second: BoolArray
    kinds: Mapping[str, tuple[int, int]]

    @property
    def counts(self) -> dict[str, int]:
        """Instances "kept" (both find them), "repaired" (only the second does), "broken", "missed"."""
        a, b = self.first, self.second
        cells = {"kept": a & b, "repaired": ~a & b, "broken": a & ~b, "missed": ~a & ~b}
        return {name: int(mine.sum()) for name, mine in cells.items()}


def compare(
    first: Detections,
    second: Detections,
    annotations: Annotations,
    tiou: float = 0.5,
    *,
    least: tuple[float, float] | None = None,
    rule: Rule = "detad",
) -> Comparison:
    """Which instances a second run repairs and breaks.

    Args:
        first, second: detections of two runs in the same videos.
        annotations: the evaluated subset.
        tiou: of a match.
        least: scores from which detections count, of each run; default: the N_class surest of every class.
        rule: see `analyse`.
    """
    results = []
    for i, detections in enumerate((first, second)):
        rows = strongest_rows(detections, annotations) if least is None else detections.score >= least[i]
        results.append(analyse(detections[rows], annotations, tiou, rule=rule))
    a, b = results
    kinds = {name: (a.counts()[name], b.counts()[name]) for name in KINDS}
    return Comparison(a.truth.row, ~a.missed()[0], ~b.missed()[0], kinds)
