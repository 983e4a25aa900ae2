"""`weaktal localize`."""

from __future__ import annotations

import argparse
import sys
import time

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_run(parser)
    options.add_data(parser, "the one that was trained on")
    add("--out", type=options.path, help="detections, .json or .csv (default RUN/detections.json)")
    options.add_subset(parser)
    add("--checkpoint", choices=("last", "best"), help="default: what the run's checkpoint rule says")
    add("--from-scores", action="store_true", help="repeat from the scores saved in RUN, without the network")
    options.add_settings(parser, "localization setting (repeatable)")
    options.add_proposals(parser)
    options.add_false_alarms(parser, "leave out what is below", "default off: everything")
    options.add_device(parser)
    options.add_max_memory(parser)
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.localize import localize_run

    begin = time.perf_counter()
    found = localize_run(
        args.run_folder,
        args.data,
        subset=args.subset,
        out=args.out,
        checkpoint=args.checkpoint,
        from_scores=args.from_scores,
        settings=options.settings(args.settings),
        proposals=args.proposals,
        false_alarms=args.false_alarms,
        per=args.per,
        device=args.device,
        max_memory=args.max_memory,
    )
    seconds = time.perf_counter() - begin
    count, videos = len(found.detections), len(found.detections.names)
    print(f"{count} detections in {videos} videos, {seconds:.1f} s: {found.path}", file=sys.stderr)
    return 0
