"""What videos without any action add to a training: every method with and without them, on the demo.

    python benchmarks/negatives.py OUT --demo DEMO [--methods lac tspnet ...] [--seeds 3] [--table]

DEMO is a folder of `weaktal demo`. Half as many videos as it has for training are rendered in which the
figure stands and walks and never acts, and a quarter more that no training sees; features are those of the
demo. Every method is trained with and without the first half, in everything else alike: by its recipe `own`,
long ones shortened (`SETTINGS`). Methods that re-score segments, and students, get those of their base
locator of the same arm and seed. What OUT has already is not repeated. `--table` only prints the table of
what is done.

Average mAP is that of the demo's test subset. A class is shown in a video if one of its detections there has
a score of at least a threshold. The threshold is the highest at which `RECALL` of the (video, class) pairs
that occur in the test subset are shown, or as many as both arms can show: so they are compared at the same
recall. False alarms are the share of pairs that do not occur and are shown, among the test videos and among
the unseen videos without any action. Test labels are used to measure and never to choose.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trainings import keep, kept, trained

from weaktal.core import Annotations, Detections, SnippetScores, Video, write_text
from weaktal.dataset import Dataset
from weaktal.demo.job import WINDOW
from weaktal.demo.render import Script, Settings, render_video
from weaktal.features.bank import FeatureBank
from weaktal.features.extract.extraction import extract
from weaktal.formats import load_annotations, load_detections, save_annotations, save_detections
from weaktal.formats.scores import load_scores, save_scores
from weaktal.methods import METHODS, find_method
from weaktal.methods.protocol import SnippetMethod, TrainingData
from weaktal.train import feature_bank, resolve_config, training_data
from weaktal.train.inference import detect_videos, score_videos
from weaktal.train.measure import Measure

ARMS = ("without", "with")
RECALL = 0.8
# recipes `own`, which is what a user gets, long ones shortened: a quarter of a minute to two of a core
SETTINGS: dict[str, Mapping[str, Any]] = {
    "issf": {"epochs": 20, "lr": 3e-4},
    "sal": {},
    "asm_loc": {"epochs": 50, "learning_rate": 3e-4},
    "stcl_net": {},
    "lac": {},
    "tspnet": {},
    "hr_pro_snippets": {"steps": 200, "lr": 3e-4},
    "hr_pro": {"epochs": 6},
    "p_mil": {},
    "student": {},
    "student_points": {},
}
TRAIN, UNSEEN = "train", "unseen"
DESCRIPTION = """\
name: demo {arm} videos without any action
annotations: {arm}.json
points: points.txt
features: {{path: features}}
"""


@dataclass(frozen=True)
class Record:
    """A training.

    Attributes:
        row, arm, seed: which one.
        average: average mAP on the test subset, in percent.
        seconds: of training, of one core.
    """

    row: str
    arm: str
    seed: int
    average: float
    seconds: float

    def best(self, out: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """Highest scores (V, C) in test videos, which of these pairs occur, and scores in quiet videos."""
        with np.load(out / f"{self.row}-{self.arm}-{self.seed}.npz") as file:
            return file["test"], file["present"], file["quiet"]


# ------------------------------------------------------------------------------------------ the data


def make(demo: Path, out: Path) -> dict[str, Path]:
    """Render what is missing, and describe both arms: arm to description."""
    full = load_annotations(demo / "gt.json")
    train = sum(v.subset == TRAIN for v in full)
    settings = Settings(seed=1)
    videos, features = out / "videos", out / "features"
    quiet = []
    for i in range(train // 2 + train // 4):
        frames = round(np.random.default_rng([settings.seed, i]).uniform(*settings.seconds) * settings.fps)
        script = Script(f"quiet_{i:03d}", TRAIN, frames / settings.fps, ())
        path = videos / f"{script.name}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            render_video(settings, script, path)
        subset = TRAIN if i < train // 2 else UNSEEN
        quiet.append(Video(script.name, subset, script.duration, settings.fps, complete=True))
    extract(videos, features, options={"window": WINDOW}, workers=1)
    for file in (demo / "features").glob("*.safetensors"):
        if not (features / file.name).exists():
            os.symlink(file.resolve(), features / file.name)
    write_text(out / "points.txt", (demo / "points.txt").read_text(encoding="utf-8"))
    made = {}
    for arm in ARMS:
        more = quiet if arm == "with" else [v for v in quiet if v.subset == UNSEEN]
        save_annotations(Annotations.of(full.classes, [*full, *more]), out / f"{arm}.json")
        made[arm] = out / f"{arm}.yaml"
        write_text(made[arm], DESCRIPTION.format(arm=arm))
    return made


# ---------------------------------------------------------------------------------------- measuring


def best(found: Detections, videos: Sequence[str], classes: int) -> NDArray[np.float64]:
    """(V, C) the highest score of a class in a video; minus infinity without a detection."""
    place = {name: i for i, name in enumerate(videos)}
    out = np.full((len(videos), classes), -np.inf)
    rows = np.array([place[found.names[v]] for v in found.video], np.int64)
    np.maximum.at(out, (rows, found.label), found.score)
    return out


def alarms(pair: Sequence[Record], out: Path) -> tuple[float, NDArray[np.float64]]:
    """Recall, and false alarms of two arms (2, 2) in test and in quiet videos, in percent."""
    parts = [record.best(out) for record in pair]
    ranked = [np.sort(test[present])[::-1] for test, present, _ in parts]
    count = min(int(np.ceil(RECALL * len(ranked[0]))), *(int(np.isfinite(r).sum()) for r in ranked))
    rows = []
    for (test, present, quiet), of in zip(parts, ranked, strict=True):
        threshold = of[count - 1]
        rows.append([100 * float((x >= threshold).mean()) for x in (test[~present], quiet)])
    return 100 * count / len(ranked[0]), np.array(rows)


class Arm:
    """A data set with or without videos in which nothing occurs; features stay loaded."""

    def __init__(self, name: str, path: Path, out: Path) -> None:
        self.name, self.out = name, out
        self.dataset = Dataset.load(path)
        self.measure = Measure(self.dataset)
        self.quiet = tuple(self.dataset.subset(UNSEEN).videos)
        self.seen = self.measure.bank.names
        # videos that are measured: those of the test subset, then unseen ones without any action
        self.bank: FeatureBank = feature_bank(self.dataset.store, [*self.seen, *self.quiet])
        self.data = {s: training_data(self.dataset, s) for s in ("video", "point")}
        truth = self.measure.annotations
        self.present = np.zeros((len(self.seen), len(truth.classes)), bool)
        for row, name in zip(self.present, self.seen, strict=True):
            row[list(truth.videos[name].labels)] = True

    def files(self, row: str, seed: int) -> tuple[Path, Path]:
        """Segments that a base locator proposes, and its scores of training videos."""
        stem = f"{row}-{self.name}-{seed}"
        return self.out / f"{stem}-proposals.json", self.out / f"{stem}.safetensors"

    def training(self, row: str, seed: int) -> TrainingData:
        """What a row is trained on."""
        kind = find_method(row)
        data = replace(self.data[kind.supervision], seed=seed)
        if kind.base is None:
            return data
        proposals, scores = self.files(kind.base, seed)
        known: dict[str, SnippetScores] = {s.video: s for s in load_scores(scores)[0]}
        return replace(data, proposals=load_detections(proposals, self.dataset.classes), scores=known)

    def run(self, row: str, seed: int) -> Record:
        """Train and measure."""
        data = self.training(row, seed)
        method, seconds = trained(row, resolve_config(row, "own", SETTINGS[row]), data)
        if isinstance(method, SnippetMethod):
            scores = score_videos(method, self.bank)
            found = method.localize(scores)
            if any(find_method(m).base == row for m in METHODS):
                own = score_videos(method, data.bank)
                proposals, file = self.files(row, seed)
                save_scores(own, file, method.classes)
                save_detections(method.candidates([*own, *scores]), proposals)
        else:
            found = detect_videos(method, self.bank, proposals=data.proposals)
        score = best(found, [*self.seen, *self.quiet], len(data.weak.classes))
        stem = self.out / f"{row}-{self.name}-{seed}"
        np.savez(
            f"{stem}.npz",
            test=score[: len(self.seen)],
            present=self.present,
            quiet=score[len(self.seen) :],
        )
        save_detections(found, f"{stem}.json")
        there = found[np.isin(found.video, [found.names.index(n) for n in self.seen if n in found.names])]
        return Record(row, self.name, seed, 100 * self.measure.result(there).average, seconds)


# ---------------------------------------------------------------------------------------- the table


def told(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def table(out: Path) -> Iterator[str]:
    """What docs/trust.md shows: means over the seeds that both arms have."""
    records = kept(out, Record)
    yield "| | | mAP | | recall | false alarms, test videos | | false alarms, videos without action | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    yield "| method | seeds | without | with | both | without | with | without | with |"
    for row in SETTINGS:
        of = {arm: {r.seed: r for r in records if (r.row, r.arm) == (row, arm)} for arm in ARMS}
        seeds = sorted(of["without"].keys() & of["with"].keys())
        if not seeds:
            continue
        pairs = [[of[arm][s] for arm in ARMS] for s in seeds]
        average = np.array([[r.average for r in pair] for pair in pairs])
        recall, shown = zip(*(alarms(pair, out) for pair in pairs), strict=True)
        false = np.array(shown)  # (seeds, arms, kinds of videos)
        cells = [told(average[:, 0]), told(average[:, 1]), f"{np.mean(recall):.0f} %"]
        cells += [told(false[:, arm, kind]) for kind in (0, 1) for arm in (0, 1)]
        yield f"| {row} | {len(seeds)} | " + " | ".join(cells) + " |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parse()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.table:
        arms = {name: Arm(name, path, args.out) for name, path in make(args.demo, args.out).items()}
        for seed in range(args.seeds):
            for row in args.methods:
                for name, arm in arms.items():
                    if any((r.row, r.arm, r.seed) == (row, name, seed) for r in kept(args.out, Record)):
                        continue
                    record = arm.run(row, seed)
                    keep(args.out, vars(record))
                    print(record, flush=True)
    print("\n".join(table(args.out)), flush=True)


if __name__ == "__main__":
    main()
