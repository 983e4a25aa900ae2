"""The whole job on rendered videos, from weak labels to a report: what `weaktal demo` does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from weaktal.core import InputError, write_json
from weaktal.dataset import Dataset
from weaktal.demo.render import render
from weaktal.evaluate import evaluate
from weaktal.evaluate.baseline import chance_detections
from weaktal.features.extract.extraction import extract
from weaktal.files.evaluation import Evaluation, evaluate_detections
from weaktal.train.localize import localize_run
from weaktal.train.reports import report_runs
from weaktal.train.training import train_run

# windows of 0.4 seconds: longer ones blur the borders of actions of one to six seconds
WINDOW = 6
CHANCE = {False: "all classes", True: "told which classes each video has"}


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo reached.

    Attributes:
        data: description of the data set.
        evaluations: by the run's directory.
        chance: average mAP of proposals placed at random, by what they were told.
        report: the page.
    """

    data: Path
    evaluations: Mapping[Path, Evaluation]
    chance: Mapping[str, float]
    report: Path


def run_demo(
    out: str | os.PathLike[str],
    *,
    supervision: Literal["video", "point"] = "video",
    seed: int = 0,
    train_videos: int = 120,
    test_videos: int = 24,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> Demo:
    """Render videos, extract features, train, localize, evaluate and report; what is done is not repeated.

    Args:
        out: folder for everything.
        supervision: "video": class tags only (ASM-Loc's base network); "point": one click an instance (LAC,
            and TSPNet, which re-scores its proposals).
        seed: of the training.
        train_videos, test_videos: how many to render.
        say: told each step as the command that a user would type, and what came out.
        progress: show progress on standard error.

    Raises:
        InputError: a folder with something else in it, or a video that cannot be read.
    """
    out = Path(out)
    say(f"rendering the demo videos into {out / 'videos'}")
    with _bar(progress) as tell:
        data = render(out, train=train_videos, test=test_videos, progress=tell)
    videos, features = out / "videos", out / "features"
    _tell(say, "extract", videos, "--backbone", "motion", "--set", f"window={WINDOW}", "--out", features)
    done = extract(videos, features, options={"window": WINDOW}, progress=progress)
    say(f"{len(done.outcomes)} videos: {len(done['done'])} done, {len(done['kept'])} kept")
    if done["failed"]:
        first = done["failed"][0]
        raise InputError("a rendered video cannot be read", file=first.source, found=first.error)
    method = "asm_loc" if supervision == "video" else "tspnet"
    run = out / f"{method}-{seed}"
    _tell(say, "train", method, "--data", data, "--recipe", "demo", "--seed", seed, "--out", run, "--resume")
    say(str(train_run(method, data, run, recipe="demo", seed=seed, resume=True, progress=progress)))
    # TSPNet re-scores the proposals of LAC, which this trained first, in a run of its own inside
    runs = [run] if supervision == "video" else [run / "base", run]
    evaluations = {}
    for folder in runs:
        _tell(say, "localize", folder, "--data", data)
        found = localize_run(folder, data)
        say(f"{len(found.detections)} detections in {len(found.detections.names)} videos: {found.path}")
        metrics = folder / "metrics.json"
        _tell(say, "evaluate", found.path, "--data", data, "--json", metrics)
        measured = evaluations[folder] = evaluate_detections(found.path, data)
        write_json(metrics, measured.to_dict())
        say(str(measured))
    chance = _chance(data)
    for what, average in chance.items():
        say(f"chance (uniformly placed proposals, {what}): average mAP {100 * average:.2f}")
    page = out / f"report-{supervision}.html"
    _tell(say, "report", *runs, "--data", data, "--out", page)
    report_runs(runs, page, data=data)
    say(f"report: {page}")
    return Demo(data, evaluations, chance, page)


def _tell(say: Callable[[str], None], *words: object) -> None:
    say(f"\n$ weaktal {shlex.join(map(str, words))}")


def _chance(data: Path) -> dict[str, float]:
    dataset = Dataset.load(data)
    annotations = dataset.subset("test")
    return {
        what: evaluate(
            chance_detections(annotations, know_classes=know), annotations, dataset.protocol
        ).average
        for know, what in CHANCE.items()
    }


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for the rendering on standard error."""
    if not shown:
        yield None
        return
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("render"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    ) as bar:
        task = bar.add_task("render", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
