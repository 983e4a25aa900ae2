"""Agreement of two files of annotations, or of a file of detections and one of annotations."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, Detections, InputError, Instances, Video
from weaktal.evaluate.agreement import ALL, FPS, Agreed, Agreement, agreement
from weaktal.files.kinds import kind_of
from weaktal.formats import Fps, load_annotations, load_detections, subset_name

PathLike = str | os.PathLike[str]
UNLABELLED = "unlabelled"  # the app's word for videos that nobody has looked at yet


@dataclass(frozen=True)
class AgreementReport:
    """What `weaktal agreement` says; `print` it for the table.

    Attributes:
        agreement: the numbers.
        names: of the two sides.
    """

    agreement: Agreement
    names: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"a": self.names[0], "b": self.names[1], **self.agreement.to_dict()}

    def __str__(self) -> str:
        found = self.agreement
        a, b = self.names
        lines = [
            f"A: {a}",
            f"B: {b}",
            f"{len(found.videos)} videos of both, {found.duration / 60:.1f} minutes; "
            f"segments match from tIoU {found.tiou:g}, clicks within {found.tolerance:g} s",
        ]
        for side, names in zip("AB", found.only, strict=True):
            if names:
                lines.append(f"note: {len(names)} videos only in {side}, the first {names[0]!r}")
        width = max(map(len, found.classes))
        borders = f"{'border s':>9} {'A s':>9} {'B s':>9}"
        for title, head, row in (
            (
                "segments",
                f"{'kappa':>6} {'A':>6} {'B':>6} {'match':>6} {'F1':>6} {borders}",
                _segments,
            ),
            ("clicks", f"{'A':>6} {'B':>6} {'match':>6} {'F1':>6} {'apart s':>9}", _clicks),
        ):
            if sum(getattr(found.overall, title)):
                lines += ["", f"{title:{width}} {head}"]
                lines += [f"{name:{width}} {row(agreed)}" for name, agreed in found.classes.items()]
        return "\n".join(lines)


def _segments(x: Agreed) -> str:
    return (
        f"{_number(x.kappa, 6, 3)} {x.segments[0]:6} {x.segments[1]:6} {x.matched:6} {_number(x.f1, 6, 3)} "
        f"{_number(x.border_error, 9, 3)} {x.seconds[0]:9.1f} {x.seconds[1]:9.1f}"
    )


def _clicks(x: Agreed) -> str:
    return (
        f"{x.clicks[0]:6} {x.clicks[1]:6} {x.clicks_matched:6} {_number(x.clicks_f1, 6, 3)} "
        f"{_number(x.click_error, 9, 3)}"
    )


def _number(value: float, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if np.isnan(value) else f"{value:{width}.{digits}f}"


def compare_annotators(
    a: PathLike | Annotations,
    b: PathLike | Annotations,
    *,
    threshold: float | None = None,
    subset: str | None = None,
    tiou: float = 0.5,
    tolerance: float = 1.0,
    fps: PathLike | Fps | None = None,
) -> AgreementReport:
    """How far two files agree.

    Args:
        a, b: annotations of any format, in memory or as files; one or both may be detections.
        threshold: detections with at least this score count.
        subset: only the videos that annotations have in it, by role or by their word.
        tiou: of a match of segments.
        tolerance: of a match of clicks, seconds.
        fps: frame rates of the videos, where a file does not say; 25 where nobody does.

    Raises:
        InputError: unreadable files, detections without a threshold, no video in common.
    """
    rate = fps if isinstance(fps, int | float) else FPS
    sides = [_side(x, threshold, subset, fps) for x in (a, b)]
    names = [
        f"annotations {s}" if isinstance(x, Annotations) else os.fspath(x)
        for s, x in zip("AB", (a, b), strict=True)
    ]
    return AgreementReport(agreement(*sides, tiou=tiou, tolerance=tolerance, fps=rate), (names[0], names[1]))


def _side(
    source: PathLike | Annotations, threshold: float | None, subset: str | None, fps: PathLike | Fps | None
) -> Annotations:
    if not isinstance(source, Annotations):
        kind = kind_of(source)
        if kind == "detections":
            if threshold is None:
                raise InputError(
                    "detections agree from a score on, and none is named", file=source, hint="add --threshold"
                )
            return detected(load_detections(source), threshold)
        if kind != "annotations":
            raise InputError(
                "nobody's annotations", file=Path(source), found=kind, expected="annotations or detections"
            )
        source = load_annotations(source, fps=fps)
    source = source.where(lambda v: v.subset != UNLABELLED)
    return source if subset is None else source.subset(subset_name(source, subset))


def detected(detections: Detections, threshold: float) -> Annotations:
    """Detections with at least this score, as if somebody had annotated them."""
    keep = detections.score >= threshold
    videos = []
    for i, name in enumerate(detections.names):
        rows = np.flatnonzero(keep & (detections.video == i))
        rows = rows[np.lexsort((detections.end[rows], detections.start[rows]))]
        it = Instances(detections.start[rows], detections.end[rows], detections.label[rows])
        videos.append(Video(name, instances=it, labels=tuple(it.label.tolist())))
    return Annotations.of(detections.classes, videos)


__all__ = ["ALL", "AgreementReport", "compare_annotators", "detected"]
