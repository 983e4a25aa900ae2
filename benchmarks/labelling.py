"""Labelling what the app suggests, against labelling in random order: the tables of docs/app.md.

usage: python benchmarks/labelling.py OUT --data hapt=DATA.yaml demo=DATA.yaml ... [--orders 3]
                                      [--shares 10 20 35 50] [--table]

Nobody clicks: the data set's file of clicks answers. Who labels opens a video and clicks every action in it,
as point-level supervision takes what is not clicked for background. Videos come in a random order until the
first share of all clicks is spent. From there, one arm goes on in this order. The other trains LAC with the
recipe `own` on what is clicked, asks `weaktal.app.suggest` about the training videos that are left, opens the
video that is named first, then the next, up to the next share, and trains anew. Noted is the average mAP on
the test subset after training on each arm's clicks, and on all of them. Suggestions see neither the labels of
videos that are not opened nor the test subset.

What OUT has already is not repeated. `--table` trains nothing. Each order has its own seed of training, the
same for both arms. Tables give the mean over the orders and each.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from harness import head, row
from trainings import keep, kept

from weaktal.app.suggest import Label, suggest
from weaktal.core import WeakLabels, WeakVideo
from weaktal.dataset import Dataset
from weaktal.methods.lac import LAC
from weaktal.methods.protocol import TrainingData
from weaktal.train import feature_bank, fit, resolve_config, training_data
from weaktal.train.inference import score_videos
from weaktal.train.measure import Measure
from weaktal.train.seeds import seed_torch

ARMS = ("random", "suggested")


@dataclass(frozen=True)
class Record:
    """What LAC reached with some of the clicks.

    Attributes:
        data, order, arm, share: which; the first share is the same for both arms and noted as "random".
        videos: that were labelled, in this order.
        clicks: in them, by class.
        average: average mAP on the test subset, in percent.
    """

    data: str
    order: int
    arm: str
    share: float
    videos: list[str]
    clicks: list[int]
    average: float


class Records:
    """The records of a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.all = folder, kept(folder, Record)

    def add(self, record: Record) -> None:
        self.all.append(record)
        keep(self.folder, vars(record))

    def find(self, data: str, arm: str, share: float) -> dict[int, Record]:
        """By order."""
        return {r.order: r for r in self.all if (r.data, r.arm, r.share) == (data, arm, share)}


class Study:
    """A data set whose clicks are known, and what LAC reaches with some of them."""

    def __init__(self, name: str, path: Path, records: Records) -> None:
        self.name, self.records = name, records
        self.dataset = Dataset.load(path)
        self.data = training_data(self.dataset, "point")
        self.classes = self.data.weak.classes
        self.videos = {v.name: v for v in self.data.weak.videos if v.points}
        self.clicks = {name: clicks(v) for name, v in self.videos.items()}
        self.total = sum(map(len, self.clicks.values()))
        self.measure = Measure(self.dataset)
        store = self.dataset.store
        self.features = {name: (store.load(name), store.axis(name)) for name in self.videos}

    def train(self, names: Sequence[str], seed: int) -> LAC:
        """LAC on the clicks of some videos; it knows no other label."""
        labels = {n: tuple(sorted({c.label for c in self.clicks[n]})) for n in names}
        videos = tuple(WeakVideo(n, labels[n], self.videos[n].points) for n in names)
        config = resolve_config("lac", "own")
        config = config.model_copy(update={"batch_size": min(config.batch_size, len(names))})
        bank = feature_bank(self.dataset.store, names)
        data = TrainingData(bank, WeakLabels(self.classes, videos), seed)
        seed_torch(seed)
        method = LAC(config, dim=bank.dim, classes=self.classes)
        with TemporaryDirectory() as out:
            fit(method, data, out, device="cpu", progress=False)
        return method.eval()

    def until(self, names: Sequence[str], order: Sequence[str], share: float) -> list[str]:
        """`names` and the next of an order, until so many percent of all clicks are in them."""
        out = list(names)
        spent = sum(len(self.clicks[n]) for n in out)
        for name in order:
            if name in out:
                continue
            spent += len(self.clicks[name])
            if spent > share / 100 * self.total:
                break
            out.append(name)
        return out

    def suggested(self, names: Sequence[str], method: LAC) -> list[str]:
        """Videos in the order in which the app names them, those that are not labelled alone."""
        run = {s.video: s for s in score_videos(method, self.data.bank)}
        labels = {n: self.clicks[n] for n in names}
        rest = [n for n in self.videos if n not in labels]
        found = suggest(
            [run], labels, rest, len(self.classes), features=self.features.get, most=10 * len(rest)
        )
        return list(dict.fromkeys(m.video for m in found))

    def note(self, order: int, arm: str, share: float, names: list[str], method: LAC) -> Record:
        """Measure a method and write it down."""
        counts = np.bincount([c.label for n in names for c in self.clicks[n]], minlength=len(self.classes))
        average = self.measure(method)["average"]
        record = Record(self.name, order, arm, share, names, counts.tolist(), average)
        self.records.add(record)
        print(f"# {self.name}, order {order}, {arm}, {share:g} %: {average:.1f}; {counts}", flush=True)
        return record

    def run(self, order: int, arm: str, shares: Sequence[float]) -> None:
        """What is missing of one arm of one order."""
        drawn = np.random.default_rng(order).permutation(np.array(sorted(self.videos))).tolist()
        names: list[str] = []
        trained: LAC | None = None
        for share in shares:
            shared = "random" if share == shares[0] else arm
            record = self.records.find(self.name, shared, share).get(order)
            if record is None:
                if shared == "suggested":
                    trained = trained or self.train(names, order)
                    names = self.until(names, self.suggested(names, trained), share)
                else:
                    names = self.until([], drawn, share)
                trained = self.train(names, order)
                record = self.note(order, shared, share, names, trained)
            else:
                names, trained = record.videos, None


def clicks(video: WeakVideo) -> list[Label]:
    """A video's clicks as the app takes them."""
    assert video.points is not None
    times, labels = video.points.time.tolist(), video.points.label.tolist()
    return [Label(t, t, c) for t, c in zip(times, labels, strict=True)]


def told(records: Sequence[Record]) -> str:
    values = [r.average for r in records]
    if not values:
        return ""
    return f"{statistics.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})"


def table(records: Records, data: str, shares: Sequence[float]) -> None:
    """Print the table of a data set, of the orders that have all."""
    print(f"\n{data}")
    head("clicks", "suggested", "random order")
    for share in (*shares, 100):
        drawn = records.find(data, "random", share)
        chosen = drawn if share in (shares[0], 100) else records.find(data, "suggested", share)
        spent = [sum(r.clicks) for r in drawn.values()]
        if spent:
            row(
                f"{statistics.mean(spent):.0f} ({'all' if share == 100 else f'{share:g} %'})",
                *(told([found[k] for k in sorted(found)]) for found in (chosen, drawn)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DATA.yaml")
    parser.add_argument("--shares", type=float, nargs="+", default=[10, 20, 35, 50], help="percent of clicks")
    parser.add_argument("--orders", type=int, default=3, help="random orders, each with its seed of training")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(args.out)
    paths = dict(text.split("=", 1) for text in args.data)
    for data, path in paths.items() if not args.table else ():
        study = Study(data, Path(path), records)
        for order in range(args.orders):
            for arm in args.arms:
                study.run(order, arm, [*args.shares, 100] if arm == "random" else args.shares)
    for data in paths:
        table(records, data, args.shares)


if __name__ == "__main__":
    main()
