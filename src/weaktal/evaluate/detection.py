"""Detection mAP of a set of detections under a protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, Detections, InputError
from weaktal.core.limits import within
from weaktal.evaluate.matching import Matches, Segments, average_precision, match
from weaktal.evaluate.notes import aligned, beyond_the_end, name_hint, of_equal_scores, unknown_classes
from weaktal.evaluate.protocols import SNAP, SNIPPET_RATE, Protocol, get_protocol, to_snippets

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Coverage:
    """Which videos an evaluation saw.

    Attributes:
        annotated: number of annotated videos.
        predicted: how many of them the detections list.
        missing: annotated videos that the detections do not list; their instances count as missed.
        unannotated: videos with detections but without annotation.
        outside: number of detections in those.
    """

    annotated: int
    predicted: int
    missing: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()
    outside: int = 0


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """Average precision under a protocol, and all that is needed to know what was measured.

    Attributes:
        protocol: the protocol as it was applied.
        tiou: H thresholds.
        classes: names of the C classes with instances in the evaluated videos.
        ap: (H, C) average precision in [0, 1].
        mean_ap: (H,) mean over classes.
        instances: number of instances evaluated against.
        detections: number of detections that were ranked.
        ignored: number of detections removed because they touch an ambiguous interval.
        dropped: number of detections that do not take part: of a class without instances here, or without a
            whole snippet or in a video without instances under an integer protocol.
        coverage: which videos were seen.
        subset: the evaluated subset, where one was asked for.
        annotation_sha256: hash of the annotation file, see `file_sha256`; None if there was no file.
        notes: what makes the numbers mean less than they seem to, see `weaktal.evaluate.notes`.
    """

    protocol: Protocol
    tiou: tuple[float, ...]
    classes: tuple[str, ...]
    ap: FloatArray
    mean_ap: FloatArray
    instances: int
    detections: int
    ignored: int
    dropped: int
    coverage: Coverage
    subset: str | None = None
    annotation_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def average(self) -> float:
        """Mean of `mean_ap` over the thresholds."""
        return float(self.mean_ap.mean())

    def at(self, threshold: float) -> float:
        """Mean AP at one of the thresholds."""
        near = np.flatnonzero(np.isclose(self.tiou, threshold, rtol=0, atol=1e-9))
        if not len(near):
            raise ValueError(f"no tIoU threshold {threshold} among {self.tiou}")
        return float(self.mean_ap[near[0]])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; AP as fractions."""
        return {
            "protocol": self.protocol.name,
            "protocol_version": self.protocol.version,
            "protocol_settings": self.protocol.to_dict(),
            "subset": self.subset,
            "tiou": list(self.tiou),
            "mAP": self.mean_ap.tolist(),
            "average_mAP": self.average,
            "classes": list(self.classes),
            "ap": self.ap.tolist(),
            "instances": self.instances,
            "detections": self.detections,
            "ignored_detections": self.ignored,
            "dropped_detections": self.dropped,
            "coverage": asdict(self.coverage),
            "annotation_sha256": self.annotation_sha256,
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """`to_dict` as text; the matrix of AP in rows of thresholds, columns of classes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)


@dataclass(frozen=True, eq=False)
class Matched:
    """What an evaluation works on: detections matched to instances under a protocol, in the protocol's unit.

    Attributes:
        protocol: as it was applied.
        classes: names of the C classes with instances, which `truth.label` and `found.label` index.
        truth: instances; `video` indexes the annotated videos.
        found: detections that are ranked; a video that is not annotated has an index of `videos` or more.
        matches: see `weaktal.evaluate.matching.match`; rows are those of `found`.
        videos, unannotated: number of annotated videos, and of others with detections.
        ignored, dropped: detections that were left out, see `DetectionResult`.
        coverage: which videos were seen.
        notes: see `DetectionResult`.
    """

    protocol: Protocol
    classes: tuple[str, ...]
    truth: Segments
    found: Segments
    matches: Matches
    videos: int
    unannotated: int
    ignored: int
    dropped: int
    coverage: Coverage
    notes: tuple[str, ...] = ()

    @property
    def zeroed(self) -> bool:
        """Published quirk: a class without detections makes the mean 0."""
        return self.protocol.missing_class_zeroes and len(np.unique(self.found.label)) < len(self.classes)


def matched(
    detections: Detections,
    annotations: Annotations,
    protocol: Protocol | str = "activitynet",
    *,
    tiou: Sequence[float] | None = None,
    ignore: bool | None = None,
    subset: str | None = None,
    strict: bool = False,
) -> Matched:
    """Match detections to instances; arguments and errors are those of `evaluate`."""
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    protocol = protocol if ignore is None else replace(protocol, ignore=ignore)
    protocol = protocol if tiou is None else replace(protocol, tiou=tuple(float(x) for x in tiou))
    within(len(protocol.tiou), "thresholds", "thresholds")
    detections = aligned(detections, annotations)
    if detections.grid is not None and protocol.rate is not None and detections.grid.lies_on(protocol.rate):
        protocol = replace(protocol, snap=max(protocol.snap, SNAP))
    chosen = annotations if subset is None else annotations.subset(subset)
    if not any(len(v.instances) for v in chosen if v.name not in protocol.without_truth):
        raise InputError(
            "there is nothing to evaluate against: no annotated instance"
            + ("" if subset is None else f" in subset {subset!r}")
        )
    video, coverage = _videos(detections, annotations, chosen)
    truth, classes = _truth(chosen, protocol)

    notes = unknown_classes(detections, annotations, strict=strict)
    notes += beyond_the_end(detections, annotations)
    place = {name: i for i, name in enumerate(classes)}
    label = np.array([place.get(name, -1) for name in detections.classes] or [-1], np.int64)
    segments = Segments(
        video[detections.video],
        protocol.detection_times(detections.start),
        protocol.detection_times(detections.end),
        label[detections.label],
    )
    here = segments.video >= 0
    touching = (
        here & touches_ignored(detections, chosen, protocol.snap or _snap(detections))
        if protocol.ignore
        else np.zeros_like(here)
    )
    keep = here & ~touching & (segments.label >= 0)
    if protocol.integer:
        has_truth = np.bincount(truth.video, minlength=len(chosen) + len(detections.names)) > 0
        keep &= (segments.end > segments.start) & has_truth[segments.video]
    found, score = segments[keep], detections.score[keep]
    if np.isnan(score).any() or not np.all(np.isfinite(found.start) & np.isfinite(found.end)):
        row = int(np.flatnonzero(~np.isfinite(detections.score + detections.start + detections.end))[0])
        raise InputError(
            "a detection has a score or time that is not a number",
            field=detections.names[detections.video[row]],
        )
    matches = match(
        truth,
        found,
        score,
        len(classes),
        protocol.tiou,
        preference=protocol.preference,
        ties="first" if protocol.ties == "first" else "last",
        numpy_ties=protocol.ties == "numpy",
        nan_matches=protocol.nan_matches,
    )
    return Matched(
        protocol,
        classes,
        truth,
        found,
        matches,
        videos=len(chosen),
        unannotated=len(coverage.unannotated),
        ignored=int(touching.sum()),
        dropped=int((here & ~touching & ~keep).sum()),
        coverage=coverage,
        notes=tuple(notes),
    )


def evaluate(
    detections: Detections,
    annotations: Annotations,
    protocol: Protocol | str = "activitynet",
    *,
    tiou: Sequence[float] | None = None,
    ignore: bool | None = None,
    subset: str | None = None,
    annotation_sha256: str | None = None,
    strict: bool = False,
) -> DetectionResult:
    """Mean average precision of detections.

    The mean is over the classes with instances in the evaluated videos; one of them without detections counts
    as 0. Detections in videos that are not annotated are false positives (except under integer protocols).

    Args:
        detections: over any list of classes; classes are matched by name.
        annotations: ground truth.
        protocol: a protocol, or the name of one.
        tiou: thresholds in (0, 1]; default: the protocol's.
        ignore: remove detections that touch an ambiguous interval of their video (`Video.ignored`); default:
            what the protocol does.
        subset: evaluate this subset of the annotations only; detections in videos of other subsets take no
            part.
        annotation_sha256: stored in the result.
        strict: a detected class that is not annotated is an error; by default its detections take no part,
            and the result's notes say so.

    Raises:
        InputError: the subset has no instances, no detected class or video is annotated, most detections lie
            beyond the ends of their videos.
    """
    options: dict[str, Any] = {"tiou": tiou, "ignore": ignore, "subset": subset, "strict": strict}
    run = matched(detections, annotations, protocol, **options)
    ap = average_precision(run.matches, interpolated=run.protocol.interpolated)
    mean_ap = ap.mean(axis=1)
    notes = run.notes
    if len(run.found) > 1 and np.ptp(detections.score) == 0:
        turned = matched(detections[::-1], annotations, protocol, **options)
        other = average_precision(turned.matches, interpolated=run.protocol.interpolated).mean(axis=1)
        notes += (of_equal_scores(mean_ap.tolist(), other.tolist()),)
    return DetectionResult(
        protocol=run.protocol,
        tiou=run.protocol.tiou,
        classes=run.classes,
        ap=ap,
        mean_ap=np.zeros_like(mean_ap) if run.zeroed else mean_ap,
        instances=len(run.truth),
        detections=len(run.found),
        ignored=run.ignored,
        dropped=run.dropped,
        coverage=run.coverage,
        subset=subset,
        annotation_sha256=annotation_sha256,
        notes=notes,
    )


def touches_ignored(detections: Detections, annotations: Annotations, snap: float = 0.0) -> BoolArray:
    """Which detections share a whole snippet with an ambiguous interval of their video, in any class.

    A detection is cut to whole snippets [int(start), int(end)), an interval is rounded to them; a detection
    or an interval without a whole snippet touches nothing. `snap` as in `Protocol`.

    Returns:
        (N,) bool.
    """
    out = np.zeros(len(detections), bool)
    intervals = {
        i: annotations.videos[name].ignored
        for i, name in enumerate(detections.names)
        if name in annotations.videos and len(annotations.videos[name].ignored)
    }
    if not intervals:
        return out
    rows = np.flatnonzero(np.isin(detections.video, list(intervals)))
    start = np.trunc(to_snippets(detections.start[rows], SNIPPET_RATE, snap))
    end = np.trunc(to_snippets(detections.end[rows], SNIPPET_RATE, snap))
    for video, seconds in intervals.items():
        mine = detections.video[rows] == video
        low, high = np.rint(seconds * SNIPPET_RATE).T
        shared = np.minimum(end[mine, None], high) - np.maximum(start[mine, None], low)
        out[rows[mine]] = (shared > 0).any(axis=1)
    return out


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it; of a folder, that of the sorted lines "hash  name"."""
    path = Path(path)
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{file_sha256(p)}  {p.name}\n" for p in sorted(path.iterdir()) if p.is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _snap(detections: Detections) -> float:
    """How near to a whole snippet a detected time is put on it: a little if they lay on that grid."""
    return SNAP if detections.grid is not None and detections.grid.lies_on(SNIPPET_RATE) else 0.0


def _videos(
    detections: Detections, annotations: Annotations, chosen: Annotations
) -> tuple[IntArray, Coverage]:
    """Every detected name's index: among the chosen videos, after them if unknown, -1 if to leave out."""
    place = {name: i for i, name in enumerate(chosen.videos)}
    count = np.bincount(detections.video, minlength=len(detections.names))
    index = np.full(len(detections.names), -1, np.int64)
    unknown: list[str] = []
    for i, name in enumerate(detections.names):
        if name in place:
            index[i] = place[name]
        elif name not in annotations.videos and count[i]:
            index[i] = len(place) + len(unknown)
            unknown.append(name)
    listed = set(detections.names)
    missing = tuple(name for name in place if name not in listed)
    if len(missing) == len(place) and len(detections):
        example = detections.names[int(detections.video[0])]
        raise InputError(
            "no detection lies in an annotated video" + ("" if chosen is annotations else " of this subset"),
            found=f"{len(detections.names)} other names, {example!r} among them",
            expected=f"{len(place)} names like {next(iter(place))!r}",
            hint=name_hint(detections.names, list(place)),
        )
    outside = int(sum(count[i] for i, name in enumerate(detections.names) if index[i] >= len(place)))
    return index, Coverage(len(place), len(place) - len(missing), missing, tuple(unknown), outside)


def _truth(annotations: Annotations, protocol: Protocol) -> tuple[Segments, tuple[str, ...]]:
    """Instances in the protocol's unit, and the names of the classes that occur, which label them."""
    table = annotations.instance_table()
    left_out = [i for i, name in enumerate(table.names) if name in protocol.without_truth]
    keep = ~np.isin(table.video, left_out)
    present, label = np.unique(table.label[keep], return_inverse=True)
    segments = Segments(
        table.video[keep],
        protocol.truth_times(table.start[keep]),
        protocol.truth_times(table.end[keep]),
        label.reshape(-1).astype(np.int64),
    )
    return segments, tuple(annotations.classes[i] for i in present)
