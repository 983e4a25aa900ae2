"""What is in a file or a folder, and what may be wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weaktal import formats
from weaktal.core import Annotations, Detections, Finding, InputError, NameIndex, times_beyond
from weaktal.dataset import Coverage, Dataset
from weaktal.features.check import inspect_features
from weaktal.features.store import FeatureStore
from weaktal.files.kinds import kind_of

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Inspection:
    """What was found; `print` it, or take `about`.

    Attributes:
        path: what was looked at.
        kind: what it holds, one of `weaktal.files.KINDS`.
        about: numbers and findings for programs; plain values, ready for JSON.
        lines: the same for people; what may be wrong begins with "!".
    """

    path: Path
    kind: str
    about: Mapping[str, Any]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def inspect(
    path: PathLike,
    *,
    annotations: PathLike | Annotations | None = None,
    fps: PathLike | formats.Fps | None = None,
    rate: float | None = None,
    names: PathLike | None = None,
    prefix: str = "",
    suffix: str = "",
    quick: bool = False,
) -> Inspection:
    """Look at a data set description, annotations, detections, clicks, ambiguous intervals or features.

    Args:
        path: the file or folder; what it holds is found by looking.
        annotations: durations and frame rates to hold features and clicks against.
        fps: frame rate of the original videos, a table of them, or a JSON file with that table.
        rate: of features, snippets per second, where their files do not say it.
        names: of a joint feature array, the ``videoname.npy``.
        prefix, suffix: of features, what file names have before and behind video names.
        quick: read the headers of features only, not their values.

    Raises:
        InputError: nothing there, unreadable, or nothing that WeakTAL knows.

    Warns:
        CoverageWarning: what `weaktal.formats.load_annotations` warns of.
    """
    path, kind = Path(path), kind_of(path)
    about: dict[str, Any] = {"path": str(path), "kind": kind}
    lines = [f"{path}: {kind}"]
    if kind == "dataset":
        data = Dataset.load(path)
        about |= {"name": data.name, "protocol": data.protocol}
        lines += [f"  name {data.name}, protocol {data.protocol}"]
        findings = data.check()
        if data.annotations is not None:
            _annotations(data.annotations, about, lines)
            _say([f for f in findings if "instances" not in f.what], about, lines)
        if data.features:
            _features(data.store, data.annotations, quick, about, lines)
    elif kind == "annotations":
        _annotations(formats.load_annotations(path), about, lines)
    elif kind == "detections":
        found = formats.load_detections(path)
        _detections(found, about, lines)
        if (known := annotated(annotations, fps)) is not None:
            _held_against(known, {n: found.of(n).end for n in found.names}, "detections", path, lines)
    elif kind == "points":
        known = annotated(annotations, fps)
        rates = None if fps is None else formats.load_fps(fps)
        table = formats.load_points(
            path, fps=1.0 if known is None and rates is None else rates, annotations=known
        )
        if known is not None:
            _held_against(known, {n: np.asarray(t) for n, t in table.times().items()}, "clicks", path, lines)
        about |= {"videos": len(table.names), "points": len(table), "classes": list(table.classes)}
        lines.append(f"  {len(table)} clicks in {len(table.names)} videos, {len(table.classes)} classes")
        if table.origin:
            about["origin"] = table.origin
            lines.append(f"! {table.origin}")
    elif kind == "ignored":
        ignored = formats.load_ignored(path)
        count = sum(map(len, ignored.values()))
        about |= {"videos": len(ignored), "intervals": count}
        lines.append(f"  {count} ambiguous intervals in {len(ignored)} videos")
    else:
        store = FeatureStore.open(path, rate, names, prefix=prefix, suffix=suffix)
        _features(store, annotated(annotations, fps), quick, about, lines)
    return Inspection(path, kind, about, tuple(lines))


def _held_against(
    annotations: Annotations, times: Mapping[str, np.ndarray], what: str, path: Path, lines: list[str]
) -> None:
    """Times against the durations of the annotated videos; those in another unit are an error."""
    known = NameIndex(annotations.videos)
    durations = {v.name: v.duration for v in annotations if v.duration is not None}
    fps = {v.name: v.fps for v in annotations if v.fps is not None}
    finding = times_beyond(what, known.rename(times), durations, fps)
    if finding is not None and finding.grave:
        raise finding.error(path)
    if finding is not None:
        lines.append(f"! {finding}")


def annotated(
    annotations: PathLike | Annotations | None, fps: PathLike | formats.Fps | None
) -> Annotations | None:
    """Annotations as they are, or read from a file with these frame rates; None stays None."""
    if annotations is None or isinstance(annotations, Annotations):
        return annotations
    return formats.load_annotations(annotations, fps=fps)


def _annotations(annotations: Annotations, about: dict[str, Any], lines: list[str]) -> None:
    table = annotations.instance_table()
    points = sum(len(v.points) for v in annotations if v.points is not None)
    ignored = sum(len(v.ignored) for v in annotations)
    subsets: dict[str, Any] = {}
    summary: dict[str, Any] = {
        "videos": len(annotations),
        "instances": len(table),
        "classes": list(annotations.classes),
        "points": points,
        "ignored": ignored,
        "nothing_occurs": sum(v.empty for v in annotations),
        "labels_not_all": sum(bool(v.labels) and not v.complete for v in annotations),
        "subsets": subsets,
    }
    about["annotations"] = summary
    lines.append(
        f"annotations: {len(annotations)} videos, {len(table)} instances, "
        f"{len(annotations.classes)} classes, {points} clicks, {ignored} ambiguous intervals"
    )
    for key, what in (
        ("nothing_occurs", "videos in which nothing occurs: they train as such"),
        ("labels_not_all", "videos whose labels need not be all: of other classes nothing is learnt there"),
    ):
        if summary[key]:
            lines.append(f"  {summary[key]} {what}")
    for name in (*annotations.subsets, None):
        part = annotations.where(lambda v, name=name: v.subset == name)  # type: ignore[misc]
        if not len(part):
            continue
        hours = sum(v.duration or 0 for v in part) / 3600
        count = len(part.instance_table())
        subsets[str(name)] = {"videos": len(part), "instances": count, "hours": hours}
        long = f", {hours:.1f} h" if hours else ""
        lines.append(f"  {name or 'no subset'}: {len(part)} videos, {count} instances{long}")
    roles = {}
    for role in ("train", "test"):
        try:
            roles[role] = formats.subset_name(annotations, role)
        except InputError:
            continue
    if roles:
        summary["roles"] = roles
        lines.append("  taken as " + ", ".join(f"{role}: {name}" for role, name in roles.items()))
    _say(_doubts(annotations), summary, lines)


def _doubts(annotations: Annotations) -> list[Finding]:
    """What may be wrong with annotations."""
    rules: list[tuple[str, Callable[[Any], bool], str | None]] = [
        (
            "instances without length",
            lambda v: bool((v.instances.end == v.instances.start).any()),
            "never matched",
        ),
        (
            "instances that end after the video",
            lambda v: v.duration is not None and bool((v.instances.end > v.duration + 1).any()),
            "durations of another cut?",
        ),
        ("instances that start before 0", lambda v: bool((v.instances.start < 0).any()), None),
        (
            "video-level labels that are not the annotated classes",
            lambda v: len(v.instances) > 0 and set(v.labels) != set(v.instances.label.tolist()),
            "the video-level labels train, the instances evaluate",
        ),
        (
            "no label at all",
            lambda v: not v.labels and not v.complete,
            "not trained on; the label none, or an empty list in JSON, says that nothing occurs",
        ),
    ]
    found = [(what, tuple(v.name for v in annotations if bad(v)), hint) for what, bad, hint in rules]
    doubts = [
        Finding(f"{len(names)} videos with {what}", names, hint) for what, names, hint in found if names
    ]
    present = set(np.unique(annotations.instance_table().label).tolist())
    bare = [c for i, c in enumerate(annotations.classes) if i not in present]
    if bare and present:
        doubts.append(Finding(f"{len(bare)} classes without an instance", tuple(bare)))
    return doubts


def _detections(detections: Detections, about: dict[str, Any], lines: list[str]) -> None:
    about |= {
        "videos": len(detections.names),
        "detections": len(detections),
        "classes": list(detections.classes),
    }
    lines.append(
        f"  {len(detections)} detections in {len(detections.names)} videos, {len(detections.classes)} classes"
    )
    if not len(detections):
        return
    low, high = float(detections.score.min()), float(detections.score.max())
    about |= {"scores": [low, high]}
    lines.append(f"  scores from {low:.4g} to {high:.4g}, segments up to {detections.end.max():.2f} s")
    empty = int((detections.end == detections.start).sum())
    if empty:
        lines.append(f"! {empty} detections without length: they match nothing")


def _features(
    store: FeatureStore,
    annotations: Annotations | None,
    quick: bool,
    about: dict[str, Any],
    lines: list[str],
) -> None:
    videos = () if annotations is None else tuple(annotations)
    report = inspect_features(
        store,
        {v.name: v.duration for v in videos if v.duration is not None},
        {v.name: v.fps for v in videos if v.fps is not None},
        quick=quick,
    )
    lengths = report.lengths
    made = store.provenance
    summary = {
        "provenance": made,
        "videos": report.videos,
        "snippets": report.snippets,
        "implied_rate": report.implied_rate,
        "compared": report.compared,
        "values_checked": not quick,
    }
    about["features"] = summary
    width = " + ".join(map(str, store.streams)) + (
        f", mean of {store.crops} crops" if store.crops > 1 else ""
    )
    rate = "unknown" if store.rate is None else f"{store.rate:g} snippets per second"
    lines.append(f"features: {store.layout.kind} at {store.path}")
    lines.append(f"  {report.videos} videos, {report.snippets} snippets, width {width}, rate {rate}")
    if len(lengths):
        lines.append(
            f"  {lengths.min()} to {lengths.max()} snippets a video, median {np.median(lengths):.0f}"
            + ("" if quick else "; every value is finite" * (not report.findings))
        )
    if report.implied_rate is not None:
        lines.append(
            f"  {report.compared} lengths held against durations: they imply {report.implied_rate:.4g} "
            "snippets per second"
        )
    shown = ("layout", "rate", "dims", "crops", "format")
    said = {k: v for k, v in made.items() if k not in shown and v not in (None, 0.0)}
    if said:
        lines.append("  made with " + ", ".join(f"{k}={v}" for k, v in sorted(said.items())))
    _say(report.findings, summary, lines)
    if annotations is not None:
        coverage = Coverage.of(annotations, annotations, store)
        about["coverage"] = coverage.as_dict()
        lines.append(f"coverage: {coverage}")
        if coverage.without_features and len(coverage.usable) < 0.9 * len(annotations):
            lines.append("! a reduced set of features: results are not comparable with the full set")


def _say(findings: list[Finding], summary: dict[str, Any], lines: list[str]) -> None:
    summary["findings"] = [{"what": f.what, "videos": list(f.videos), "hint": f.hint} for f in findings]
    lines += [f"! {finding}" for finding in findings]
