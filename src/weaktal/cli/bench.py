"""`weaktal bench`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

NOTE = "mAP in percent, mean ± standard deviation over seeds; published figures are of real I3D features."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("plan", type=Path, help="methods, data sets and seeds (YAML), see docs/training.md")
    add("--out", type=Path, required=True, help="folder of the bench; runs that are done are not repeated")
    add("--jobs", type=int, help="runs at a time (default: what the cores and the memory, or the GPUs, take)")
    add("--table", action="store_true", help="only print the table of the runs that are done")
    add("--json", type=Path, metavar="FILE", help="also write the table for programs")


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.execute import execute
    from weaktal.bench.plan import Plan
    from weaktal.bench.table import markdown, rows
    from weaktal.core import write_text

    plan = Plan.load(args.plan)
    failed = []
    if not args.table:
        failed = execute(
            plan, args.out, jobs=args.jobs, say=lambda text: print(text, file=sys.stderr, flush=True)
        )
    found = rows(plan, args.out)
    if args.json:
        write_text(args.json, json.dumps([asdict(r) for r in found], indent=1) + "\n")
    table = f"{markdown(found)}\n\n{NOTE}\n"
    write_text(args.out / "table.md", table)
    print(table, end="")
    for job in failed:
        print(f"failed: {args.out / job.folder / 'output.txt'}", file=sys.stderr)
    return 1 if failed else 0
