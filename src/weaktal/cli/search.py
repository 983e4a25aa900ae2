"""`weaktal search`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method")
    add("--data", type=Path, required=True, help="data set description (YAML)")
    add("--space", type=Path, required=True, help="fields and their ranges (YAML), see docs/training.md")
    add("--out", type=Path, required=True, help="folder of the search; a search that is there goes on")
    add("--trials", type=int, default=20, help="in all (default 20)")
    add("--held-out", type=float, default=0.2, metavar="SHARE", help="of the training videos (default 0.2)")
    add("--recipe", help="where the other hyper-parameters come from")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one hyper-parameter"
    )
    add("--proposals", type=Path, help="segments of a base locator, for proposal-level methods")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.measure import load_proposals
    from weaktal.bench.search import read_space, search
    from weaktal.dataset import Dataset
    from weaktal.train import parse_settings

    dataset = Dataset.load(args.data)
    best = search(
        dataset,
        args.method,
        read_space(args.space, args.method),
        args.out,
        trials=args.trials,
        recipe=args.recipe,
        settings=parse_settings(args.settings),
        share=args.held_out,
        seed=args.seed,
        device=args.device,
        proposals=load_proposals(args.proposals, dataset),
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print("\n".join(f"{k}: {v}" for k, v in best.items()))
    print(f"next: weaktal train {args.method} --recipe {args.out / 'best.yaml'} ...", file=sys.stderr)
    return 0
