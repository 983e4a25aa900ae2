"""A student beside its teacher: short trainings of both, and the table of docs/methods/student.md.

usage: python benchmarks/student.py OUT --data s1=DATA.yaml hapt=DATA.yaml ... [--teachers lac sal ...]
                                    [--seeds 3] [--set KEY=VALUE ...] [--name TAG] [--known DIR] [--table]

Trains every teacher with every seed on every data set, then a student on what it finds in the training
videos (one process; what OUT has already is not repeated), and notes the mAP of both on the test subset, last
checkpoints. Methods that learn from clicks teach `student_points`, the others `student`. TSPNet re-scores the
proposals of the LAC of the same seed, HR-Pro those of its first stage. Then prints the tables, of all seeds
that are done. `--table` trains nothing. `--set` gives settings of the student, `--name` keeps its runs of
other settings apart. `--known` is a folder of benchmarks/trust.py, whose ASM-Loc and SAL are taken in place
of training them again. Test labels are used to measure and never to choose.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trust
import yaml
from trainings import keep, kept, trained

from weaktal.core import Detections
from weaktal.dataset import Dataset
from weaktal.formats import load_detections, save_detections
from weaktal.methods import find_method
from weaktal.methods.protocol import SnippetMethod, TrainingData
from weaktal.train import resolve_config, training_data
from weaktal.train.inference import detect_videos, score_videos
from weaktal.train.measure import Measure, percent

# short: a teacher takes 15 to 80 s of a core, a student about 12
SHORT: dict[str, dict[str, Any]] = {
    **{name: trust.SHORT[name] for name in ("asm_loc", "sal")},  # so that --known may take its runs
    "lac": {"hidden": 128, "steps": 400, "search_every": 100, "lr": 3e-4},
    "tspnet": {"steps": 250, "lr": 1e-3},
    "hr_pro_snippets": {"steps": 150, "batch_size": 4, "lr": 5e-4},
    "hr_pro": {"epochs": 3, "lr": 1e-3},
}
RECIPE = {"hr_pro_snippets": "own", "hr_pro": "own"}
TEACHERS = ("lac", "sal", "asm_loc", "tspnet", "hr_pro")
BASE = {"tspnet": "lac", "hr_pro": "hr_pro_snippets"}
STUDENT: dict[str, Any] = {"hidden": 64, "steps": 250, "lr": 1e-3}
SHOWN = ("average", "0.3", "0.5", "0.6", "0.7")
HIGH = ("0.5", "0.6", "0.7")


@dataclass(frozen=True)
class Found:
    """What a method finds, and how.

    Attributes:
        train, test: detections in both subsets.
        proposals: the same before anything is suppressed, for methods that re-score them.
        scores: of the snippets of the training videos.
        seconds: of training, of one core; 0 where it was known.
    """

    train: Detections
    test: Detections
    proposals: Detections | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Record:
    """A student and its teacher.

    Attributes:
        data, teacher, name, seed: which ones.
        taught: mAP of the teacher in percent, "average" and by tIoU.
        learnt: of the student.
        teacher_seconds, seconds: of training, of one core.
    """

    data: str
    teacher: str
    name: str
    seed: int
    taught: dict[str, float]
    learnt: dict[str, float]
    teacher_seconds: float
    seconds: float

    @property
    def gain(self) -> float:
        """Of the student over its teacher, mean over tIoU 0.5 to 0.7."""
        return float(np.mean([self.learnt[t] - self.taught[t] for t in HIGH]))


class Bench:
    """One data set; features stay loaded from run to run."""

    def __init__(self, name: str, path: Path, out: Path, known: Path | None) -> None:
        self.name, self.out, self.known = name, out, known
        self.dataset = Dataset.load(path)
        self.measure = Measure(self.dataset)

    @cached_property
    def data(self) -> dict[str, TrainingData]:
        """What may be learnt from, by supervision."""
        return {kind: training_data(self.dataset, kind) for kind in ("video", "point")}

    def teacher(self, method: str, seed: int) -> Found:
        """What a teacher finds; kept in OUT, as far as a student needs it."""
        stem = f"{self.name}-{method}-{seed}"
        if self.known is not None and (self.known / f"{stem}-train.json").exists():
            for end in (".json", "-train.json"):
                shutil.copy(self.known / f"{stem}{end}", self.out / f"{stem}{end}")
        files = [self.out / f"{stem}{end}" for end in ("-train.json", ".json")]
        if all(f.exists() for f in files):
            return Found(*(load_detections(f, self.dataset.classes) for f in files))
        found = self.found(method, seed)
        for file, detections in zip(files, (found.train, found.test), strict=True):
            save_detections(detections, file)
        return found

    def found(self, method: str, seed: int) -> Found:
        """Train a method, with its base first."""
        config = resolve_config(method, RECIPE.get(method), SHORT[method])
        data = replace(self.data[find_method(method).supervision], seed=seed)
        if method in BASE:
            base = self.found(BASE[method], seed)
            data = replace(data, proposals=base.proposals, scores=base.scores)
            made, seconds = trained(method, config, data)
            train, test = (
                detect_videos(made, bank, proposals=base.proposals) for bank in (data.bank, self.measure.bank)
            )
            return Found(train, test, seconds=base.seconds + seconds)
        made, seconds = trained(method, config, data)
        assert isinstance(made, SnippetMethod)
        scores = [score_videos(made, bank) for bank in (data.bank, self.measure.bank)]
        every = Detections.concatenate([made.candidates(s) for s in scores], made.classes)
        train, test = (made.localize(s) for s in scores)
        return Found(train, test, every, {s.video: s for s in scores[0]}, seconds)

    def run(self, teacher: str, seed: int, settings: Mapping[str, Any], name: str) -> Record:
        """Train a teacher and its student, and measure both."""
        found = self.teacher(teacher, seed)
        supervision = find_method(teacher).supervision
        method = "student_points" if supervision == "point" else "student"
        data = replace(self.data[supervision], seed=seed, proposals=found.train)
        student, seconds = trained(method, resolve_config(method, None, {**STUDENT, **settings}), data)
        both = (percent(self.measure.result(d)) for d in (found.test, self.measure.detections(student)))
        record = Record(self.name, teacher, name, seed, *both, found.seconds, seconds)
        keep(self.out, vars(record))
        return record


def tables(records: Sequence[Record]) -> Iterator[str]:
    """What docs/methods/student.md shows, line by line."""
    yield "| data | teacher | seeds | " + " | ".join(SHOWN) + " | gain, mean 0.5 to 0.7 | seconds |"
    yield "|---" * (len(SHOWN) + 5) + "|"
    gains: dict[str, list[float]] = {}
    for data, teacher in dict.fromkeys((r.data, r.teacher) for r in records):
        of = [r for r in records if (r.data, r.teacher) == (data, teacher)]
        gain = [r.gain for r in of]
        gains.setdefault(data, []).append(float(np.mean(gain)))
        values = [
            f"{np.mean([r.taught[t] for r in of]):.1f} to {np.mean([r.learnt[t] for r in of]):.1f}"
            for t in SHOWN
        ]
        spread = f" ± {np.std(gain, ddof=1):.1f}" if len(gain) > 1 else ""
        seconds = [
            np.mean([x for x in column if x] or [0])
            for column in ([r.teacher_seconds for r in of], [r.seconds for r in of])
        ]
        yield (
            f"| {data} | {teacher} | {len(of)} | "
            + " | ".join(values)
            + f" | {gains[data][-1]:+.1f}{spread} | {seconds[0]:.0f}, {seconds[1]:.0f} |"
        )
    for data, each in gains.items():
        yield f"{data}: {np.mean(each):+.2f} at tIoU 0.5 to 0.7 on average over {len(each)} teachers"
    worse = [f"{r.data} {r.teacher} seed {r.seed} ({r.gain:+.1f})" for r in records if r.gain < 0]
    yield f"{len(worse)} of {len(records)} are worse than their teacher there: {', '.join(worse) or 'none'}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DATA.yaml")
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), choices=list(SHORT))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name", default="")
    parser.add_argument("--known", type=Path)
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = {k: yaml.safe_load(v) for k, _, v in (text.partition("=") for text in args.set)}
    paths = dict(text.split("=", 1) for text in args.data)
    benches: dict[str, Bench] = {}
    for seed in range(0 if args.table else args.seeds):
        for data, path in paths.items():
            for teacher in args.teachers:
                done = {(r.data, r.teacher, r.name, r.seed) for r in kept(args.out, Record)}
                if (data, teacher, args.name, seed) in done or (args.out / "stop").exists():
                    continue
                if data not in benches:
                    benches[data] = Bench(data, Path(path), args.out, args.known)
                record = benches[data].run(teacher, seed, settings, args.name)
                print(f"{record} gain {record.gain:+.2f}", flush=True)
    chosen = [
        r
        for r in kept(args.out, Record)
        if r.name == args.name and r.data in paths and r.teacher in args.teachers
    ]
    order = {x: i for i, x in enumerate([*paths, *args.teachers])}
    chosen.sort(key=lambda r: (order[r.data], order[r.teacher], r.seed))
    print("\n".join(tables(chosen)), flush=True)


if __name__ == "__main__":
    main()
