"""`weaktal predict`: raw video in, segments out."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_run(parser)
    add("videos", nargs="+", type=options.path, metavar="VIDEO", help="video files, or folders of them")
    add("--out", type=options.path, required=True, help="folder for features, segments and the page")
    add("--backbone", help="default: the one of the features that the run was trained on")
    options.add_settings(parser, "an option of the backbone (repeatable)")
    add(
        "--threshold",
        type=options.number,
        help="least score in subtitles, EDL and page (default: that of --false-alarms)",
    )
    options.add_false_alarms(
        parser,
        "cut there",
        "default 0.05 if the run is calibrated; otherwise, and by off, what has 0.7 of a video's best score",
    )
    add(
        "--chunk",
        type=options.number,
        metavar="SECONDS",
        help="pieces that the network sees (default: whole videos)",
    )
    options.add_workers(parser, "worker processes for the features (default: one per core)")
    options.add_limits(parser)
    options.add_device(parser)
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.prediction import predict

    found = predict(
        args.run_folder,
        args.videos,
        args.out,
        backbone=args.backbone,
        options=options.settings(args.settings),
        threshold=args.threshold,
        false_alarms=args.false_alarms,
        per=args.per,
        chunk=args.chunk,
        workers=args.workers,
        device=args.device,
        limits=options.limits(args),
        progress=True,
    )
    for note in found.notes:
        print(note, file=sys.stderr)
    if found.videos:
        print(found)
    silent = sum(not len(found.clear.of(name)) for name in found.videos)
    if silent and found.false_alarms is not None and found.false_alarms < 0.5:
        more = f"{min(0.5, 4 * found.false_alarms):g}" + (" --per class" if args.per == "class" else "")
        print(
            f"{silent} of {len(found.videos)} videos show nothing, so that false alarms stay at "
            f"{100 * found.false_alarms:g} %; --false-alarms {more} shows more",
            file=sys.stderr,
        )
    print(f"{len(found.detections)} detections in {len(found.videos)} videos: {args.out}", file=sys.stderr)
    return 2 if found.failed else 0
