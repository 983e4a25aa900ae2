"""STCL-Net: how a trained run scores with its stored exemplars, and with some drawn for every test video.

python benchmarks/stcl_net_draws.py RUN DATA.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from weaktal.dataset import Dataset
from weaktal.evaluate import classification_map, evaluate
from weaktal.methods.stcl_net import STCLNet
from weaktal.train import Run, inference_bank, training_data
from weaktal.train.inference import score_videos, whole_batches


def draws(run: Path, description: Path) -> None:
    """mAP with stored exemplars and with exemplars for every video, and how far scores move."""
    dataset = Dataset.load(description)
    opened = Run.open(run)
    training, bank = training_data(dataset, "video", seed=opened.config.seed), inference_bank(dataset)
    found = {}
    for name in ("cached", "per_video"):
        method = opened.method()
        assert isinstance(method, STCLNet)
        method.config = method.config.model_copy(update={"exemplars": name})
        method.use_training_data(training)
        found[name] = score_videos(method, bank)
        result = evaluate(method.localize(found[name]), dataset.subset("test"), "wtalc")
        shown = ", ".join(f"{100 * x:.2f}" for x in result.mean_ap)
        labels = np.zeros((len(bank), len(method.classes)))
        for row, video in zip(labels, bank.names, strict=True):
            row[list(dataset.subset("test").video(video).labels)] = 1
        classified = np.concatenate([method.classify(b).numpy()[:, :-1] for b in whole_batches(method, bank)])
        order = [bank.names.index(n) for b in whole_batches(method, bank) for n in b.names]
        score = 100 * classification_map(classified, labels[order])
        print(
            f"{name}: average mAP {100 * result.average:.3f} ({shown}); video classification mAP {score:.2f}"
        )
    pairs = list(zip(found["cached"], found["per_video"], strict=True))
    for what, column in (("activation", "cas"), ("class score", "video_scores"), ("attention", "foreground")):
        worst = max(float(np.abs(getattr(a, column) - getattr(b, column)).max()) for a, b in pairs)
        print(f"largest difference of {what}: {worst:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    draws(args.run, args.data)


if __name__ == "__main__":
    main()
