"""`weaktal reproduce`: a published figure, measured."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options
from weaktal.core import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method")
    add("data_name", metavar="DATASET", help="thumos14, activitynet12, activitynet13, gtea or beoid")
    add(
        "--data",
        type=options.path,
        help="your copy; without it: what to get, and where to put it",
    )
    add(
        "--out",
        type=options.path,
        metavar="FOLDER",
        help="runs and report (default reproduction-METHOD-DATASET)",
    )
    add("--seeds", type=options.seed, nargs="+", default=[0], metavar="SEED", help="one run each (default 0)")
    options.add_settings(parser, "a hyper-parameter that differs from the recipe (repeatable)")
    options.add_proposals(parser)
    add(
        "--evaluate-every",
        type=options.count,
        default=10,
        metavar="EPOCHS",
        help="looks at the test set (10)",
    )
    add("--anyway", action="store_true", help="go on with data that are not those of the papers")
    add("--resume", action="store_true", help="continue the runs in FOLDER")
    options.add_device(parser, None)
    add("--precision", help="32-true, bf16-mixed, 16-mixed, ... (see Lightning Fabric)")
    add("--compile", action="store_true", default=None, help="compile the training step with torch.compile")
    add("--json", type=options.path, metavar="FILE", help="also write the result for programs")
    add("--quiet", action="store_true", help="no progress")
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.reproduce import reproduce, what_to_get

    if args.data is None:
        print(what_to_get(args.method, args.data_name))
        return 0
    found = reproduce(
        args.method,
        args.data_name,
        args.data,
        args.out or f"reproduction-{args.method}-{args.data_name}",
        seeds=args.seeds,
        settings=options.settings(args.settings),
        proposals=args.proposals,
        evaluate_every=args.evaluate_every,
        anyway=args.anyway,
        resume=args.resume,
        device=args.device,
        precision=args.precision,
        compile=args.compile,
        progress=not args.quiet,
    )
    print(found)
    if args.json is not None:
        write_json(args.json, found.to_dict())
        print(args.json, file=sys.stderr)
    return 0
