"""What is wrong with the detections of a file (or in memory), and what mending it would bring."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weaktal.core import Annotations, Detections, InputError
from weaktal.evaluate.detection import file_sha256
from weaktal.evaluate.diagnosis import (
    BUCKETS,
    KINDS,
    Comparison,
    Confusion,
    Diagnosis,
    Rule,
    analyse,
    class_confusion,
    compare,
)
from weaktal.evaluate.operating import ALL, Curve, Seconds, errors_in_seconds, operating_curves
from weaktal.files.evaluation import load_truth, loaded

if TYPE_CHECKING:
    from weaktal.dataset import Dataset

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class DiagnosisReport:
    """Everything that `weaktal diagnose` says; `print` it for the tables.

    Attributes:
        diagnosis: kinds, profile, impact, sensitivity, misses.
        curves: class -> precision and recall at every threshold, at the first tIoU.
        seconds: errors in seconds at the best F1 of all classes (of everything where nothing is right).
        confusion: which class is taken for which, at the first tIoU.
        comparison: with another set of detections, where one was given.
        subset: the file's word for the evaluated subset.
        names: of the detections and of the others.
        annotation_sha256: hash of the annotation file, None if there was none.
    """

    diagnosis: Diagnosis
    curves: Mapping[str, Curve]
    seconds: Seconds
    confusion: Confusion
    comparison: Comparison | None
    subset: str | None
    names: tuple[str, ...]
    annotation_sha256: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        out = {
            "detections_file": self.names[0],
            "subset": self.subset,
            "annotation_sha256": self.annotation_sha256,
            **self.diagnosis.to_dict(),
            "best_f1": {name: curve.best() for name, curve in self.curves.items()},
            "seconds": self.seconds.to_dict(),
            "confusion": {
                "classes": [*self.confusion.classes, "nothing"],
                "counts": self.confusion.counts.tolist(),
            },
        }
        if self.comparison is not None:
            kinds = {name: list(pair) for name, pair in self.comparison.kinds.items()}
            out["comparison"] = {"with": self.names[1], **self.comparison.counts, "kinds": kinds}
        return out

    def __str__(self) -> str:
        d = self.diagnosis
        lines = [
            f"{self.names[0]}: {int((d.kind[0] >= 0).sum())} detections, {len(d.truth)} instances, "
            f"{len(d.classes)} classes, tIoU {', '.join(f'{t:g}' for t in d.tiou)}",
            f"average mAP {100 * d.average_map:.2f}, normalised {100 * d.average_map_normalised:.2f}",
            "",
            f"{'kind':20} {'1G':>6} {f'{d.top}G':>6} {'deleted':>8} {'mended':>8}",
        ]
        profile, impact, repair = d.profile(), d.impact(), d.repair()
        for k, kind in enumerate(KINDS):
            shares = f"{100 * profile[0, k]:5.1f}% {100 * profile[-1, k]:5.1f}%"
            gains = f" {100 * impact[kind]:+8.2f} {100 * repair[kind]:+8.2f}" if kind in impact else ""
            lines.append(f"{kind:20} {shares}{gains}")
        lines.append(
            f"{'missed':20} {100 * d.missed().mean():5.1f}% {'':6} {'':8} {100 * repair['missed']:+8.2f}"
        )
        sizes, misses = d.bucket_sizes(), d.misses()
        for characteristic, found in d.sensitivity().items():
            cells = (
                f"{name} {100 * value:.1f} ({sizes[characteristic][name]}, "
                f"{100 * misses[characteristic][name]:.0f}% missed)"
                for name, value in found.items()
            )
            lines += ["", f"by {characteristic}: " + ", ".join(cells)]
        best = self.curves[ALL].best()
        if best is not None:
            lines += [
                "",
                f"best F1 of {ALL}: {100 * best['f1']:.1f} from score {best['threshold']:.4g} (precision "
                f"{100 * best['precision']:.1f}, recall {100 * best['recall']:.1f}); there "
                f"{self.seconds.false_alarm[ALL]:.0f} s of false alarms and {self.seconds.missed[ALL]:.0f} s "
                f"missed of {self.seconds.truth[ALL]:.0f} s",
            ]
        if self.comparison is not None:
            counts = ", ".join(f"{n} {name}" for name, n in self.comparison.counts.items())
            lines += ["", f"{self.names[1]} beside it: {counts} (instances, of the surest detections)"]
        return "\n".join(lines)

    def write_page(self, path: PathLike) -> None:
        """Write everything as one self-contained HTML page."""
        from weaktal.report.diagnosis import write_diagnosis_page

        d = self.diagnosis
        write_diagnosis_page(
            path,
            d,
            title=f"Diagnosis of {Path(self.names[0]).name}",
            facts={
                "subset": self.subset or "all annotated videos",
                "instances": f"{len(d.truth):,}",
                "detections": f"{int((d.kind[0] >= 0).sum()):,}",
                "average mAP": f"{100 * d.average_map:.2f}",
                "normalised": f"{100 * d.average_map_normalised:.2f}",
            },
            curves=self.curves,
            seconds=self.seconds,
            confusion=self.confusion,
            comparison=None if self.comparison is None else (*self.names[:2], self.comparison),  # type: ignore[arg-type]
        )


def diagnose(
    detections: Detections | PathLike,
    data: Dataset | PathLike | None = None,
    *,
    ground_truth: Annotations | PathLike | None = None,
    subset: str | None = "test",
    tiou: Sequence[float] = (0.5,),
    rule: Rule = "detad",
    top: int = 10,
    buckets: str | None = None,
    collar: float = 0.0,
    against: Detections | PathLike | None = None,
) -> DiagnosisReport:
    """Say what is wrong with detections; give either `data` or `ground_truth`.

    Args:
        detections: in memory, or a file.
        data: a data set, or its description.
        ground_truth: annotations alone, or their file.
        subset: role or name of the subset; None for all annotated videos.
        tiou: thresholds of a match, at least 0.1.
        rule, top: see `weaktal.evaluate.analyse`.
        buckets: "thumos14", "activitynet" or "quantiles"; default by the name of the data set, else the
            last.
        collar: seconds around the borders of instances that do not count in errors in seconds.
        against: other detections in the same videos; which instances do they repair, which break?

    Raises:
        InputError: unreadable files, an unknown subset, thresholds out of range.
    """
    truth = load_truth(data, ground_truth, subset)
    annotations = truth.chosen
    if not len(annotations.instance_table()):
        raise InputError("there is nothing to diagnose against: no annotated instance", file=truth.source)
    if not tiou or not all(0.1 <= t <= 1 for t in tiou):
        raise InputError("tIoU thresholds of a diagnosis lie between 0.1 and 1", found=list(tiou))
    if buckets is None:
        named = (truth.name or "").lower().replace("-", "").replace(" ", "")
        buckets = next((b for b in BUCKETS if named.startswith(b)), "quantiles")
    found = loaded(detections)
    diagnosis = analyse(found, annotations, tiou, rule=rule, top=top, buckets=buckets)
    curves = operating_curves(found, annotations, tiou[0])
    best = curves[ALL].best()
    least = best["threshold"] if best is not None else float("-inf")
    names, comparison = [_name(detections)], None
    if against is not None:
        names.append(_name(against))
        comparison = compare(found, loaded(against), annotations, tiou[0], rule=rule)
    return DiagnosisReport(
        diagnosis,
        curves,
        errors_in_seconds(found, annotations, least=least, collar=collar),
        class_confusion(found, annotations, tiou[0]),
        comparison,
        truth.subset,
        tuple(names),
        None if truth.source is None else file_sha256(truth.source),
    )


def _name(detections: Detections | PathLike) -> str:
    return "detections" if isinstance(detections, Detections) else os.fspath(detections)
