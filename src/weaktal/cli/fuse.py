"""`weaktal fuse`."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="+", type=options.path, metavar="RUN", help="run directories, of any methods")
    add("--out", type=options.path, required=True, metavar="FUSED", help="directory of the new run")
    add(
        "--by",
        choices=("detections", "scores"),
        default="detections",
        help="detections: weighted fusion of segments (default); scores: means of the snippet scores of "
        "runs of one method",
    )
    options.add_data(parser, "for each run the one that it was trained on")
    options.add_device(parser)
    options.add_max_memory(parser)
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.fuse import fuse_runs
    from weaktal.train.members import fused_config

    fused = fused_config(
        fuse_runs(
            args.runs, args.out, by=args.by, data=args.data, device=args.device, max_memory=args.max_memory
        )
    )
    for remark in fused.remarks:
        print(remark, file=sys.stderr)
    print(f"fused {len(fused.members)} runs, which have to stay where they are: {args.out}", file=sys.stderr)
    print(f"next: weaktal localize {args.out}", file=sys.stderr)
    return 0
