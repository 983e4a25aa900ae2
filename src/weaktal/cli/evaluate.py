"""``weaktal evaluate``: detections in, mean average precision under a named protocol out."""

from __future__ import annotations

import argparse
import warnings

from weaktal.cli import options
from weaktal.core import CoverageWarning, write_json
from weaktal.evaluate.protocols import PROTOCOLS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("detections", type=options.path, help="ActivityNet JSON or CSV")
    options.add_truth(parser)
    options.add_subset(parser)
    add(
        "--protocol",
        help=f"{', '.join(PROTOCOLS)}, or all of them side by side"
        " (default: that of the data set, else activitynet)",
    )
    add(
        "--ignore",
        type=options.path,
        metavar="FILE",
        help="ambiguous intervals (Ambiguous_test.txt); detections that touch one are removed",
    )
    add(
        "--tiou",
        type=options.thresholds,
        metavar="FIRST:LAST:STEP",
        help="thresholds, both ends included, or a list like 0.5,0.75 (default: the protocol's, 0.1:0.7:0.1)",
    )
    add(
        "--snap",
        action="store_true",
        help="on the snippet grid: put detected times within a millionth of a whole snippet on it",
    )
    add(
        "--intervals",
        nargs="?",
        type=options.count,
        const=1000,
        metavar="RESAMPLES",
        help="also intervals of every mAP, by resampling the videos (default 1000 times)",
    )
    add(
        "--against",
        type=options.path,
        metavar="DETECTIONS",
        help="also the difference to these, with its interval",
    )
    add("--prefix", default="", help="what names of videos have before them on one side only, such as v_")
    add("--suffix", default="", help="what they have behind them")
    add(
        "--strict",
        action="store_true",
        help="a detected class that is not annotated is an error; without it a note",
    )
    add("--per-class", action="store_true", help="also print average precision by class")
    add("--json", type=options.path, metavar="FILE", help="write the results for programs")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from weaktal.files.evaluation import evaluate_detections

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        found = evaluate_detections(
            args.detections,
            args.data,
            ground_truth=args.ground_truth,
            subset=args.subset,
            protocol=args.protocol,
            ignore=args.ignore,
            tiou=args.tiou,
            snap=args.snap,
            resamples=args.intervals,
            against=args.against,
            prefix=args.prefix,
            suffix=args.suffix,
            strict=args.strict,
        )
    for warning in caught:
        print(f"note: {warning.message}")
    print(found.text(per_class=args.per_class))
    if args.json is not None:
        write_json(args.json, found.to_dict())
    return 0
