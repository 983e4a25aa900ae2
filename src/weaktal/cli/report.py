"""`weaktal report`."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="+", type=options.path, metavar="RUN", help="run directory, or a detections file")
    add("--out", type=options.path, help="the page (default: report.html in the first run's directory)")
    options.add_data(parser, "the one that the first run was trained on")
    options.add_subset(parser)
    add("--protocol", help="evaluation protocol (default: the data set's)")
    add("--video-folder", type=options.path, metavar="DIR", help="folder of the videos, for pictures")
    add("--most", type=options.whole, default=40, help="how many videos to draw (default 40)")
    add("--figures", type=options.path, metavar="DIR", help="also write static figures there, for papers")
    add("--format", default="png", choices=("png", "svg", "pdf"), help="of the figures (default png)")
    add(
        "--intervals",
        nargs="?",
        type=options.count,
        const=1000,
        metavar="RESAMPLES",
        help="intervals of the average mAP, and of differences to the first run, by resampling the videos "
        "(default 1000 times)",
    )
    add("--no-chance", action="store_true", help="leave the chance baseline out of the table")
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.reports import report_runs

    written = report_runs(
        args.runs,
        args.out,
        data=args.data,
        subset=args.subset,
        protocol=args.protocol,
        video_folder=args.video_folder,
        most=args.most,
        chance=not args.no_chance,
        resamples=args.intervals,
        figures=args.figures,
        format=args.format,
    )
    if not written.evaluated:
        print("no instance is annotated here: the page shows what was found", file=sys.stderr)
    print(f"report: {written.path}", file=sys.stderr)
    if written.figures:
        print(f"figures: {args.figures}", file=sys.stderr)
    return 0
