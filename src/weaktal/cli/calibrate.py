"""`weaktal calibrate`: from which score on segments are shown."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    options.add_run(parser)
    options.add_data(parser, "the one that was trained on")
    add("--folds", type=options.count, help="parts of the training videos, held out in turn (default 5)")
    add("--fold", type=options.seed, help="train this refit alone (from 0 on); a later call does the rest")
    add("--jobs", type=options.count, help="refits at a time (default: what the machine takes)")
    add("--keep", action="store_true", help="keep the weights of the refits")
    options.add_device(parser, None)
    options.add_max_memory(parser)
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.refits import calibrate, refit_fold

    how = {"folds": args.folds, "keep": args.keep, "device": args.device, "max_memory": args.max_memory}
    if args.fold is not None:
        print(f"refit: {refit_fold(args.run_folder, args.fold, args.data, **how)}", file=sys.stderr)
        return 0
    print(calibrate(args.run_folder, args.data, jobs=args.jobs, progress=True, **how))
    return 0
