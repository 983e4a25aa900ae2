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
    from weaktal.features.extract.driver import Engine, Job, Report


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
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where the work runs")
    parser.add_argument("--address", help="of a Ray cluster (default: a local one)")


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

    from weaktal.features.extract.driver import Job, LocalEngine
    from weaktal.features.extract.videos import find_videos

    job = Job(args.backbone, options(args.set))
    engine: Engine = LocalEngine(args.workers)
    if args.engine == "ray":
        from weaktal.features.extract.ray_engine import RayEngine

        engine = RayEngine(args.workers, args.address)
    elif args.address:
        raise InputError("--address is of a Ray cluster", hint="add --engine ray")
    report = extraction(find_videos(args.videos), args.out, job, engine)
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


def extraction(videos: Sequence[Path], out: Path, job: Job, engine: Engine) -> Report:
    """Extract with a progress bar on stderr; bad videos are told there as they turn up."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from weaktal.features.extract.driver import Outcome, extract

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

        return extract(videos, out, job, engine=engine, progress=progress)
