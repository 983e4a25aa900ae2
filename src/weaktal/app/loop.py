"""Label a little, train, look, label what helps most: the project's side of `weaktal.app.suggest`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.app.annotations_file import ordered_classes
from weaktal.app.document import Document, split_key
from weaktal.app.findings import Findings, Shelf, agreement
from weaktal.app.jobs import Jobs, trained_on
from weaktal.app.project import Project
from weaktal.app.suggest import WEIGHTS, Features, Label, suggest
from weaktal.core import InputError, SnippetScores, TimeAxis
from weaktal.features.store import FeatureStore

MOST = 60  # suggestions
FEATURE_VIDEOS = 400  # of so many videos features are read; beyond, moments are not compared by them

REASONS = {
    "uncertain": "the run is unsure",
    "disagreeing": "runs disagree",
    "rare": "few labels of this class",
    "new": "unlike what is labelled",
    "drawn": "drawn by lot",
}


def next_moments(
    project: Project, runs: Mapping[str, Findings], features: frozenset[str]
) -> list[dict[str, Any]]:
    """Suggestions for the page, the best first."""
    document = project.document
    ids = list(ordered_classes(document))
    place = {id_: i for i, id_ in enumerate(ids)}
    labels: dict[str, list[Label]] = {}
    for _, r in document.of("click"):
        labels.setdefault(r["video"], []).append(Label(r["time"], r["time"], place[r["class"]]))
    for kind in ("segment", "negative"):
        for _, r in document.of(kind):
            labels.setdefault(r["video"], []).append(Label(r["start"], r["end"], place[r["class"]]))
    excluded = frozenset(
        (split_key(f"tag/{k}")[2], place[split_key(f"tag/{k}")[1]])
        for k, r in document.of("tag")
        if r["value"] == "absent"
    )
    open_ = [
        n for n, v in document.of("video") if not v["done"] and not v["nothing"] and v["subset"] != "test"
    ]
    made = suggest(
        [_over(found, ids) for found in runs.values()],
        labels,
        open_,
        len(ids),
        features=_features(project, features) if len(features) <= FEATURE_VIDEOS else None,
        excluded=excluded,
        most=MOST,
    )
    return [
        {
            "video": m.video,
            "time": m.time,
            "class": None if m.label is None else ids[m.label],
            "value": round(m.value, 4),
            "reason": REASONS[m.reason],
            "reasons": {
                REASONS[k]: round(v, 3)
                for k, v in sorted(m.reasons.items(), key=lambda item: -WEIGHTS.get(item[0], 1.0) * item[1])
            },
        }
        for m in made
    ]


def _over(found: Findings, ids: list[str]) -> dict[str, SnippetScores]:
    """Snippet scores with one column for each class of the project; a class that a run lacks is 0."""
    columns = [found.classes.index(i) if i in found.classes else -1 for i in ids]
    out = {}
    for video, s in found.scores.items():
        padded = np.concatenate([s.cas, np.zeros((len(s.cas), 1), s.cas.dtype)], 1)
        scores = np.concatenate([s.video_scores, np.zeros(1, s.video_scores.dtype)])
        out[video] = SnippetScores(video, padded[:, columns], s.foreground, scores[columns], s.axis)
    return out


def _features(project: Project, names: frozenset[str]) -> Features | None:
    if not names:
        return None
    entry = project.description.get("features") or {}
    options = {"path": entry} if isinstance(entry, str) else dict(entry)
    try:
        store = FeatureStore.open(project.folder / options.pop("path"), **options)
    except (InputError, TypeError):
        return None

    @lru_cache(maxsize=FEATURE_VIDEOS)
    def features(video: str) -> tuple[NDArray[np.float32], TimeAxis] | None:
        if video not in names or video not in store or store.rate is None:
            return None
        try:
            return store.load(video), store.axis(video)
        except InputError:
            return None

    return features


def learning_curve(project: Project, jobs: Jobs, shelf: Shelf) -> list[dict[str, Any]]:
    """For every finished run of the page: clicks that it was given, and clicks since that it gets right.

    Clicks in videos that the run was not trained on count: those of held-out videos, and those made later.
    """
    document: Document = project.document
    clicks = [r for _, r in document.of("click")]
    for _, r in document.of("segment"):
        clicks.append({"video": r["video"], "class": r["class"], "time": (r["start"] + r["end"]) / 2})
    out = []
    for name in jobs.names():
        folder = jobs.folder / name
        about = trained_on(folder)
        if not about or not (folder / "detections.json").exists():
            continue
        seen = set(about.get("trained_on", ()))
        fresh = [c for c in clicks if c["video"] not in seen]
        try:
            right, total = agreement(shelf.get(folder, document), fresh)
        except InputError:
            continue
        out.append(
            {
                "run": name,
                "method": about.get("method"),
                "labels": about.get("clicks") or about.get("videos"),
                "right": right,
                "total": total,
            }
        )
    return out
