"""Whether calibrated runs keep to the rate of false alarms that they are asked for: tables of docs/trust.md.

usage: python benchmarks/false_alarms.py OUT --data hapt=DATA.yaml demo=DATA.yaml ... [--methods lac sal ...]
                                         [--seeds 3] [--folds 5] [--no-fuse] [--others demo=FEATURES ...]
                                         [--table]

Trains every method with every seed on every data set by its recipe `own`, shortened (`SHORT`), calibrates it
(`weaktal calibrate`), and looks at its detections in the test videos: in what share of the videos without a
class, mean over classes, the class scores at the threshold or above, in what share of the videos any such
class does, and of how many pairs of a video and a class that occurs in it the class does. Seed by seed, the
runs of different methods are also fused and the fusion is calibrated. Labels of test videos measure, and
choose nothing. `--others` are features of videos of something else: how many of them show a segment. What OUT
has already is not repeated. `--table` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from trainings import keep, kept

from weaktal import Dataset, Detections, Run, calibrate, fuse_runs, train_run
from weaktal.core import InputError
from weaktal.evaluate import evaluate, get_protocol
from weaktal.evaluate.false_alarms import false_alarm_rate, pair_recall, top_scores, wrong_videos
from weaktal.features.store import FeatureStore
from weaktal.train.calibration import Calibration, Per
from weaktal.train.localize import found_by
from weaktal.train.predict import clearest, predictor_of
from weaktal.train.refits import refit_fold

ASKED: tuple[tuple[float, Per], ...] = (
    *((rate, "video") for rate in (0.05, 0.1, 0.2)),
    *((rate, "class") for rate in (0.02, 0.05, 0.1, 0.2)),
)
OF: dict[Per, str] = {"video": "of videos", "class": "a class"}
# changes to the recipe `own`: a run takes five to fifty seconds of a core
SHORT: dict[str, dict[str, Any]] = {
    "lac": {"steps": 200},
    "sal": {"epochs": 12, "batch_size": 8, "lr": 4e-4},
    "asm_loc": {"epochs": 50, "learning_rate": 3e-4},
    "stcl_net": {"iterations": 150, "learning_rate": 7e-4},
}


def measured(
    dataset: Dataset, found: Detections, calibration: Calibration, others: Detections | None
) -> dict[str, Any]:
    """What a calibrated run does in the test videos, and in videos of something else."""
    test = dataset.subset("test")
    found = found.relabelled(dataset.classes)
    top = top_scores(found, list(test.videos))
    present = np.array([[c in v.labels for c in range(len(test.classes))] for v in test])
    clear = [clearest(found, name, -np.inf).score for name in test.videos]
    rows = []
    for rate, per in ASKED:
        try:
            point = calibration.at(calibration.threshold(rate, per))
        except InputError:  # so few videos promise no such rate
            continue
        of_class = [
            false_alarm_rate(top[:, [c]], ~present[:, [c]], point.threshold) for c in range(top.shape[1])
        ]
        rows.append(
            {
                "rate": rate,
                "per": per,
                "threshold": point.threshold,
                "held_out": [point.false_alarms, point.recall],
                "test": [
                    false_alarm_rate(top, ~present, point.threshold),
                    pair_recall(top, present, point.threshold),
                ],
                "worst_class": float(np.nanmax(of_class)),
                "any_class": wrong_videos(top, ~present, point.threshold),
                "segments": sum(int((c >= point.threshold).sum()) for c in clear) / len(test),
                "others": others
                and [len(set(others.video[others.score >= point.threshold])), len(others.names)],
            }
        )
    average = evaluate(found, test, get_protocol(dataset.protocol)).average
    return {"average": 100 * average, "videos": len(calibration.videos), "rows": rows}


def in_others(run: Run, folder: str) -> Detections:
    """What a run finds in videos that are nobody's data set."""
    predictor, store = predictor_of(run), FeatureStore.open(folder)
    found = [predictor(name, store.load(name), store.axis(name))[0] for name in store.names]
    return Detections.concatenate(
        [Detections.empty(store.names, predictor.classes), *found], predictor.classes
    )


def single(dataset: Dataset, method: str, seed: int, folder: Path, folds: int) -> Run:
    """A calibrated run; its refits are trained here, one after the other."""
    run = train_run(
        method,
        dataset,
        folder,
        recipe="own",
        settings=SHORT[method],
        seed=seed,
        resume=True,
        device="cpu",
    ).run
    for fold in range(folds):
        refit_fold(run, fold, dataset, folds=folds)
    return run


def tables(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Seed by seed, and in short."""
    yield (
        "| data | run | average mAP | asked | false alarms | worst class | any class | recall | segments "
        "| others |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for data, name in dict.fromkeys((r["data"], r["method"]) for r in records):
        those = [r for r in records if (r["data"], r["method"]) == (data, name)]
        for rate, per in ASKED:
            rows = [x for r in those for x in r["rows"] if (x["rate"], x["per"]) == (rate, per)]
            if not rows:
                continue
            alarms, shown = (100 * np.array([x["test"][i] for x in rows]) for i in (0, 1))
            each = [", ".join(f"{x:.{n}f}" for x in values) for n, values in ((1, alarms), (0, shown))]
            worst, some = (100 * np.mean([x[k] for x in rows]) for k in ("worst_class", "any_class"))
            others = ", ".join(f"{x['others'][0]} of {x['others'][1]}" for x in rows if x["others"])
            yield (
                f"| {data} | {name} | {np.mean([r['average'] for r in those]):.1f} | "
                f"{100 * rate:g} % {OF[per]} | "
                f"{alarms.mean():.1f} % ({each[0]}) | {worst:.0f} % | {some:.0f} % | "
                f"{shown.mean():.0f} % ({each[1]}) | "
                f"{np.mean([x['segments'] for x in rows]):.1f} | {others} |"
            )
    for data in dict.fromkeys(r["data"] for r in records):
        of = [x for r in records if r["data"] == data for x in r["rows"] if x["rate"] == 0.05]
        for per, what in OF.items():
            rows = [x for x in of if x["per"] == per]
            if not rows:
                continue
            alarms, recall = (100 * np.mean([x["test"][i] for x in rows]) for i in (0, 1))
            some = 100 * np.mean([x["any_class"] for x in rows])
            yield (
                f"{data}, asked for 5 % {what}: false alarms {alarms:.1f} %, any class {some:.1f} % of the "
                f"test videos, recall {recall:.0f} %, mean of {len(rows)} runs"
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=DATA.yaml")
    parser.add_argument("--methods", nargs="+", default=["lac", "sal"], choices=list(SHORT))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--no-fuse", action="store_true")
    parser.add_argument("--others", nargs="+", default=[], metavar="NAME=FEATURES")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")

    def records() -> list[dict[str, Any]]:
        return kept(args.out, dict)

    def note(dataset: Dataset, data: str, name: str, seed: int, run: Run) -> None:
        found = found_by(run, dataset, "test", device="cpu").detections
        about = {"data": data, "method": name, "seed": seed}
        elsewhere = in_others(run, others[data]) if data in others else None
        record = about | measured(dataset, found, calibrate(run, folds=args.folds), elsewhere)
        keep(args.out, record)
        print(json.dumps(record), flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    paths, others = (dict(text.split("=", 1) for text in texts) for texts in (args.data, args.others))
    paths = {} if args.table else paths
    for seed in range(args.seeds):
        for data, path in paths.items():
            dataset, runs = Dataset.load(path), []
            for method in args.methods:
                folder = args.out / f"{data}-{method}-{seed}"
                if (data, method, seed) not in {(r["data"], r["method"], r["seed"]) for r in records()}:
                    run = single(dataset, method, seed, folder, args.folds)
                    note(dataset, data, method, seed, run)
                runs.append(folder)
            name = " + ".join(args.methods)
            if len(runs) < 2 or args.no_fuse:
                continue
            if (data, name, seed) not in {(r["data"], r["method"], r["seed"]) for r in records()}:
                folder = args.out / f"{data}-fused-{'-'.join(args.methods)}-{seed}"
                fused = Run.open(folder) if folder.exists() else fuse_runs(runs, folder, device="cpu")
                calibrate(fused, folds=args.folds, device="cpu")
                note(dataset, data, name, seed, fused)
    print("\n".join(tables(records())), flush=True)


if __name__ == "__main__":
    main()
