"""What runs have found, beside what people said: detections to review, and activation to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.app.document import Document, Record, split_key
from weaktal.app.jobs import trained_on
from weaktal.core import Detections, InputError, SnippetScores
from weaktal.evaluate.matching import temporal_iou
from weaktal.formats import load_detections
from weaktal.formats.scores import load_scores
from weaktal.localize.nms import nms

FloatArray = NDArray[np.float64]

SAME = 0.5  # tIoU from which on two segments of a class are taken for one
OVERLAP = 0.3  # tIoU from which on the weaker of two detections of a run is left out
FEWEST = 12  # detections of a class in a video that are shown at most
MOST = 20_000  # detections that a page gets
CURVE = 3000  # points of a curve that a page gets


@dataclass(frozen=True, eq=False)
class Findings:
    """What one run has found, over the classes of the project.

    Attributes:
        detections: after suppression, at most `FEWEST` of a class in a video.
        certainty: (N,) scores on the scale of the run, 0 to 1: the share of the run's best scores.
        scores: snippet scores by video; empty for a method that has none.
        classes: of `scores`, as class ids of the project (None where it has no such class).
        foreign: classes of the run that the project does not have.
    """

    detections: Detections
    certainty: FloatArray
    scores: Mapping[str, SnippetScores]
    classes: tuple[str | None, ...]
    foreign: tuple[str, ...]


def read_run(folder: Path, classes: Mapping[str, str]) -> Findings:
    """The findings of a run directory.

    Args:
        folder: of the run.
        classes: class ids of the project by name.

    Raises:
        InputError: no detections, or files that cannot be read.
    """
    path = folder / "detections.json"
    if not path.exists():
        raise InputError("this run has found nothing yet", file=path, hint="wait until it is done")
    found = load_detections(path)
    foreign = tuple(c for c in found.classes if c not in classes)
    kept = [c for c in found.classes if c in classes]
    found = found.relabelled(kept)
    ids = tuple(classes[c] for c in kept)
    if len(found):
        group = found.video * max(1, len(ids)) + found.label
        rows = nms(found.start, found.end, found.score, OVERLAP, plus_one=False, group=group)
        rank = np.zeros(len(rows), np.int64)
        groups = group[rows]  # by falling score inside of each
        first = np.r_[True, groups[1:] != groups[:-1]]
        rank = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
        found = found[rows[rank < FEWEST]]
    best = np.quantile(found.score, 0.99) if len(found) else 1.0
    least = min(0.0, float(found.score.min())) if len(found) else 0.0
    certainty = np.clip((found.score - least) / max(best - least, 1e-9), 0.0, 1.0)
    found = Detections(
        found.names, ids, found.video, found.start, found.end, found.label, found.score
    )  # class ids in place of names
    scores: dict[str, SnippetScores] = {}
    columns: tuple[str | None, ...] = ()
    where = folder if (folder / "scores").is_dir() else folder / "base"
    for file in sorted((where / "scores").glob("*.safetensors")):
        each, names = load_scores(file)
        columns = tuple(classes.get(name) for name in names)
        scores |= {s.video: s for s in each}
    return Findings(found, certainty, scores, columns, foreign)


class Shelf:
    """Findings of runs, read when asked for and kept until the run or the classes change."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[Any, Findings]] = {}

    def get(self, folder: Path, document: Document) -> Findings:
        there = dict(document.of("class"))
        # a class that was renamed since is still the same class
        then = trained_on(folder).get("classes", {})
        classes = {name: id_ for name, id_ in then.items() if id_ in there}
        classes |= {r["name"]: id_ for id_, r in there.items() if r["name"] not in classes}
        files = [folder / "detections.json", *sorted(folder.glob("scores/*.safetensors"))]
        mark = (tuple(f.stat().st_mtime_ns for f in files if f.exists()), tuple(sorted(classes.items())))
        known = self._kept.get(folder)
        if known is None or known[0] != mark:
            known = (mark, read_run(folder, classes))
            self._kept[folder] = known
        return known[1]


def activation(found: Findings, video: str) -> dict[str, Any] | None:
    """Curves of a run in a video for the page, each from 0 to 1; None where there are none."""
    scores = found.scores.get(video)
    if scores is None:
        return None
    step = -(-scores.axis.length // CURVE)
    pick = slice(None, None, step)
    curves = {}
    for place, class_id in enumerate(found.classes):
        if class_id is None:
            continue
        values = _unit(scores.cas[:, place])
        if values.max(initial=0) > 0.05:
            curves[class_id] = np.round(values[pick], 3).tolist()
    foreground = np.round(_unit(scores.foreground)[pick], 3).tolist()
    times = np.round(scores.axis.centers()[pick], 4).tolist()
    return {"times": times, "foreground": foreground, "curves": curves}


def _unit(values: NDArray[np.float32]) -> FloatArray:
    """Scores as they are where they lie in [0, 1]; logits through a sigmoid."""
    x = np.asarray(values, np.float64)
    if x.size and (x.min() < -1e-3 or x.max() > 1 + 1e-3):
        x = 1 / (1 + np.exp(-np.clip(x, -40, 40)))
    return np.clip(x, 0.0, 1.0)


# ----------------------------------------------------------------------------------------- review


@dataclass(frozen=True)
class _Known:
    """What people said about one class in one video."""

    segments: list[tuple[float, float]]
    negatives: list[tuple[float, float]]
    clicks: list[float]


def _known(document: Document) -> dict[tuple[str, str], _Known]:
    out: dict[tuple[str, str], _Known] = {}

    def of(record: Record) -> _Known:
        return out.setdefault((record["video"], record["class"]), _Known([], [], []))

    for _, r in document.of("segment"):
        of(r).segments.append((r["start"], r["end"]))
        if r["origin"] and "start" in r["origin"]:  # as it was proposed, before its borders were moved
            of(r).segments.append((float(r["origin"]["start"]), float(r["origin"]["end"])))
    for _, r in document.of("negative"):
        of(r).negatives.append((r["start"], r["end"]))
    for _, r in document.of("click"):
        of(r).clicks.append(r["time"])
    return out


def _overlap(start: float, end: float, others: Sequence[tuple[float, float]]) -> float:
    if not others:
        return 0.0
    spans = np.array(others)
    n = len(spans)
    return float(temporal_iou(np.full(n, start), np.full(n, end), spans[:, 0], spans[:, 1]).max())


def review(document: Document, runs: Mapping[str, Findings]) -> dict[str, Any]:
    """Detections of some runs beside what people said.

    Returns:
        ``rows``, the surest first: each with video, class, start, end, certainty, the runs that agree, what
        is known of it (``status``: "open", "click" where a click of its class lies inside, "accepted" where
        a segment is there, "rejected"), how doubtful it is (0 to 1), and an id. ``clicks``: for every click
        the certainty of the best detection of its class over it. ``foreign``: classes of runs that the
        project does not have.
    """
    known = _known(document)
    absent = {
        (split_key(k)[2], split_key(k)[1])
        for k, r in ((f"tag/{i}", r) for i, r in document.of("tag"))
        if r["value"] == "absent"
    }
    videos = {name for name, _ in document.of("video")}
    spans: dict[str, dict[tuple[str, str], list[tuple[float, float, float]]]] = {}
    flat: list[tuple[str, str, str, float, float, float, float]] = []
    for run, found in runs.items():
        d = found.detections
        mine = spans.setdefault(run, {})
        columns = zip(
            d.video.tolist(), d.label.tolist(), d.start.tolist(), d.end.tolist(),
            found.certainty.tolist(), d.score.tolist(), strict=True,
        )  # fmt: skip
        for v, c, start, end, certainty, score in columns:
            video, label = d.names[v], d.classes[c]
            if video in videos:
                mine.setdefault((video, label), []).append((start, end, certainty))
                flat.append((run, video, label, start, end, certainty, score))
    flat.sort(key=lambda row: -row[5])
    rows: list[dict[str, Any]] = []
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for run, video, label, start, end, certainty, score in flat:
        place = (video, label)
        if _overlap(start, end, taken.get(place, ())) >= SAME:
            continue  # the same as a surer one of another run, which names this run among those that agree
        taken.setdefault(place, []).append((start, end))
        votes = {run: certainty}
        for other, theirs in spans.items():
            if other != run:
                near = [c for s, e, c in theirs.get(place, ()) if _overlap(start, end, [(s, e)]) >= SAME]
                if near:
                    votes[other] = max(near)
        said = known.get(place, _Known([], [], []))
        status = "open"
        if _overlap(start, end, said.segments) >= SAME:
            status = "accepted"
        elif _overlap(start, end, said.negatives) >= SAME:
            status = "rejected"
        elif any(start <= t <= end for t in said.clicks):
            status = "click"
        belief = sum(votes.values()) / len(runs)
        doubt = 1.0 if place in absent else 1 - abs(2 * belief - 1)
        rows.append(
            {
                "id": detection_id(video, label, start, end),
                "video": video,
                "class": label,
                "start": round(start, 4),
                "end": round(end, 4),
                "score": round(certainty, 4),
                "raw": round(score, 5),
                "run": run,
                "agree": sorted(votes),
                "status": status,
                "doubt": round(doubt, 4),
                "absent": place in absent,
            }
        )
        if len(rows) == MOST:
            break
    best = []
    for _, r in document.of("click"):
        over = [
            c
            for theirs in spans.values()
            for s, e, c in theirs.get((r["video"], r["class"]), ())
            if s <= r["time"] <= e
        ]
        best.append(round(max(over, default=0.0), 4))
    foreign = sorted({c for found in runs.values() for c in found.foreign})
    return {"rows": rows, "clicks": sorted(best), "foreign": foreign}


def detection_id(video: str, label: str, start: float, end: float) -> str:
    """The same for the same detection, in every process."""
    return hashlib.sha256(f"{video}|{label}|{start:.3f}|{end:.3f}".encode()).hexdigest()[:12]


def agreement(found: Findings, clicks: Sequence[Record]) -> tuple[int, int]:
    """Of clicks that a run has not seen: how many it got right, and how many there are.

    Right is a click whose class is that of the surest detection over it.
    """
    d = found.detections
    by_video: dict[str, list[tuple[float, float, float, str]]] = {}
    columns = zip(
        d.video.tolist(), d.start.tolist(), d.end.tolist(), found.certainty.tolist(), d.label.tolist(),
        strict=True,
    )  # fmt: skip
    for v, start, end, certainty, c in columns:
        by_video.setdefault(d.names[v], []).append((start, end, certainty, d.classes[c]))
    right = 0
    for click in clicks:
        over = [x for x in by_video.get(click["video"], ()) if x[0] <= click["time"] <= x[1]]
        right += bool(over) and max(over, key=lambda x: x[2])[3] == click["class"]
    return right, len(clicks)
