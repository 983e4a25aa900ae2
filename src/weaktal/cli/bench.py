"""`weaktal bench`."""

from __future__ import annotations

import argparse
import json
import sys

from weaktal.cli import options
from weaktal.core import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("plan", type=options.path, help="methods, data sets and seeds (YAML), see docs/training.md")
    add(
        "--out",
        type=options.path,
        required=True,
        help="folder of the bench; runs that are done are not repeated",
    )
    add(
        "--jobs",
        type=options.count,
        help="runs at a time (default: what the cores and the memory, or the GPUs, take)",
    )
    add("--table", action="store_true", help="only print the table of the runs that are done")
    add("--json", type=options.path, metavar="FILE", help="also write the table for programs")
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.run import run_bench

    found = run_bench(
        args.plan,
        args.out,
        jobs=args.jobs,
        only_table=args.table,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if args.json:
        write_text(args.json, json.dumps(found.to_list(), indent=1) + "\n")
    print(found)
    for job in found.failed:
        print(f"failed: {args.out / job.folder / 'output.txt'}", file=sys.stderr)
    return 1 if found.failed else 0
