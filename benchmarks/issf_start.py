"""Whole trainings of ISSF from the initial weights of the published code.

    python benchmarks/issf_start.py DATA.yaml --out RUNS [--seeds 0 1 2] [--weights 2]

How an ISSF run at small widths ends depends on its initial weights, so to compare with the published code
they must be the same. From a seed the published code draws, before the layers that it uses, some that it
never uses; this draws the same numbers in the same order. Orders of videos and
dropout are ours. Evaluated by the published protocol,
with the published thresholds and with those of the maximum.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from weaktal.cli import main as weaktal
from weaktal.dataset import Dataset
from weaktal.formats import save_detections
from weaktal.methods.issf import ISSF, ISSFConfig
from weaktal.train import fit, inference_bank, training_data
from weaktal.train.inference import detect_videos


def published_weights(seed: int, dim: int, classes: int, reduction: int) -> dict[str, Tensor]:
    """Initial weights that the published code draws from a seed, by their official names.

    Args:
        seed: of torch.
        dim: of features and embedding.
        classes: C.
        reduction: width of the embedding over that of the channel gates.
    """
    torch.manual_seed(seed)
    extra = 8  # rows of two layers that have no use

    unused = torch.randn(extra, dim)
    torch.randn(1, dim)
    nn.init.xavier_uniform_(unused)
    centers = torch.randn(classes + 1, dim)
    nn.init.xavier_uniform_(centers)
    embedding = nn.Linear(dim, dim)
    nn.init.xavier_uniform_(embedding.weight)
    nn.Linear(dim, extra, bias=False)
    weights = {
        "ac_center": centers,
        "fg_center": -centers[-1:],
        "feature_embedding.0.weight": embedding.weight,
        "feature_embedding.0.bias": torch.zeros(dim),
    }
    for name in ("channel_weights", "channel_back_weights"):
        weights[f"{name}.0.weight"] = nn.Linear(dim, dim // reduction, bias=False).weight
        weights[f"{name}.2.weight"] = nn.Linear(dim // reduction, dim, bias=False).weight
    return {name: w.detach().clone() for name, w in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of orders and dropout")
    parser.add_argument("--weights", type=int, help="seed of the initial weights (default: the same)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset.load(args.data)
    known, bank = training_data(dataset, "video"), inference_bank(dataset, "test")
    for seed in args.seeds:
        data = replace(known, seed=seed)
        config = ISSFConfig()
        method = ISSF(config, dim=data.bank.dim, classes=data.weak.classes)
        drawn = seed if args.weights is None else args.weights
        weights = published_weights(drawn, data.bank.dim, len(data.weak.classes), config.gate_reduction)
        method.network.load_state_dict(weights)
        run = args.out / f"ours-{drawn}-{seed}"
        fit(method, data, run)
        for of in ("activation", "maximum"):
            method.config = config.model_copy(update={"thresholds_of": of})
            path = run / f"detections-{of}.json"
            save_detections(detect_videos(method.eval(), bank), path)
            print(f"{run.name}, thresholds of the {of}:", flush=True)
            weaktal(["evaluate", str(path), "--data", str(args.data), "--protocol", "integer-grid", "--snap"])


if __name__ == "__main__":
    main()
