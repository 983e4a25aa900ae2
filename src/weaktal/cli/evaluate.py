"""``weaktal evaluate``: detections in, mean average precision under a named protocol out."""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, CoverageWarning, Detections, InputError, did_you_mean, write_text
from weaktal.evaluate.detection import Coverage, DetectionResult, evaluate, file_sha256
from weaktal.evaluate.protocols import PROTOCOLS, Protocol, get_protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("detections", type=Path, help="ActivityNet JSON or CSV")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--data", type=Path, metavar="DATASET.yaml", help="data set description")
    truth.add_argument(
        "--ground-truth",
        type=Path,
        metavar="PATH",
        help="annotations alone: ActivityNet JSON, a W-TALC folder, or CSV",
    )
    parser.add_argument("--subset", default="test", help="which videos (default: %(default)s)")
    parser.add_argument(
        "--protocol",
        help=f"{', '.join(PROTOCOLS)}, or all of them side by side"
        " (default: that of the data set, else activitynet)",
    )
    parser.add_argument(
        "--ignore",
        type=Path,
        metavar="FILE",
        help="ambiguous intervals (Ambiguous_test.txt); detections that touch one are removed",
    )
    parser.add_argument(
        "--tiou",
        metavar="FIRST:LAST:STEP",
        help="thresholds, both ends included, or a list like 0.5,0.75 (default: the protocol's, 0.1:0.7:0.1)",
    )
    parser.add_argument(
        "--snap",
        action="store_true",
        help="on the snippet grid: put detected times within a millionth of a whole snippet on it",
    )
    parser.add_argument("--per-class", action="store_true", help="also print average precision by class")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results for programs")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from weaktal.formats import load_detections

    tiou = None if args.tiou is None else parse_tiou(args.tiou)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        annotations, subset, default, source = _ground_truth(args)
        detections = load_detections(args.detections)
    names = list(PROTOCOLS) if args.protocol == "all" else [args.protocol or default]
    digest = file_sha256(source)
    results = [
        _evaluate(args, detections, annotations, subset, get_protocol(name), tiou, digest) for name in names
    ]
    for warning in caught:
        print(f"note: {warning.message}")
    _print(results, annotations, per_class=args.per_class)
    if args.json is not None:
        files = {"detections_file": str(args.detections), "annotation_file": str(source)}
        document: dict[str, Any]
        if args.protocol == "all":
            document = {**files, "protocols": {r.protocol.name: r.to_dict() for r in results}}
        else:
            document = {**files, **results[0].to_dict()}
        write_text(args.json, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return 0


def parse_tiou(text: str) -> tuple[float, ...]:
    """Thresholds of ``0.1:0.7:0.1`` (both ends included) or ``0.5,0.75``.

    >>> parse_tiou("0.1:0.7:0.1")
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """
    try:
        if ":" in text:
            first, last, step = (float(x) for x in text.split(":"))
            steps = int(np.floor((last - first) / step + 1e-9))
            values = tuple(round(first + step * i, 10) for i in range(steps + 1))
        else:
            values = tuple(float(x) for x in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        values = ()
    if not values or not all(0 < x <= 1 for x in values):
        raise InputError(
            "these are no tIoU thresholds",
            field="--tiou",
            found=repr(text),
            expected="FIRST:LAST:STEP or a list with commas, all above 0 and at most 1",
        )
    return values


def _ground_truth(args: argparse.Namespace) -> tuple[Annotations, str, str, Path]:
    """Annotations, the file's word for the subset, the default protocol, and the annotation file."""
    from weaktal.formats import load_annotations, load_ignored, subset_name

    if args.ground_truth is not None:
        annotations = load_annotations(args.ground_truth, ignore=args.ignore)
        return annotations, subset_name(annotations, args.subset), "activitynet", args.ground_truth

    from weaktal.dataset import Dataset

    data = Dataset.load(args.data)
    if data.annotations is None or data.annotation_file is None:
        raise InputError("this data set has no annotations to evaluate against", file=args.data)
    annotations = data.annotations
    if args.ignore is not None:
        annotations = annotations.with_ignored(load_ignored(args.ignore))
    subset = data.roles.get(args.subset) or subset_name(annotations, args.subset)
    return annotations, subset, data.protocol, data.annotation_file


def _evaluate(
    args: argparse.Namespace,
    detections: Detections,
    annotations: Annotations,
    subset: str,
    protocol: Protocol,
    tiou: tuple[float, ...] | None,
    digest: str,
) -> DetectionResult:
    try:
        return evaluate(
            detections,
            annotations,
            replace(protocol, snap=1e-6) if args.snap else protocol,
            tiou=tiou,
            ignore=True if args.ignore is not None else None,
            subset=subset,
            annotation_sha256=digest,
        )
    except InputError as error:
        raise InputError(
            error.message,
            file=error.file or args.detections,
            field=error.field,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from None


def _print(results: list[DetectionResult], annotations: Annotations, *, per_class: bool) -> None:
    first = results[0]
    width = max(len("protocol"), *(len(_title(r)) for r in results))
    print(f"subset {first.subset}: {_coverage(first.coverage)}")
    for note in _notes(first.coverage, annotations):
        print(f"note: {note}")
    print()
    print(f"{'mAP in % at tIoU':{width}} " + " ".join(f"{x:>5.4g}" for x in first.tiou) + "   average")
    for result in results:
        row = " ".join(f"{100 * x:5.2f}" for x in result.mean_ap)
        print(f"{_title(result):{width}} {row}   {100 * result.average:7.2f}")
    print()
    for result in results:
        counts = [f"{result.detections} detections", f"{result.instances} instances"]
        counts += [f"{len(result.classes)} classes"]
        if result.ignored:
            counts.append(f"{result.ignored} removed in ambiguous intervals")
        if result.dropped:
            counts.append(f"{result.dropped} take no part")
        print(f"{_title(result):{width}} {result.protocol.summary}: {', '.join(counts)}")
    if len(results) > 1:
        spread = np.ptp([r.mean_ap for r in results], axis=0)
        widest = int(spread.argmax())
        print(
            f"\nThe protocol alone moves mAP@{first.tiou[widest]:g} by {100 * spread[widest]:.2f} points: "
            "compare numbers under one protocol only."
        )
    if per_class:
        for result in results:
            _print_classes(result)


def _print_classes(result: DetectionResult) -> None:
    width = max(len("average precision in %"), *map(len, result.classes))
    print(f"\n{_title(result)}")
    print(f"{'average precision in %':{width}} " + " ".join(f"{x:>6.4g}" for x in result.tiou) + "   average")
    for name, ap in zip(result.classes, result.ap.T, strict=True):
        print(f"{name:{width}} " + " ".join(f"{100 * x:6.2f}" for x in ap) + f"   {100 * ap.mean():7.2f}")


def _title(result: DetectionResult) -> str:
    return f"{result.protocol.name} v{result.protocol.version}"


def _coverage(coverage: Coverage) -> str:
    return f"{coverage.predicted} of {coverage.annotated} annotated videos are in the detections"


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
