"""How well TL selects and fusion mends: short trainings of many seeds, and the tables of docs/trust.md.

usage: python benchmarks/trust.py OUT --data hapt=DATA.yaml demo=DATA.yaml ... [--methods sal issf ...]
                                  [--seeds 8] [--set METHOD.KEY=VALUE ...] [--name TAG] [--table]

Trains every method with every seed on every data set (one process; what OUT has already is not repeated), and
notes per run TL, the average mAP on the test subset, the area under the ROC curve of the foreground scores
against the truth, and its detections and snippet scores. Then prints the tables, of all seeds that are done.
`--table` trains nothing. `--name` keeps runs of other settings (`--set`) apart. Test labels are used to
measure and never to choose.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from weaktal.core import Annotations, SnippetScores
from weaktal.dataset import Dataset
from weaktal.formats import save_detections
from weaktal.formats.scores import save_scores
from weaktal.methods import find_method
from weaktal.methods.protocol import SnippetMethod
from weaktal.train import fit, resolve_config, training_data
from weaktal.train.inference import score_videos
from weaktal.train.measure import Measure
from weaktal.train.seeds import seed_torch
from weaktal.train.select import label_likelihood

# short: a run takes some ten seconds of a core
SHORT: dict[str, dict[str, Any]] = {
    "sal": {"hidden": 64, "segments": 100, "epochs": 15, "batch_size": 8, "lr": 4e-4},
    "issf": {"epochs": 20, "lr": 3e-4},
    "asm_loc": {"num_steps": 0, "epochs": 40, "snippets": 100, "learning_rate": 5e-4},
    "stcl_net": {
        "attention_dim": 64,
        "key_dim": 64,
        "exemplar_videos": 2,
        "snippets": 100,
        "iterations": 150,
        "learning_rate": 7e-4,
    },
}


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        data, method, name, seed: which one.
        likelihood: TL.
        average: average mAP on the test subset, in percent.
        auc: area under the ROC curve of the foreground scores on the test subset; low on the wrong side.
        seconds: of training, of one core.
    """

    data: str
    method: str
    name: str
    seed: int
    likelihood: float
    average: float
    auc: float
    seconds: float

    @property
    def tag(self) -> str:
        return "-".join([self.data, self.method, *([self.name] if self.name else []), str(self.seed)])


def foreground_auc(scores: Sequence[SnippetScores], truth: Annotations) -> float:
    """How well foreground scores rank snippets within an instance above the others, all videos together."""
    foreground, inside = [], []
    for one in scores:
        at, instances = one.axis.centers()[:, None], truth.videos[one.video].instances
        foreground.append(one.foreground)
        inside.append(((at >= instances.start) & (at <= instances.end)).any(axis=1))
    y, value = np.concatenate(inside), np.concatenate(foreground)
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # of equal values their mean rank
    n = int(y.sum())
    return float((rank[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


class Bench:
    """One data set; features stay loaded from run to run."""

    def __init__(self, name: str, path: Path, out: Path) -> None:
        self.name, self.out = name, out
        self.dataset = Dataset.load(path)
        self.measure = Measure(self.dataset)
        self.data = training_data(self.dataset, "video")

    def run(self, method: str, seed: int, settings: Mapping[str, Any], name: str) -> Record:
        """Train and measure."""
        from dataclasses import replace

        data = replace(self.data, seed=seed)
        seed_torch(seed, 0)
        config = resolve_config(method, None, {**SHORT[method], **settings})
        trained = find_method(method)(config, dim=data.bank.dim, classes=data.weak.classes)
        assert isinstance(trained, SnippetMethod)
        begun = time.process_time()
        with TemporaryDirectory() as folder:
            fit(trained, data, folder, device="cpu", progress=False)
        seconds = time.process_time() - begun
        known = score_videos(trained, data.bank)
        scores = score_videos(trained, self.measure.bank)
        found = trained.localize(scores)
        record = Record(
            self.name,
            method,
            name,
            seed,
            label_likelihood(known, data.weak),
            100 * self.measure.result(found).average,
            foreground_auc(scores, self.measure.annotations),
            seconds,
        )
        save_detections(found, self.out / f"{record.tag}.json")
        save_detections(trained.localize(known), self.out / f"{record.tag}-train.json")
        save_scores(scores, self.out / f"{record.tag}.safetensors", trained.classes)
        with (self.out / "records.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(record)) + "\n")
        return record


def read(out: Path) -> list[Record]:
    path = out / "records.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Record(**json.loads(line)) for line in lines]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DATA.yaml")
    parser.add_argument("--methods", nargs="+", default=list(SHORT), choices=list(SHORT))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--set", nargs="+", default=[], metavar="METHOD.KEY=VALUE")
    parser.add_argument("--name", default="")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    own: dict[str, dict[str, Any]] = {}
    for text in args.set:
        where, value = text.split("=", 1)
        method, key = where.split(".", 1)
        own.setdefault(method, {})[key] = yaml.safe_load(value)
    paths = dict(text.split("=", 1) for text in args.data)
    benches: dict[str, Bench] = {}
    if not args.table:
        for data, path in paths.items():
            for seed in range(args.seeds):
                for method in args.methods:
                    done = {(r.data, r.method, r.name, r.seed) for r in read(args.out)}
                    if (data, method, args.name, seed) in done or (args.out / "stop").exists():
                        continue
                    bench = benches.setdefault(data, Bench(data, Path(path), args.out))
                    print(bench.run(method, seed, own.get(method, {}), args.name), flush=True)


if __name__ == "__main__":
    main()
