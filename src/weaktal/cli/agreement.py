"""`weaktal agreement`: how far two annotators, or a run and an annotator, agree."""

from __future__ import annotations

import argparse

from weaktal.cli import options
from weaktal.core import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("a", type=options.path, metavar="A", help="annotations of any format, or detections")
    add("b", type=options.path, metavar="B", help="the other side's")
    add(
        "--threshold",
        type=options.number,
        metavar="SCORE",
        help="detections with at least this score count",
    )
    add("--tiou", type=options.positive, default=0.5, help="of segments that are one (default 0.5)")
    add(
        "--tolerance",
        type=options.number,
        default=1.0,
        metavar="SECONDS",
        help="between clicks that are one (default 1)",
    )
    add("--subset", help="only the videos that annotations have in this subset")
    add(
        "--fps",
        type=options.frame_rate,
        help="frame rate where files do not say, or a JSON table of them (default 25)",
    )
    add("--json", type=options.path, metavar="FILE", help="the same for programs")


def run(args: argparse.Namespace) -> int:
    from weaktal.files.agreement import compare_annotators

    found = compare_annotators(
        args.a,
        args.b,
        threshold=args.threshold,
        subset=args.subset,
        tiou=args.tiou,
        tolerance=args.tolerance,
        fps=args.fps,
    )
    print(found)
    if args.json is not None:
        write_json(args.json, found.to_dict())
    return 0
