"""``weaktal extract VIDEOS... --backbone NAME --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from weaktal.core import InputError

if TYPE_CHECKING:
    from weaktal.features.extract.driver import Job, Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, or folders of them")
    parser.add_argument("--out", required=True, type=Path, help="folder that gets NAME.safetensors per video")
    parser.add_argument(
        "--backbone",
        default="motion",
        help="motion (default, no weights), i3d, videomae, clip, transformers, timm, or file.py:NAME",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the backbone (repeatable)",
    )
    parser.add_argument("--workers", type=int, help="worker processes (default: one per core)")


def options(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` texts as keyword arguments; values are read as YAML."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError("an option is KEY=VALUE", found=repr(pair))
        out[key] = yaml.safe_load(value)
    return out


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from weaktal.features.extract.driver import Job
    from weaktal.features.extract.videos import find_videos

    job = Job(args.backbone, options(args.set))
    report = extraction(find_videos(args.videos), args.out, job, workers=args.workers)
    shown = report.outcomes if len(report.outcomes) <= 40 else report["failed"]
    if shown:
        table = Table("video", "", "seconds", "snippets", "remarks")
        for o in shown:
            remarks = o.error or "; ".join(o.warnings)
            table.add_row(o.name, o.state, f"{o.seconds:.2f}", str(o.snippets), remarks)
        Console().print(table)
    counts = ", ".join(f"{len(report[s])} {s}" for s in ("done", "kept", "failed"))
    print(f"{len(report.outcomes)} videos: {counts}; report in {args.out / 'extraction.json'}")
    return 2 if report["failed"] else 0


def extraction(videos: Sequence[Path], out: Path, job: Job, *, workers: int | None = None) -> Report:
    """Extract with a progress bar on stderr; bad videos are told there as they turn up."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from weaktal.features.extract.driver import LocalEngine, Outcome, extract

    if workers is not None and workers < 1:
        raise InputError("--workers is at least 1", found=workers)
    seconds = 0.0
    with Progress(
        TextColumn("extract"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    ) as bar:
        task = bar.add_task("extract", total=len(videos), rate="")

        def progress(outcome: Outcome, ready: int, total: int) -> None:
            nonlocal seconds
            seconds += outcome.seconds if outcome.state == "done" else 0
            passed = bar.tasks[0].elapsed or 1e-9
            bar.update(task, completed=ready, rate=f"{seconds / passed:.1f} s of video per second")
            if outcome.error:
                bar.console.print(f"{outcome.source}: {outcome.error}", style="red", soft_wrap=True)
            for warning in outcome.warnings if outcome.state == "done" else ():
                bar.console.print(f"{outcome.source}: {warning}", style="yellow", soft_wrap=True)

        return extract(videos, out, job, engine=LocalEngine(workers), progress=progress)
