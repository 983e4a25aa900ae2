"""`weaktal search`."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method")
    add("--data", type=options.path, required=True, help="data set description (YAML)")
    add(
        "--space",
        type=options.path,
        required=True,
        help="fields and their ranges (YAML), see docs/training.md",
    )
    add(
        "--out",
        type=options.path,
        required=True,
        help="folder of the search; a search that is there goes on",
    )
    add("--trials", type=options.count, default=20, help="in all (default 20)")
    add(
        "--held-out",
        type=options.share,
        default=0.2,
        metavar="SHARE",
        help="of the training videos (default 0.2)",
    )
    add(
        "--criterion",
        choices=("average", "weak"),
        default="average",
        help="what is best on the held-out videos: average mAP against their instances (default), or weak: "
        "the likelihood of their labels, without instances",
    )
    options.add_recipe(parser)
    options.add_settings(parser)
    options.add_proposals(parser)
    add("--seed", type=options.seed, default=0, help="of the split, the sampler and the training (default 0)")
    options.add_device(parser)
    options.add_code(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.search import read_space, search

    best = search(
        args.data,
        args.method,
        read_space(args.space, args.method),
        args.out,
        trials=args.trials,
        recipe=args.recipe,
        settings=options.settings(args.settings),
        criterion=args.criterion,
        share=args.held_out,
        seed=args.seed,
        device=args.device,
        proposals=args.proposals,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print("\n".join(f"{k}: {v}" for k, v in best.items()))
    print(f"next: weaktal train {args.method} --recipe {args.out / 'best.yaml'} ...", file=sys.stderr)
    return 0
