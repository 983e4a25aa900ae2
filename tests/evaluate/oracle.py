"""Evaluation as plain loops over detections, written from the definition, for comparison."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[int, float, float, int]  # video, start, end, label


def overlap(a: Row, b: Row, empty: float) -> float:
    inter = max(0.0, min(a[2], b[2]) - max(a[1], b[1]))
    union = (a[2] - a[1]) + (b[2] - b[1]) - inter
    return inter / union if union != 0 else empty


def average_precision(
    truth: Sequence[Row],
    found: Sequence[Row],
    score: Sequence[float],
    label: int,
    threshold: float,
    *,
    preference: str = "overlap",
    ties: str = "last",
    empty: float = 0.0,
    interpolated: bool = True,
) -> float:
    """AP of one class at one threshold."""
    last = -1 if ties == "last" else 1
    mine = [i for i, row in enumerate(found) if row[3] == label]
    mine.sort(key=lambda i: (-score[i], last * i))
    positives = sum(row[3] == label for row in truth)
    taken: set[int] = set()
    hits = []
    for i in mine:
        candidates = []
        for j, row in enumerate(truth):
            if (row[0], row[3]) == (found[i][0], label):
                value = overlap(found[i], row, empty)
                if value >= threshold and j not in taken:
                    candidates.append((0.0 if preference == "listed" else -value, j))
        if preference == "overlap" and ties == "last":
            candidates.sort(key=lambda x: (x[0], -x[1]))
        else:
            candidates.sort()
        hits.append(bool(candidates))
        if candidates:
            taken.add(candidates[0][1])
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    return sum(
        (max(precision[k:]) if interpolated else precision[k]) for k, hit in enumerate(hits) if hit
    ) / max(positives, 1)
