"""`weaktal bench`."""

from __future__ import annotations

import argparse
import json
import sys

from weaktal.cli import options
from weaktal.core import InputError, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "plan", nargs="?", type=options.path, help="methods, data sets and seeds (YAML), see docs/training.md"
    )
    add(
        "--runs",
        nargs="+",
        type=options.path,
        metavar="RUN",
        help="in place of a plan: runs that were trained before, or folders with runs in them; they are "
        "grouped by what differs",
    )
    add(
        "--out",
        type=options.path,
        required=True,
        help="folder of the bench, with table.md and report.html; runs that are done are not repeated",
    )
    add(
        "--jobs",
        type=options.count,
        help="runs at a time (default: what the cores and the memory, or the GPUs, take)",
    )
    add("--table", action="store_true", help="train nothing: table and page of the runs that are done")
    add(
        "--resamples",
        type=options.whole,
        default=1000,
        metavar="N",
        help="of the test videos, for the page's intervals and tests (default 1000; 0: neither)",
    )
    add("--json", type=options.path, metavar="FILE", help="also write the table for programs")
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.run import compare_runs, run_bench

    if (args.plan is None) == (args.runs is None):
        raise InputError("either a plan or --runs", hint="see weaktal bench --help")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if args.runs is not None:
        found = compare_runs(args.runs, args.out, resamples=args.resamples, say=say)
    else:
        found = run_bench(
            args.plan, args.out, jobs=args.jobs, only_table=args.table, resamples=args.resamples, say=say
        )
    if args.json:
        write_text(args.json, json.dumps(found.to_list(), indent=1) + "\n")
    print(found)
    say(f"page: {found.page}")
    for job in found.failed:
        print(f"failed: {args.out / job.folder / 'output.txt'}", file=sys.stderr)
    return 1 if found.failed else 0
