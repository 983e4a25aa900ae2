"""Whole trainings of SAL from the initial weights of the published code.

    python benchmarks/sal_start.py DATA.yaml --hidden 128 [--start 1] [--seeds 1 2 3]

mAP after the recipe's whole schedule, from the initial weights that the published code has under the seed
`--start` (its modules are made in the same order with the same rules), one run for each seed of everything
else: batches, snippets, dropout.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from weaktal.dataset import Dataset
from weaktal.methods.sal import SAL, SALConfig
from weaktal.train import fit, training_data
from weaktal.train.measure import Measure


def train(args: argparse.Namespace) -> None:
    dataset = Dataset.load(args.data)
    measure = Measure(dataset)
    for seed in args.seeds:
        data = training_data(dataset, "video", seed=seed)
        torch.manual_seed(args.start)
        method = SAL(SALConfig(hidden=args.hidden), dim=data.bank.dim, classes=data.weak.classes)
        with tempfile.TemporaryDirectory() as out:
            fit(method, data, out, device="cpu")
        found = measure(method.eval())
        print(f"start {args.start}, seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
