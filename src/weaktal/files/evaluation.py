"""Detections of a file (or in memory) against the annotations of a data set, under one protocol or all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weaktal.core import Annotations, Detections, InputError, did_you_mean
from weaktal.evaluate.detection import Coverage, DetectionResult, evaluate, file_sha256
from weaktal.evaluate.protocols import PROTOCOLS, Protocol, get_protocol

if TYPE_CHECKING:
    from weaktal.dataset import Dataset

PathLike = str | os.PathLike[str]
SNAP = 1e-6  # of a snippet: what rounding in seconds moves a time that lay on the grid


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured; `print` it for the table, or take `results`.

    Attributes:
        results: one per protocol, in the order of asking.
        notes: what to know about the numbers: videos that are missing or not annotated.
        detections_file, annotation_file: what was read; None for what was in memory.
    """

    results: tuple[DetectionResult, ...]
    notes: tuple[str, ...] = ()
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
        if len(self.results) > 1:
            return out | {"protocols": {r.protocol.name: r.to_dict() for r in self.results}}
        return out | self.result.to_dict()

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
        snap: put detected times within a millionth of a whole snippet on the grid of integer protocols.

    Raises:
        InputError: unreadable files, nothing to evaluate against, an unknown class, subset or protocol.

    Warns:
        CoverageWarning: what `weaktal.formats.load_annotations` warns of.
    """
    if (data is None) == (ground_truth is None):
        raise TypeError("either data or ground_truth")
    annotations, roles, default, source = _truth(data, ground_truth, ignore)
    named = roles.get(subset or "", subset)
    if named is not None and named == subset:
        from weaktal.formats import subset_name

        named = subset_name(annotations, named)
    detections_file = None
    if not isinstance(detections, Detections):
        from weaktal.formats import load_detections

        detections_file = Path(detections)
        detections = load_detections(detections_file)
    wanted: list[Protocol | str] = list(PROTOCOLS) if protocol == "all" else [protocol or default]
    digest = None if source is None else file_sha256(source)
    results = []
    try:
        for one in wanted:
            found = get_protocol(one) if isinstance(one, str) else one
            results.append(
                evaluate(
                    detections,
                    annotations,
                    replace(found, snap=SNAP) if snap else found,
                    tiou=tiou,
                    ignore=None if ignore is None else True,
                    subset=named,
                    annotation_sha256=digest,
                )
            )
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
        tuple(results), tuple(_notes(results[0].coverage, annotations)), detections_file, source
    )


def _truth(
    data: Dataset | PathLike | None,
    ground_truth: Annotations | PathLike | None,
    ignore: PathLike | None,
) -> tuple[Annotations, dict[str, str], str, Path | None]:
    """Annotations, the words for our roles, the default protocol, and the annotation file."""
    from weaktal.formats import load_annotations, load_ignored

    if ground_truth is not None:
        if isinstance(ground_truth, Annotations):
            annotations, source = ground_truth, None
            if ignore is not None:
                annotations = annotations.with_ignored(load_ignored(ignore))
        else:
            annotations, source = load_annotations(ground_truth, ignore=ignore), Path(ground_truth)
        return annotations, {}, "activitynet", source

    from weaktal.dataset import Dataset

    assert data is not None
    dataset = data if isinstance(data, Dataset) else Dataset.load(data)
    if dataset.annotations is None or dataset.annotation_file is None:
        raise InputError("this data set has no annotations to evaluate against", file=dataset.path)
    annotations = dataset.annotations
    if ignore is not None:
        annotations = annotations.with_ignored(load_ignored(ignore))
    return annotations, dict(dataset.roles), dataset.protocol, dataset.annotation_file


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


def _title(result: DetectionResult) -> str:
    return f"{result.protocol.name} v{result.protocol.version}"


def _notes(coverage: Coverage, annotations: Annotations) -> list[str]:
    notes = []
    if coverage.missing:
        notes.append(f"not in the detections, all missed: {_some(coverage.missing)}")
    if coverage.unannotated:
        hint = did_you_mean(coverage.unannotated[0], annotations.videos)
        notes.append(
            f"not annotated, their {coverage.outside} detections are false positives: "
            + _some(coverage.unannotated)
            + (f" ({hint})" if hint else "")
        )
    return notes


def _some(names: tuple[str, ...], most: int = 3) -> str:
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {'video' if len(names) == 1 else 'videos'} ({shown})"
