"""Detections of a file (or in memory) against the annotations of a data set, under one protocol or all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weaktal.core import Annotations, Detections, InputError, did_you_mean
from weaktal.evaluate.detection import Coverage, DetectionResult, evaluate, file_sha256
from weaktal.evaluate.intervals import RESAMPLES, Intervals, differences, intervals
from weaktal.evaluate.notes import aligned
from weaktal.evaluate.protocols import PROTOCOLS, SNAP, Protocol, get_protocol

if TYPE_CHECKING:
    from weaktal.dataset import Dataset

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured; `print` it for the table, or take `results`.

    Attributes:
        results: one per protocol, in the order of asking.
        notes: what to know about the numbers: videos that are missing or not annotated.
        intervals: of each result, where they were asked for.
        differences: of each result, "other minus these", where there was another.
        detections_file, annotation_file: what was read; None for what was in memory.
    """

    results: tuple[DetectionResult, ...]
    notes: tuple[str, ...] = ()
    intervals: tuple[Intervals, ...] = ()
    differences: tuple[Intervals, ...] = ()
    detections_file: Path | None = None
    annotation_file: Path | None = None

    @property
    def result(self) -> DetectionResult:
        """The first, and for one protocol the only, result."""
        return self.results[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: of one protocol the result's own, of several by name under "protocols"."""
        files = {"detections_file": self.detections_file, "annotation_file": self.annotation_file}
        out: dict[str, Any] = {k: None if v is None else str(v) for k, v in files.items()}
        each = [result.to_dict() for result in self.results]
        for key in ("intervals", "differences"):
            for plain, found in zip(each, getattr(self, key), strict=False):
                plain[key] = found.to_dict()
        if len(self.results) > 1:
            return out | {"protocols": {r.protocol.name: e for r, e in zip(self.results, each, strict=True)}}
        return out | each[0]

    def __str__(self) -> str:
        return self.text()

    def text(self, *, per_class: bool = False) -> str:
        """The table; with `per_class` also average precision by class."""
        first, results = self.result, self.results
        width = max(len("protocol"), *(len(_title(r)) for r in results))
        subset = "" if first.subset is None else f"subset {first.subset}: "
        lines = [
            f"{subset}{first.coverage.predicted} of {first.coverage.annotated} annotated videos are in "
            "the detections",
            *(f"note: {note}" for note in self.notes),
            "",
            f"{'mAP in % at tIoU':{width}} " + " ".join(f"{x:>5.4g}" for x in first.tiou) + "   average",
        ]
        for result in results:
            row = " ".join(f"{100 * x:5.2f}" for x in result.mean_ap)
            lines.append(f"{_title(result):{width}} {row}   {100 * result.average:7.2f}")
        lines.append("")
        for result in results:
            counts = [f"{result.detections} detections", f"{result.instances} instances"]
            counts += [f"{len(result.classes)} classes"]
            if result.ignored:
                counts.append(f"{result.ignored} removed in ambiguous intervals")
            if result.dropped:
                counts.append(f"{result.dropped} take no part")
            lines.append(f"{_title(result):{width}} {result.protocol.summary}: {', '.join(counts)}")
        if len(results) > 1:
            spread = np.ptp([r.mean_ap for r in results], axis=0)
            widest = int(spread.argmax())
            lines += [
                "",
                f"The protocol alone moves mAP@{first.tiou[widest]:g} by {100 * spread[widest]:.2f} points: "
                "compare numbers under one protocol only.",
            ]
        for title, found in (("interval", self.intervals), ("difference", self.differences)):
            for result, one in zip(results, found, strict=False):
                lines += ["", *_interval_lines(title, result, one)]
        if per_class:
            for result in results:
                lines += ["", *_class_lines(result)]
        return "\n".join(lines)


def evaluate_detections(
    detections: Detections | PathLike,
    data: Dataset | PathLike | None = None,
    *,
    ground_truth: Annotations | PathLike | None = None,
    subset: str | None = "test",
    protocol: Protocol | str | None = None,
    ignore: PathLike | None = None,
    tiou: Sequence[float] | None = None,
    snap: bool = False,
    resamples: int | None = None,
    against: Detections | PathLike | None = None,
    prefix: str = "",
    suffix: str = "",
    strict: bool = False,
) -> Evaluation:
    """Mean average precision of detections; give either `data` or `ground_truth`.

    Args:
        detections: in memory, or an ActivityNet JSON or CSV file.
        data: a data set, or its description: its annotations and its protocol.
        ground_truth: annotations alone, or their file: ActivityNet JSON, a W-TALC folder, or CSV.
        subset: role or name of the subset; None for all annotated videos.
        protocol: one of `weaktal.evaluate.PROTOCOLS`, its name, or "all" of them side by side; default that
            of the data set, else "activitynet".
        ignore: a file of ambiguous intervals; detections that touch one are removed.
        tiou: thresholds in (0, 1]; default the protocol's.
        snap: put detected times within a millionth of a whole snippet on the grid of integer protocols;
            files of ours say themselves that their times lie on it.
        resamples: also give intervals of every mAP, by so many resamples of the videos.
        against: other detections in the same videos, for intervals of the difference.
        prefix, suffix: what names of videos have around them in the detections and not in the annotations, or
            the other way round ("v_").
        strict: a detected class that is not annotated is an error, not a note.

    Raises:
        InputError: unreadable files, nothing to evaluate against, an unknown class, subset or protocol.

    Warns:
        CoverageWarning: what `weaktal.formats.load_annotations` warns of.
    """
    truth = load_truth(data, ground_truth, subset, ignore)
    annotations, named, source = truth.annotations, truth.subset, truth.source
    detections_file = None
    if not isinstance(detections, Detections):
        detections_file = Path(detections)
        detections = loaded(detections_file)
    detections = aligned(detections, annotations, prefix=prefix, suffix=suffix)
    wanted: list[Protocol | str] = list(PROTOCOLS) if protocol == "all" else [protocol or truth.protocol]
    digest = None if source is None else file_sha256(source)
    options: dict[str, Any] = {"tiou": tiou, "ignore": None if ignore is None else True, "subset": named}
    results, spread, moved = [], [], []
    try:
        other = None
        if against is not None:
            other = aligned(loaded(against), annotations, prefix=prefix, suffix=suffix)
        for one in wanted:
            found = get_protocol(one) if isinstance(one, str) else one
            applied = replace(found, snap=SNAP) if snap else found
            results.append(
                evaluate(detections, annotations, applied, annotation_sha256=digest, strict=strict, **options)
            )
            n = resamples or RESAMPLES
            if resamples is not None:
                spread.append(intervals(detections, annotations, applied, resamples=n, **options))
            if other is not None:
                moved.append(differences([detections], [other], annotations, applied, resamples=n, **options))
    except InputError as error:
        raise InputError(
            error.message,
            file=error.file or detections_file,
            field=error.field,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from None
    return Evaluation(
        tuple(results),
        (*_notes(results[0].coverage, annotations), *results[0].notes),
        tuple(spread),
        tuple(moved),
        detections_file,
        source,
    )


def loaded(detections: Detections | PathLike) -> Detections:
    """Detections in memory, or those of a file."""
    if isinstance(detections, Detections):
        return detections
    from weaktal.formats import load_detections

    return load_detections(detections)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What detections are held against.

    Attributes:
        annotations: all of them.
        subset: the file's word for the chosen subset; None for all annotated videos.
        protocol: name of the default protocol.
        source: the annotation file, None for what was in memory.
        name: of the data set, where there is one.
    """

    annotations: Annotations
    subset: str | None
    protocol: str
    source: Path | None
    name: str | None

    @property
    def chosen(self) -> Annotations:
        """The annotations of the subset."""
        return self.annotations if self.subset is None else self.annotations.subset(self.subset)


def load_truth(
    data: Dataset | PathLike | None,
    ground_truth: Annotations | PathLike | None,
    subset: str | None,
    ignore: PathLike | None = None,
) -> GroundTruth:
    """Annotations of a data set (or its description), or annotations alone (or their file); give either.

    Args:
        data, ground_truth: see `evaluate_detections`.
        subset: role or name.
        ignore: a file of ambiguous intervals.

    Raises:
        InputError: unreadable, without annotations, or without that subset.
    """
    from weaktal.formats import load_annotations, load_ignored, subset_name

    if (data is None) == (ground_truth is None):
        raise TypeError("either data or ground_truth")
    if ground_truth is not None:
        roles: Mapping[str, str] = {}
        if isinstance(ground_truth, Annotations):
            annotations, source = ground_truth, None
        else:
            annotations, source = load_annotations(ground_truth), Path(ground_truth)
        protocol, name = "activitynet", None
    else:
        from weaktal.dataset import Dataset

        assert data is not None
        dataset = data if isinstance(data, Dataset) else Dataset.load(data)
        if dataset.annotations is None or dataset.annotation_file is None:
            raise InputError("this data set has no annotations to evaluate against", file=dataset.path)
        annotations, source, roles = dataset.annotations, dataset.annotation_file, dataset.roles
        protocol, name = dataset.protocol, dataset.name
    if ignore is not None:
        annotations = annotations.with_ignored(load_ignored(ignore))
    if subset is not None:
        subset = roles.get(subset) or subset_name(annotations, subset)
    return GroundTruth(annotations, subset, protocol, source, name)


def _class_lines(result: DetectionResult) -> list[str]:
    width = max(len("average precision in %"), *map(len, result.classes))
    lines = [
        _title(result),
        f"{'average precision in %':{width}} " + " ".join(f"{x:>6.4g}" for x in result.tiou) + "   average",
    ]
    for name, ap in zip(result.classes, result.ap.T, strict=True):
        lines.append(
            f"{name:{width}} " + " ".join(f"{100 * x:6.2f}" for x in ap) + f"   {100 * ap.mean():7.2f}"
        )
    return lines


def _interval_lines(title: str, result: DetectionResult, found: Intervals) -> list[str]:
    one = found.average
    what = "other minus these, in points" if title == "difference" else "in %"
    p = f", p {one.p_value:.2g}" if title == "difference" else ""
    return [
        f"{_title(result)}: average {100 * one.value:.2f}, {100 * one.level:.0f} % {title} "
        f"{100 * one.low:.2f} to {100 * one.high:.2f} ({what}; {len(one.resamples)} resamples of the "
        f"videos{p})",
        "  "
        + ", ".join(
            f"@{t:g} {100 * i.low:.1f} to {100 * i.high:.1f}"
            for t, i in zip(found.tiou, found.at, strict=True)
        ),
    ]


def _title(result: DetectionResult) -> str:
    return f"{result.protocol.name} v{result.protocol.version}"


def _notes(coverage: Coverage, annotations: Annotations) -> list[str]:
    notes = []
    if coverage.missing:
        notes.append(f"not in the detections, all missed: {_some(coverage.missing)}")
    if coverage.unannotated:
        hint = did_you_mean(coverage.unannotated[0], coverage.missing)  # a name that is wrong is missing, too
        notes.append(
            f"not annotated, their {coverage.outside} detections are false positives: "
            + _some(coverage.unannotated)
            + (f" ({hint})" if hint else "")
        )
    return notes


def _some(names: tuple[str, ...], most: int = 3) -> str:
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {'video' if len(names) == 1 else 'videos'} ({shown})"
