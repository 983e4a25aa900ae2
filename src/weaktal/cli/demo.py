"""`weaktal demo`: the whole job on rendered videos, step by step with the commands a user would type."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from weaktal.core import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default demo)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default 0)")
    parser.add_argument(
        "--supervision",
        choices=("video", "point"),
        default="video",
        help="video: class tags only (ASM-Loc's base network); point: one click an instance (LAC, TSPNet)",
    )
    parser.add_argument("--train-videos", type=int, help="number of training videos to render")
    parser.add_argument("--test-videos", type=int, help="number of test videos to render")


def run(args: argparse.Namespace) -> int:
    begun = time.monotonic()
    out: Path = args.out
    _render(args)
    data = out / "demo.yaml"
    # windows of 0.4 seconds: longer ones blur the borders of actions of one to six seconds
    backbone = ("--backbone", "motion", "--set", "window=6")
    _command("extract", out / "videos", *backbone, "--out", out / "features")
    if args.supervision == "video":
        runs = [out / f"asm_loc-{args.seed}"]
        _train("asm_loc", data, runs[0], args.seed)
    else:
        # TSPNet re-scores the proposals of LAC, which this trains first, in a run of its own inside
        tspnet = out / f"tspnet-{args.seed}"
        _train("tspnet", data, tspnet, args.seed)
        runs = [tspnet / "base", tspnet]
    for folder in runs:
        _command("localize", folder, "--data", data)
        _command("evaluate", folder / "detections.json", "--data", data, "--json", folder / "metrics.json")
    _chance(data)
    report = out / f"report-{args.supervision}.html"
    _command("report", *runs, "--data", data, "--out", report)
    print(f"done in {time.monotonic() - begun:.0f} s; open {report}")
    return 0


def _train(method: str, data: Path, out: Path, seed: int) -> None:
    _command("train", method, "--data", data, "--recipe", "demo", "--seed", seed, "--out", out, "--resume")


def _command(*words: object) -> None:
    """Run a command of ours after showing it; its failure is the demo's."""
    from weaktal.cli import main

    argv = [str(w) for w in words]
    print(f"\n$ weaktal {shlex.join(argv)}", flush=True)
    code = main(argv)
    if code:
        raise InputError(f"weaktal {argv[0]} failed", found=f"exit code {code}")


def _render(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from weaktal.demo import render

    sizes = {"train": args.train_videos, "test": args.test_videos}
    print(f"rendering the demo videos into {args.out / 'videos'}", flush=True)
    with Progress(
        TextColumn("render"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed}"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    ) as bar:
        task = bar.add_task("render", total=None)
        render(
            args.out,
            **{name: count for name, count in sizes.items() if count is not None},
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _chance(data: Path) -> None:
    from weaktal.dataset import Dataset
    from weaktal.evaluate import evaluate
    from weaktal.evaluate.baseline import chance_detections

    dataset = Dataset.load(data)
    annotations = dataset.subset("test")
    for know, what in ((False, "all classes"), (True, "told which classes each video has")):
        found = chance_detections(annotations, know_classes=know)
        average = evaluate(found, annotations, dataset.protocol).average
        print(f"chance (uniformly placed proposals, {what}): average mAP {100 * average:.2f}")
