"""How well TL selects and fusion mends: short trainings of many seeds, and the tables of docs/trust.md.

usage: python benchmarks/trust.py OUT --data hapt=DATA.yaml demo=DATA.yaml ... [--methods sal issf ...]
                                  [--seeds 8] [--set METHOD.KEY=VALUE ...] [--name TAG] [--table]
                                  [--against TAG] [--early SHARE]

Trains every method with every seed on every data set (one process; what OUT has already is not repeated), and
notes per run TL, the average mAP on the test subset, the area under the ROC curve of the foreground scores
against the truth, and its detections and snippet scores. Then prints the tables, of all seeds that are done.
`--table` trains nothing. `--name` keeps runs of other settings (`--set`) apart; `--against` compares the runs
of a name with those of another, seed by seed, in place of the tables. `--early` trains the same seeds for a
first share of the schedule only, and shows what choosing by TL at that time gives. Test labels are used to
measure and never to choose.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from trainings import keep, kept, trained

from weaktal.core import Annotations, Detections, SnippetScores
from weaktal.dataset import Dataset
from weaktal.formats import load_detections, save_detections
from weaktal.formats.scores import load_scores, save_scores
from weaktal.localize.fusion import Scale, fuse_detections, fuse_scores, voices
from weaktal.methods import find_method
from weaktal.methods.protocol import SnippetMethod
from weaktal.train import resolve_config, training_data
from weaktal.train.inference import score_videos
from weaktal.train.measure import Measure
from weaktal.train.select import label_likelihood

# short: a run takes a quarter of a minute to a minute of a core
SHORT: dict[str, dict[str, Any]] = {
    "sal": {"hidden": 64, "segments": 200, "epochs": 20, "batch_size": 4, "lr": 2e-4},
    "issf": {"epochs": 40, "lr": 2e-4},
    "asm_loc": {"num_steps": 0, "epochs": 60, "snippets": 200, "learning_rate": 3e-4},
    "stcl_net": {
        "attention_dim": 64,
        "key_dim": 64,
        "exemplar_videos": 2,
        "snippets": 100,
        "iterations": 200,
        "learning_rate": 5e-4,
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


@dataclass(frozen=True)
class Early:
    """TL of a run after a first share of its schedule."""

    data: str
    method: str
    name: str
    seed: int
    share: float
    likelihood: float


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

    def average(self, found: Detections) -> float:
        """Average mAP in percent."""
        return 100 * self.measure.result(found).average

    def run(self, method: str, seed: int, settings: Mapping[str, Any], name: str) -> Record:
        """Train and measure."""
        data = replace(self.data, seed=seed)
        made, seconds = trained(method, resolve_config(method, None, {**SHORT[method], **settings}), data)
        assert isinstance(made, SnippetMethod)
        known, scores = (score_videos(made, bank) for bank in (data.bank, self.measure.bank))
        found = made.localize(scores)
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
        save_detections(made.localize(known), self.out / f"{record.tag}-train.json")
        save_scores(scores, self.out / f"{record.tag}.safetensors", made.classes)
        keep(self.out, vars(record))
        return record

    def early(self, record: Record, settings: Mapping[str, Any], share: float) -> Early:
        """Train the first share of a run that was measured."""
        config = resolve_config(record.method, None, {**SHORT[record.method], **settings})
        made, _ = trained(record.method, config, replace(self.data, seed=record.seed), until=share)
        assert isinstance(made, SnippetMethod)
        known = score_videos(made, self.data.bank)
        likelihood = label_likelihood(known, self.data.weak)
        return Early(record.data, record.method, record.name, record.seed, share, likelihood)


class Pool:
    """The runs of one setting on one data set, by seed.

    Args:
        records: of one data set, method and name.
        bench: evaluates.
    """

    def __init__(self, records: Sequence[Record], bench: Bench) -> None:
        self.records, self.bench = sorted(records, key=lambda r: r.seed), bench
        self.likelihood = np.array([r.likelihood for r in self.records])
        self.average = np.array([r.average for r in self.records])
        classes = bench.dataset.classes
        files = [bench.out / r.tag for r in self.records]
        self.found = [load_detections(f.with_name(f"{f.name}.json"), classes) for f in files]
        self.known = [load_detections(f.with_name(f"{f.name}-train.json"), classes) for f in files]
        self.scores = [load_scores(f.with_name(f"{f.name}.safetensors"))[0] for f in files]
        record = self.records[0]
        config = resolve_config(record.method, None, SHORT[record.method])
        made = find_method(record.method)(config, dim=bench.data.bank.dim, classes=classes)
        assert isinstance(made, SnippetMethod)
        self.localizer = made

    def subsets(self, size: int, most: int = 1000) -> list[tuple[int, ...]]:
        """Seeds `size` at a time, at most so many sets, spread evenly over all."""
        every = list(combinations(range(len(self.records)), min(size, len(self.records))))
        return [
            every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).astype(int))
        ]

    def pick(self, rows: Sequence[int]) -> int:
        """The row of the highest TL."""
        return max(rows, key=lambda i: self.likelihood[i])

    def fused(self, rows: Sequence[int], bad: str | None = None) -> float:
        """Average mAP of what `weaktal fuse` makes of these runs, and of the first once more, collapsed.

        TL of the collapsed one counts as low.
        """
        runs, known, likelihood = ([x[i] for i in rows] for x in (self.found, self.known, self.likelihood))
        if bad is not None:
            runs, known = [*runs, collapsed(bad, runs[0])], [*known, collapsed(bad, known[0])]
            likelihood = [*likelihood, -np.inf]
        scales = [Scale.of(d) for d in known]
        heard = voices(known, scales=scales, likelihood=likelihood)
        fused = fuse_detections(list(compress(runs, heard)), scales=list(compress(scales, heard)))
        return self.bench.average(fused)

    def averaged(self, rows: Sequence[int]) -> float:
        """Average mAP of the mean of their snippet scores."""
        return self.bench.average(self.localizer.localize(fuse_scores([self.scores[i] for i in rows])))


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation; NaN for fewer than three values."""
    if len(a) < 3:
        return float("nan")
    one, other = (np.argsort(np.argsort(x)).astype(float) for x in (a, b))
    return float(np.corrcoef(one, other)[0, 1])


def collapsed(kind: str, run: Detections) -> Detections:
    """A run that says nothing, or the opposite."""
    rng = np.random.default_rng(0)
    score = {"constant": np.ones(len(run)), "inverted": -run.score, "noise": rng.random(len(run))}[kind]
    return Detections(run.names, run.classes, run.video, run.start, run.end, run.label, score)


def tables(pools: Mapping[tuple[str, str], Pool]) -> Iterator[str]:
    """What docs/trust.md shows, line by line."""
    yield "selection: the pick of five by TL, over all sets of five seeds"
    yield "| data | method | seeds | single | correlation | mean of five | pick | best | below mean - 1 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    gains, correlations, below = [], [], []
    for (data, method), pool in pools.items():
        sets = [list(rows) for rows in pool.subsets(5)]
        mean, best = (np.array([f(pool.average[rows]) for rows in sets]) for f in (np.mean, np.max))
        pick = np.array([pool.average[pool.pick(rows)] for rows in sets])
        bad = float((pick < mean - 1).mean())
        correlations.append(spearman(pool.likelihood, pool.average))
        gains.append((pick.mean() - mean.mean(), best.mean() - mean.mean()))
        below.append(bad)
        single = f"{pool.average.mean():.1f} ± {pool.average.std(ddof=1):.1f}"
        yield (
            f"| {data} | {method} | {len(pool.records)} | {single} | {correlations[-1]:.2f} | "
            f"{mean.mean():.1f} | {pick.mean():.1f} | {best.mean():.1f} | {100 * bad:.0f} % |"
        )
    gain, possible = np.array(gains).sum(axis=0)
    yield (
        f"mean rank correlation {np.nanmean(correlations):.2f}; gain of the pick {gain / len(gains):.2f} of "
        f"{possible / len(gains):.2f} points possible ({100 * gain / max(possible, 1e-9):.0f} %); more than "
        f"1 point below the mean of its five in {100 * np.mean(below):.1f} % of sets"
    )
    yield "\nfusion of five seeds (up to 8 sets of five), and of four and a collapsed fifth"
    yield "| data | method | mean single | fused detections | averaged scores | with a collapsed run, least |"
    yield "|---|---|---|---|---|---|"
    over, robust = [], []
    for (data, method), pool in pools.items():
        sets = [list(rows) for rows in pool.subsets(5, 8)]
        mean = np.array([pool.average[rows].mean() for rows in sets])
        fused, averaged = (np.array([f(rows) for rows in sets]) for f in (pool.fused, pool.averaged))
        margin = [
            pool.fused(rows, kind) - pool.average[list(rows)].mean()
            for rows in pool.subsets(4, 3)
            for kind in ("constant", "inverted", "noise")
        ]
        over.append((fused - mean).mean())
        robust += [m >= -1 for m in margin]
        yield (
            f"| {data} | {method} | {mean.mean():.1f} ± {mean.std():.1f} | "
            f"{fused.mean():.1f} ± {fused.std():.1f} | {averaged.mean():.1f} ± {averaged.std():.1f} | "
            f"{min(margin):+.1f} |"
        )
    yield (
        f"fused detections are {np.mean(over):+.2f} points over the mean single; with a collapsed run no "
        f"more than 1 point below the mean of the other four in {100 * np.mean(robust):.0f} % of "
        f"{len(robust)} cases"
    )
    yield "\npicks of several methods fused, one pick of five per method"
    yield "| data | picks | mean | best | fused |"
    yield "|---|---|---|---|---|"
    for data in dict.fromkeys(d for d, _ in pools):
        of = {m: p for (d, m), p in pools.items() if d == data}
        if len(of) < 2:
            continue
        picks = {m: p.pick(range(min(5, len(p.records)))) for m, p in of.items()}
        values = [of[m].average[i] for m, i in picks.items()]
        bench = next(iter(of.values())).bench
        runs, known = ([getattr(of[m], x)[i] for m, i in picks.items()] for x in ("found", "known"))
        fused_value = bench.average(fuse_detections(runs, scales=[Scale.of(d) for d in known]))
        shown = ", ".join(f"{m} {v:.1f}" for m, v in zip(picks, values, strict=True))
        yield f"| {data} | {shown} | {np.mean(values):.1f} | {max(values):.1f} | {fused_value:.1f} |"
    yield "\nseed by seed: TL, average mAP, area under the ROC curve of the foreground on the test subset"
    for (data, method), pool in pools.items():
        each = (f"{r.likelihood:.2f}/{r.average:.1f}/{r.auc:.2f}" for r in pool.records)
        yield f"{data} {method}: " + "  ".join(each)


def compared(records: Sequence[Record], name: str, other: str) -> Iterator[str]:
    """Runs of two names side by side, the same seeds; failed is what ends below half of the best of both."""
    yield f"| data | method | seeds | {name or 'plain'} | {other or 'plain'} | failed | seed by seed |"
    yield "|---|---|---|---|---|---|---|"
    failed = runs = np.zeros(2, int)
    for data, method in dict.fromkeys((r.data, r.method) for r in records):
        of = [
            {r.seed: r.average for r in records if (r.data, r.method, r.name) == (data, method, n)}
            for n in (name, other)
        ]
        seeds = sorted(of[0].keys() & of[1].keys())
        if not seeds:
            continue
        value = np.array([[x[s] for s in seeds] for x in of])
        bad = (value < value.max() / 2).sum(axis=1)
        failed, runs = failed + bad, runs + len(seeds)
        shown = (f"{v.mean():.1f}" + (f" ± {v.std(ddof=1):.1f}" if len(v) > 1 else "") for v in value)
        each = ", ".join(f"{a:.1f} → {b:.1f}" for a, b in value.T)
        yield f"| {data} | {method} | {len(seeds)} | {' | '.join(shown)} | {bad[0]}, {bad[1]} | {each} |"
    yield f"failed: {failed[0]} and {failed[1]} of {runs[0]} runs"


def early_picks(records: Sequence[Record], early: Sequence[Early], share: float) -> Iterator[str]:
    """The pick of five by TL after a share of the schedule, beside the pick after all of it."""
    yield f"the pick of five by TL after {share:g} of the schedule, over all sets of five seeds"
    yield "| data | method | seeds | mean of five | pick, early | pick | best | early below mean - 1 |"
    yield "|---|---|---|---|---|---|---|---|"
    of = {(e.data, e.method, e.name, e.seed): e.likelihood for e in early if e.share == share}
    settings = dict.fromkeys((r.data, r.method) for r in records)
    rows = []
    for data, method in settings:
        runs = [
            (r, of[key])
            for r in records
            if (r.data, r.method) == (data, method) and (key := (r.data, r.method, r.name, r.seed)) in of
        ]
        if len(runs) < 2:
            continue
        value = np.array([r.average for r, _ in runs])
        by = [np.array(x) for x in ([e for _, e in runs], [r.likelihood for r, _ in runs])]
        sets = [list(c) for c in combinations(range(len(runs)), min(5, len(runs)))]
        mean, best = (np.array([f(value[c]) for c in sets]) for f in (np.mean, np.max))
        first, whole = (np.array([value[c][np.argmax(x[c])] for c in sets]) for x in by)
        rows.append([x.mean() for x in (mean, first, whole, best)])
        shown = " | ".join(f"{x:.1f}" for x in rows[-1])
        yield f"| {data} | {method} | {len(runs)} | {shown} | {100 * (first < mean - 1).mean():.0f} % |"
    yield "| all | | | " + " | ".join(f"{x:.2f}" for x in np.mean(rows, axis=0)) + " | |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DATA.yaml")
    parser.add_argument("--methods", nargs="+", default=list(SHORT), choices=list(SHORT))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--set", nargs="+", default=[], metavar="METHOD.KEY=VALUE")
    parser.add_argument("--name", default="")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--against", metavar="TAG")
    parser.add_argument("--early", type=float, metavar="SHARE")
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
    if not args.table and args.early is None:
        for data, path in paths.items():
            for seed in range(args.seeds):
                for method in args.methods:
                    done = {(r.data, r.method, r.name, r.seed) for r in kept(args.out, Record)}
                    if (data, method, args.name, seed) in done or (args.out / "stop").exists():
                        continue
                    if data not in benches:
                        benches[data] = Bench(data, Path(path), args.out)
                    bench = benches[data]
                    print(bench.run(method, seed, own.get(method, {}), args.name), flush=True)
    if args.early is not None:
        chosen = [
            r
            for r in kept(args.out, Record)
            if r.data in paths and r.method in args.methods and r.name == args.name and r.seed < args.seeds
        ]
        out = args.out / "early"
        out.mkdir(exist_ok=True)
        for r in chosen:
            done = {(e.data, e.method, e.name, e.seed, e.share) for e in kept(out, Early)}
            if args.table or (r.data, r.method, r.name, r.seed, args.early) in done:
                continue
            if r.data not in benches:
                benches[r.data] = Bench(r.data, Path(paths[r.data]), args.out)
            keep(out, vars(benches[r.data].early(r, own.get(r.method, {}), args.early)))
        print("\n".join(early_picks(chosen, kept(out, Early), args.early)))
        return
    if args.against is not None:
        chosen = [r for r in kept(args.out, Record) if r.data in paths and r.method in args.methods]
        print("\n".join(compared(chosen, args.name, args.against)))
        return
    pools: dict[tuple[str, str], Pool] = {}
    for data, path in paths.items():
        for method in args.methods:
            found = [
                r for r in kept(args.out, Record) if (r.data, r.method, r.name) == (data, method, args.name)
            ]
            if len(found) > 1:
                if data not in benches:
                    benches[data] = Bench(data, Path(path), args.out)
                pools[data, method] = Pool(found, benches[data])
    print("\n".join(tables(pools)), flush=True)


if __name__ == "__main__":
    main()
