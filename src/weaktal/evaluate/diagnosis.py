"""What kinds of mistakes detections make (after DETAD, Alwassel et al. 2018, with fewer kinds)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, Detections
from weaktal.evaluate.matching import Segments, match, overlapping, temporal_iou

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

KINDS = ("true positive", "duplicate", "wrong label", "localization error", "background")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """One kind per detection, and what was missed.

    Attributes:
        tiou: threshold of a match.
        kind: (N,) index into `KINDS` for every detection, in its rows' order; -1 for those in videos that are
            not annotated, which are left out of the shares.
        instance: (N,) row of the matched instance in `Annotations.instance_table()`, -1 if none.
        missed: (G,) instances that no detection matched.
    """

    tiou: float
    kind: IntArray
    instance: IntArray
    missed: BoolArray

    @property
    def counts(self) -> dict[str, int]:
        """Number of detections of each kind."""
        n = np.bincount(self.kind[self.kind >= 0], minlength=len(KINDS))
        return dict(zip(KINDS, n.tolist(), strict=True))

    @property
    def shares(self) -> dict[str, float]:
        """Share of the detections of each kind; they add up to 1, or are all 0 without detections."""
        total = sum(self.counts.values())
        return {kind: n / total if total else 0.0 for kind, n in self.counts.items()}

    @property
    def missed_share(self) -> float:
        """Share of the instances that no detection matched; 0 without instances."""
        return float(self.missed.mean()) if len(self.missed) else 0.0


def diagnose(
    detections: Detections, annotations: Annotations, tiou: float = 0.5, *, touch: float = 0.1
) -> Diagnosis:
    """Sort every detection into one kind.

    Matching is greedy by falling score as in the `activitynet` protocol (in seconds; of equal scores and
    overlaps that listed last comes first). The first that applies:

    - true positive: matched an instance of its class with tIoU >= `tiou`;
    - duplicate: overlaps an instance of its class that much, but a surer detection has it;
    - wrong label: overlaps an instance of another class that much;
    - localization error: tIoU >= `touch` with an instance of its class;
    - wrong label, too: tIoU >= `touch` with an instance of another class;
    - background: everything else.

    Classes are matched by name; a class that the annotations do not know has no instances.
    """
    if not 0 < touch <= tiou <= 1:
        raise ValueError(f"0 < touch <= tiou <= 1, got {touch} and {tiou}")
    table = annotations.instance_table()
    places = {name: i for i, name in enumerate(table.names)}
    classes = {name: i for i, name in enumerate(annotations.classes)}
    n_classes = len(classes) + 1  # one for all unknown
    video = np.array([places.get(n, -1) for n in detections.names] or [-1], np.int64)[detections.video]
    label = np.array([classes.get(n, n_classes - 1) for n in detections.classes] or [-1], np.int64)[
        detections.label
    ]
    rows = np.flatnonzero(video >= 0)
    truth = Segments(table.video, table.start, table.end, table.label)
    found = Segments(video[rows], detections.start[rows], detections.end[rows], label[rows])

    best = np.zeros((2, len(rows)))  # largest overlap with another class, with the same class
    left, right = overlapping(found.video, found.start, found.end, truth.video, truth.start, truth.end)
    overlap = temporal_iou(found.start[left], found.end[left], truth.start[right], truth.end[right])
    np.maximum.at(best, ((found.label[left] == truth.label[right]).astype(np.int64), left), overlap)
    other, same = best
    matches = match(truth, found, detections.score[rows], n_classes, [tiou])
    taken = np.full(len(rows), -1, np.int64)
    taken[matches.order] = matches.instance[0]

    rules = [taken >= 0, same >= tiou, other >= tiou, same >= touch, other >= touch]
    kinds = ["true positive", "duplicate", "wrong label", "localization error", "wrong label"]
    kind = np.full(len(detections), -1, np.int64)
    kind[rows] = np.select(rules, [KINDS.index(k) for k in kinds], KINDS.index("background"))
    instance = np.full(len(detections), -1, np.int64)
    instance[rows] = taken
    missed = np.ones(len(truth), bool)
    missed[taken[taken >= 0]] = False
    return Diagnosis(tiou, kind, instance, missed)
