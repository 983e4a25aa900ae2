"""Labelling what the app suggests, against labelling in random order.

    python benchmarks/labelling.py DATA.yaml [--shares 10 20 35 50] [--orders 2]

Nobody clicks: the data set's file of clicks answers. Who labels opens a video and clicks every action in it,
as point-level supervision takes what is not clicked for background. Videos come in a random order until the
first share of all clicks is spent. From there, one arm goes on in this order. The other trains LAC with the
recipe `own` on what is clicked, asks `weaktal.app.suggest` about the training videos that are left, opens the
video of the best moment, of the next, and so on to the next share, and trains anew. Printed is the average
mAP on the test subset after training on each arm's clicks: the mean over the orders, and each. Suggestions
see neither the labels of videos that are not opened nor the test subset.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from harness import head, row

from weaktal.app.suggest import Label, suggest
from weaktal.core import WeakLabels, WeakVideo
from weaktal.dataset import Dataset
from weaktal.methods.lac import LAC
from weaktal.methods.protocol import TrainingData
from weaktal.train import feature_bank, fit, resolve_config, training_data
from weaktal.train.inference import score_videos
from weaktal.train.loop import seed_torch
from weaktal.train.measure import Measure


class Study:
    """A data set whose clicks are known, and what LAC reaches with some of them."""

    def __init__(self, path: Path) -> None:
        self.dataset = Dataset.load(path)
        self.data = training_data(self.dataset, "point")
        self.videos = {v.name: v for v in self.data.weak.videos if v.points}
        self.clicks = sum(clicks(v) for v in self.videos.values())
        self.measure = Measure(self.dataset)
        self.config = resolve_config("lac", "own")
        store = self.dataset.store
        self.features = {name: (store.load(name), store.axis(name)) for name in self.videos}

    def train(self, names: Sequence[str], seed: int) -> tuple[LAC, float]:
        """LAC on the clicks of some videos, it knows no other label; and its average mAP."""
        chosen = [self.videos[n] for n in names]
        classes = self.data.weak.classes
        bank = feature_bank(self.dataset.store, [v.name for v in chosen])
        weak = WeakLabels(
            classes, tuple(WeakVideo(v.name, tuple(sorted({*said(v)})), v.points) for v in chosen)
        )
        batch = min(self.config.batch_size, len(chosen))
        config = self.config.model_copy(update={"batch_size": batch})
        seed_torch(seed)
        method = LAC(config, dim=bank.dim, classes=classes)
        with tempfile.TemporaryDirectory() as out:
            fit(method, TrainingData(bank, weak, seed), out, device="cpu", progress=False)
        return method.eval(), self.measure(method)["average"]

    def until(self, names: list[str], order: Sequence[str], budget: float) -> list[str]:
        """`names` and the next of an order, until the clicks in them reach a budget."""
        out = list(names)
        spent = sum(clicks(self.videos[n]) for n in out)
        for name in order:
            if name in out:
                continue
            if spent + clicks(self.videos[name]) > budget:
                break
            out.append(name)
            spent += clicks(self.videos[name])
        return out

    def suggested(self, names: Sequence[str], method: LAC) -> list[str]:
        """Videos in the order in which the app names them, those that are not labelled alone."""
        run = {s.video: s for s in score_videos(method, self.data.bank)}
        labels = {n: [Label(t, t, c) for t, c in zip(*points(self.videos[n]), strict=True)] for n in names}
        rest = [n for n in self.videos if n not in labels]
        found = suggest(
            [run],
            labels,
            rest,
            len(self.data.weak.classes),
            features=self.features.get,
            most=10 * len(rest),
        )
        return list(dict.fromkeys(m.video for m in found))


def points(video: WeakVideo) -> tuple[list[float], list[int]]:
    """Times and classes of a video's clicks."""
    assert video.points is not None
    return video.points.time.tolist(), video.points.label.tolist()


def said(video: WeakVideo) -> list[int]:
    return points(video)[1]


def clicks(video: WeakVideo) -> int:
    return len(said(video))


def told(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})"


def measure(path: Path, shares: Sequence[float], orders: int) -> None:
    study = Study(path)
    spent: dict[float, list[int]] = {share: [] for share in shares}
    chosen: dict[float, list[float]] = {share: [] for share in shares}
    drawn: dict[float, list[float]] = {share: [] for share in shares}
    everything = []
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(np.array(sorted(study.videos))).tolist()
        names = study.until([], order, shares[0] / 100 * study.clicks)
        method, reached = study.train(names, seed)
        everything.append(study.train(order, seed)[1])
        for share in shares:
            budget = share / 100 * study.clicks
            if share == shares[0]:
                drawn[share].append(reached)
            else:
                names = study.until(names, study.suggested(names, method), budget)
                method, reached = study.train(names, seed)
                drawn[share].append(study.train(study.until([], order, budget), seed)[1])
            chosen[share].append(reached)
            spent[share].append(sum(clicks(study.videos[n]) for n in names))
            print(
                f"# order {seed}, {share:g} %: {reached:.1f}, {drawn[share][-1]:.1f}",
                file=sys.stderr,
                flush=True,
            )
        print(f"# order {seed}, all: {everything[-1]:.1f}", file=sys.stderr, flush=True)
    head("clicks", "suggested", "random order")
    for share in shares:
        row(f"{statistics.mean(spent[share]):.0f} ({share:g} %)", told(chosen[share]), told(drawn[share]))
    row(f"{study.clicks} (all)", told(everything), told(everything))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[10, 20, 35, 50], help="percent of all clicks"
    )
    parser.add_argument("--orders", type=int, default=2, help="random orders, each with its seed of training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure(args.data, args.shares, args.orders)


if __name__ == "__main__":
    main()
