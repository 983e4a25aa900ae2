"""`weaktal demo`: the whole job on rendered videos, step by step with the commands a user would type."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=options.path, default=Path("demo"), help="folder for everything (default demo)")
    add("--seed", type=options.seed, default=0, help="of the training (default 0)")
    add(
        "--supervision",
        choices=("video", "point"),
        default="video",
        help="video: class tags only (ASM-Loc's base network); point: one click an instance (LAC, TSPNet)",
    )
    add("--train-videos", type=options.count, default=120, help="how many to render (default 120)")
    add("--test-videos", type=options.count, default=24, help="how many to render (default 24)")


def run(args: argparse.Namespace) -> int:
    from weaktal.demo.job import run_demo

    begun = time.monotonic()
    done = run_demo(
        args.out,
        supervision=args.supervision,
        seed=args.seed,
        train_videos=args.train_videos,
        test_videos=args.test_videos,
        say=lambda text: print(text, flush=True),
        progress=True,
    )
    print(f"done in {time.monotonic() - begun:.0f} s; open {done.report}")
    print(f"the same to look through, correct and go on with: weaktal app {shlex.quote(str(done.data))}")
    return 0
