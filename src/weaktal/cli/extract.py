"""``weaktal extract VIDEOS... --backbone NAME --out DIR``."""

from __future__ import annotations

import argparse

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("videos", nargs="+", type=options.path, metavar="VIDEO", help="video files, or folders of them")
    add("--out", required=True, type=options.path, help="folder that gets NAME.safetensors per video")
    add(
        "--backbone",
        default="motion",
        help="motion (default, no weights), efficientnet, efficientnet+motion, i3d, videomae, clip, "
        "transformers, timm, or file.py:NAME",
    )
    options.add_settings(parser, "an option of the backbone (repeatable)")
    options.add_workers(parser, "worker processes (default: one per core)")
    options.add_limits(parser)
    add("--engine", choices=("local", "ray"), default="local", help="where the work runs")
    add("--address", help="of a Ray cluster (default: a local one)")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from weaktal.core.printable import printable
    from weaktal.features.extract.extraction import extract

    report = extract(
        args.videos,
        args.out,
        backbone=args.backbone,
        options=options.settings(args.settings),
        workers=args.workers,
        engine=args.engine,
        address=args.address,
        limits=options.limits(args),
        progress=True,
    )
    shown = report.outcomes if len(report.outcomes) <= 40 else report["failed"]
    if shown:
        table = Table("video", "", "seconds", "snippets", "remarks")
        for o in shown:
            remarks = o.error or "; ".join(o.warnings)
            cells = (o.name, o.state, f"{o.seconds:.2f}", str(o.snippets), remarks)
            table.add_row(*(Text(printable(cell)) for cell in cells))
        Console().print(table)
    counts = ", ".join(f"{len(report[s])} {s}" for s in ("done", "kept", "failed"))
    print(f"{len(report.outcomes)} videos: {counts}; report in {args.out / 'extraction.json'}")
    return 2 if report["failed"] else 0
