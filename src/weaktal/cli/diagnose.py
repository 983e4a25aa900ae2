"""`weaktal diagnose`: what is wrong with detections, and what mending it would bring."""

from __future__ import annotations

import argparse

from weaktal.cli import options
from weaktal.core import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("detections", type=options.path, help="ActivityNet JSON or CSV")
    options.add_truth(parser)
    options.add_subset(parser)
    add(
        "--tiou",
        type=options.thresholds,
        default=(0.5,),
        metavar="FIRST:LAST:STEP",
        help="thresholds of a match, from 0.1, or a list like 0.5,0.75 (default 0.5)",
    )
    add(
        "--rule",
        choices=("detad", "own-class-first"),
        default="detad",
        help="what decides the kind: the instance that is overlapped most, or the own class first",
    )
    add("--top", type=options.count, default=10, help="profile of the TOP x instances surest detections")
    add(
        "--buckets",
        choices=("thumos14", "activitynet", "quantiles"),
        help="by which instances are short, long, ... (default: by the data set's name, else quantiles)",
    )
    add(
        "--collar", type=options.number, default=0.0, metavar="SECONDS", help="around borders, does not count"
    )
    add("--against", type=options.path, metavar="DETECTIONS", help="what do these repair, and what break?")
    add("--out", type=options.path, metavar="PAGE.html", help="write everything as one page")
    add("--json", type=options.path, metavar="FILE", help="write everything for programs")


def run(args: argparse.Namespace) -> int:
    from weaktal.files.diagnosis import diagnose

    found = diagnose(
        args.detections,
        args.data,
        ground_truth=args.ground_truth,
        subset=args.subset,
        tiou=args.tiou,
        rule=args.rule,
        top=args.top,
        buckets=args.buckets,
        collar=args.collar,
        against=args.against,
    )
    print(found)
    if args.json is not None:
        write_json(args.json, found.to_dict())
    if args.out is not None:
        found.write_page(args.out)
        print(f"\n{args.out}")
    return 0
