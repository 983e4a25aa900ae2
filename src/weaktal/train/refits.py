"""Calibration of a run by refits: what `weaktal calibrate` does.

Every score of a training video was fitted to its labels, so it says nothing about scores in other videos.
Here training videos are held out in turn: for each fold a refit, the same method with the same settings and
seed, is trained on the other folds, and finds segments in this one. Where the labels say that a class does
not occur in a held-out video and it is found all the same, that is a false alarm;
`weaktal.evaluate.false_alarms` makes a threshold of them::

    RUN/calibration.json           see `weaktal.train.calibration`
    RUN/calibration/plan.json      which video is in which fold
    RUN/calibration/fold0/         a run: the refit, and what it finds in all training videos; its weights go
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weaktal.core import (
    Annotations,
    CoverageWarning,
    Detections,
    InputError,
    NameIndex,
    write_json,
    write_text,
)
from weaktal.core.findings import some
from weaktal.core.reading import read_json
from weaktal.dataset import Dataset
from weaktal.evaluate.false_alarms import top_scores
from weaktal.formats import load_detections, save_detections
from weaktal.formats.scores import load_scores, save_scores
from weaktal.localize.fusion import Scale, fuse_detections, fuse_scores
from weaktal.methods import command_word, is_code
from weaktal.methods.protocol import SnippetMethod
from weaktal.train.calibration import FILE, Calibration, HeldOut, Pair, identity, read_calibration
from weaktal.train.children import Child, run_children
from weaktal.train.localize import dataset_of, fits, found_by
from weaktal.train.members import fused_config, open_members
from weaktal.train.predict import clearest
from weaktal.train.run import FUSED, Run
from weaktal.train.training import train_run

PathLike = str | os.PathLike[str]
FloatArray = NDArray[np.float64]

FOLDER, PLAN, OUTPUT = "calibration", "plan.json", "output.txt"
FOUND, SCORES = "found.json", "scores.safetensors"
FOLDS = 5
RANKS = 101  # at which scores of two trainings are compared


@dataclass(frozen=True)
class Folds:
    """Which training video is held out in which fold.

    Attributes:
        subset: role or name of the videos.
        folds: how many there are.
        fold: by video.
        labels: indices of the classes that occur, by video.
        complete: the videos of whose other classes it is known that they do not occur.
        classes: of the data set, in order.
    """

    subset: str
    folds: int
    fold: Mapping[str, int]
    labels: Mapping[str, tuple[int, ...]]
    complete: frozenset[str]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, dataset: Dataset, folds: int | None = None) -> Folds:
        """The folds of the videos that a run was trained on; the same for every run on these videos.

        Args:
            run: which is no fused run.
            dataset: with these videos.
            folds: how many; by default as many as were begun with, otherwise `FOLDS`, or one for each video.

        Raises:
            InputError: fewer videos than folds.
        """
        annotations: Annotations = dataset.subset(run.config.subset)
        usable, left_out = NameIndex(dataset.store.names), set(run.config.data.get("left_out") or ())
        trained_on = [
            v for v in annotations if v.name in usable and (v.labels or v.complete) and v.name not in left_out
        ]
        labels = {v.name: v.labels for v in trained_on}
        folds = folds or _begun_with(run) or min(FOLDS, len(labels))
        if not 2 <= folds <= len(labels):
            raise InputError(
                "that many folds cannot be made", found=folds, expected=f"2 to {len(labels)}, a video each"
            )
        fold = fold_of(list(labels.values()), folds)
        complete = frozenset(v.name for v in trained_on if v.complete)
        by_name = dict(zip(labels, fold, strict=True))
        return cls(run.config.subset, folds, by_name, labels, complete, annotations.classes)

    def held_out(self, fold: int) -> list[str]:
        """The videos of a fold."""
        return [name for name, f in self.fold.items() if f == fold]

    def present(self, videos: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
        """(V, C) which of these classes occur in these videos."""
        names = [{self.classes[c] for c in self.labels[video]} for video in videos]
        return np.array([[c in own for c in classes] for own in names], bool).reshape(-1, len(classes))

    def others(self, fold: int) -> list[str]:
        """The videos of the other folds, on which its refit is trained."""
        return [name for name, f in self.fold.items() if f != fold]


def fold_of(labels: Sequence[Sequence[int]], folds: int) -> list[int]:
    """The fold of each video, so that every class is spread over all folds as evenly as it can be.

    Args:
        labels: indices of the classes of each video.
        folds: how many.

    >>> fold_of([[0], [0], [1], [1]], 2)
    [1, 0, 0, 1]
    """
    count = Counter(c for row in labels for c in row)
    have, size, out = [Counter[int]() for _ in range(folds)], [0] * folds, [0] * len(labels)
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    # rare classes first, as long as there is a choice
    for i in sorted(order, key=lambda i: min((count[c] for c in labels[i]), default=len(labels))):
        rare = sorted(labels[i], key=lambda c: (count[c], c))
        fold = min(range(folds), key=lambda k: (*(have[k][c] for c in rare), size[k], k))
        out[i] = fold
        have[fold].update(labels[i])
        size[fold] += 1
    return out


def refit_fold(
    run: Run | PathLike,
    fold: int,
    data: Dataset | PathLike | None = None,
    *,
    folds: int | None = None,
    keep: bool = False,
    device: str | None = None,
    max_memory: str | None = None,
    progress: bool = False,
) -> Path:
    """Train one refit and note what it finds in all training videos; goes on where it stopped.

    Args:
        run: a run that is no fused one.
        fold: from 0 on.
        data, folds, keep, device, max_memory, progress: see `calibrate`.

    Returns:
        Its directory, in ``calibration`` of the run.

    Raises:
        InputError: as `weaktal.train_run`.
    """
    run = Run.open(run)
    dataset = dataset_of(run, data)
    plan = Folds.of(run, dataset, folds)
    if not 0 <= fold < plan.folds:
        raise InputError("no such fold", found=fold, expected=f"0 to {plan.folds - 1}")
    _begin(run, plan)
    folder = run.folder / FOLDER / f"fold{fold}"
    if (folder / FOUND).exists():
        return folder
    about, base = run.config, run.folder / "base"
    settings = dict(about.config)
    proposals = about.data.get("proposals")
    if (base / "config.yaml").exists():  # a base locator of its own is held out, too
        of_base, proposals = Run.open(base).config, None
        settings |= {"base": of_base.method, **{f"base.{k}": v for k, v in of_base.config.items()}}
    training = about.training
    by_labels = training.choose == "weak"  # the other rules look at test videos, or at nothing
    train_run(
        about.method,
        dataset,
        folder,
        settings=settings,
        seed=about.seed,
        subset=plan.subset,
        leave_out=plan.held_out(fold),
        proposals=proposals,
        resume=True,
        device=device or training.device,
        precision=training.precision,
        compile=training.compile,
        max_memory=max_memory or training.max_memory,
        choose="weak" if by_labels else "last",
        evaluate_every=training.evaluate_every if by_labels else None,
        progress=progress,
    )
    found = found_by(
        Run.open(folder), dataset, plan.subset, device=device or training.device, max_memory=max_memory
    )
    if found.scores:
        save_scores(found.scores, folder / SCORES, found.classes)
    save_detections(found.detections, folder / FOUND)
    if not keep:
        for weights in (folder / "checkpoints", folder / "base" / "checkpoints"):
            shutil.rmtree(weights, ignore_errors=True)
    shutil.rmtree(folder / "features", ignore_errors=True)
    return folder


def _begun_with(run: Run) -> int | None:
    """How many folds the refits of this state of a run were begun with."""
    try:
        found = read_json(run.folder / FOLDER / PLAN)
        return int(found["folds"]) if found["run"] == identity(run) else None
    except (InputError, LookupError, TypeError, ValueError):
        return None


def _begin(run: Run, plan: Folds) -> None:
    """Make the folder of the refits; one of another state of the run, or of other folds, is emptied."""
    folder = run.folder / FOLDER
    new = {"run": identity(run), "subset": plan.subset, "folds": plan.folds, "fold": dict(plan.fold)}
    path = folder / PLAN
    if path.exists():
        try:
            if read_json(path) == new:
                return
        except InputError:
            pass
        shutil.rmtree(folder)
    write_json(path, new)


def calibrate(
    run: Run | PathLike,
    data: Dataset | PathLike | None = None,
    *,
    folds: int | None = None,
    jobs: int | None = None,
    keep: bool = False,
    device: str | None = None,
    max_memory: str | None = None,
    progress: bool = False,
) -> Calibration:
    """Calibrate a run by refits on parts of its training videos; no test label is looked at.

    The training videos are dealt into folds, and for each fold the method is trained anew on the others, with
    the settings, the schedule and the seed of the run, as a process of its own; of a fused run, every member
    is. With five folds it takes four times as long as the training took. Killed at any moment, the next call
    goes on. A run that has its calibration is not calibrated again.

    Scores of two trainings have not the same range. Those of a refit are put on the scale of the run by their
    ranks: a score becomes the one that has the same place among the run's scores of what occurs in its
    training videos, as it has among the refit's. See `carried_over`.

    Args:
        run: a run of any method, or a fused one; or its directory.
        data: a data set, or its description; default the one that was trained on.
        folds: how many parts, of which each refit sees all but one. Default what was begun with, otherwise 5,
            or as many as there are videos.
        jobs: refits at a time; by default what the cores and the memory, or the GPUs, take.
        keep: keep the weights of the refits.
        device: where they run; default as the run was trained.
        max_memory: see `weaktal.train.feature_bank`.
        progress: tell of every fold on standard error.

    Returns:
        What ``calibration.json`` of the run holds.

    Raises:
        InputError: no run or no checkpoint; fewer training videos than folds; no class that some training
            video is without; no refit that could be trained.

    Warns:
        CoverageWarning: a refit that failed, whose videos are missing.
    """
    run = Run.open(run)
    known = read_calibration(run)
    if known is not None and folds in (None, known.folds):
        return known
    fused = run.config.method == FUSED
    members = open_members(run) if fused else [run]
    dataset = dataset_of(run, data)
    of = [dataset if not fused or fits(m, dataset) else dataset_of(m, None) for m in members]
    plan = Folds.of(members[0], of[0], folds)
    folds = plan.folds
    plans = [Folds.of(m, d, folds) for m, d in zip(members, of, strict=True)]
    if any(p.fold != plan.fold for p in plans):
        raise InputError("the members of this run were trained on different videos", file=run.folder)
    if all(len(plan.labels[name]) == len(plan.classes) for name in plan.complete):
        raise InputError(
            "no training video is known to be without a class: nothing tells what a false alarm is",
            file=dataset.path,
            hint="add videos without any of the classes",
        )
    for member, its in zip(members, plans, strict=True):
        _begin(member, its)
    failed = _refit(members, of, folds, jobs, keep, device, max_memory, progress)
    if len(failed) == folds:
        raise InputError("no refit could be trained", file=run.folder / FOLDER, found=failed[0])
    for fold, reason in failed.items():
        missing = f"fold {fold} is missing, {len(plan.held_out(fold))} videos: {reason}"
        warnings.warn(missing, CoverageWarning, stacklevel=2)
    found = found_by(run, dataset, plan.subset, device=device or "auto", max_memory=max_memory)
    own = _by_name(found.detections, plan)
    videos: list[HeldOut] = []
    for fold in range(folds):
        if fold in failed:
            continue
        again = _by_name(_found_again(run, members, plan, fold), plan)
        scores = carried_over(again, own, plan, fold)
        videos += _held_out(replace(again, score=scores), plan, fold)
    made = Calibration(
        run=identity(run),
        subset=plan.subset,
        folds=folds,
        classes=run.config.classes,
        videos=tuple(videos),
        notes=tuple(_notes(run, members, plan)),
    )
    write_text(run.folder / FILE, made.model_dump_json() + "\n")
    return made


def _refit(
    members: Sequence[Run],
    data: Sequence[Dataset],
    folds: int,
    jobs: int | None,
    keep: bool,
    device: str | None,
    max_memory: str | None,
    progress: bool,
) -> dict[int, str]:
    """Train all refits that are not there yet; why some failed, by fold."""
    fold_of_child: dict[Child, int] = {}
    for member, dataset in zip(members, data, strict=True):
        for fold in range(folds):
            folder = member.folder / FOLDER / f"fold{fold}"
            if (folder / FOUND).exists():
                continue
            words = ["calibrate", str(member.folder), "--fold", str(fold), "--folds", str(folds)]
            words += ["--data", str(dataset.path), *(["--keep"] if keep else [])]
            code = command_word(member.config.method)
            optional = {
                "--device": device,
                "--max-memory": max_memory,
                "--code": code if is_code(code) else None,
            }
            words += [w for option, value in optional.items() if value is not None for w in (option, value)]
            name = f"fold {fold}" if len(members) == 1 else f"{member.folder.name}, fold {fold}"
            fold_of_child[Child(name, tuple(words), folder / OUTPUT)] = fold
    failed: dict[int, str] = {}

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    def ended(child: Child, code: int, seconds: float) -> None:
        if code:
            failed[fold_of_child[child]] = child.last_line
        say(f"{child.name}: {'failed' if code else 'done'} after {seconds:.0f} s")

    run_children(
        list(fold_of_child),
        device=device or members[0].config.training.device,
        jobs=jobs,
        began=lambda child: say(f"{child.name}: training"),
        ended=ended,
    )
    return failed


def _by_name(found: Detections, plan: Folds) -> Detections:
    """Detections in the videos of a plan, as its data set spells them."""
    known = NameIndex(plan.fold)
    return found.renamed(lambda name: known.find(name) or name)


def _found_again(run: Run, members: Sequence[Run], plan: Folds, fold: int) -> Detections:
    """What the refit of a fold finds in all training videos; of a fused run, the refits of its members."""
    folders = [m.folder / FOLDER / f"fold{fold}" for m in members]
    if run.config.method != FUSED:
        return load_detections(folders[0] / FOUND, run.config.classes)
    rule = fused_config(run)
    if rule.by == "scores":
        localizer = members[0].build()
        assert isinstance(localizer, SnippetMethod)
        return localizer.localize(fuse_scores([load_scores(f / SCORES)[0] for f in folders]))
    each = [
        load_detections(f / FOUND, m.config.classes).relabelled(run.config.classes)
        for f, m in zip(folders, members, strict=True)
    ]
    trained_on = set(plan.others(fold))
    return fuse_detections(
        each,
        scales=[Scale.of(_of_videos(d, trained_on)) for d in each],
        most=rule.most,
        iou=rule.iou,
        nms_threshold=rule.nms_threshold,
    )


def _of_videos(found: Detections, names: set[str]) -> Detections:
    wanted = np.array([name in names for name in found.names], bool)
    return found[wanted[found.video]] if len(found) else found


def carried_over(again: Detections, own: Detections, plan: Folds, fold: int) -> FloatArray:
    """The scores of a refit on the scale of the run.

    Weak labels give both the same yardstick: the highest score of each class that occurs in a training video.
    A score of the refit becomes the score of the run of the same rank among these; between ranks, and beyond
    the first and the last, it goes on in a straight line.

    Args:
        again: what the refit finds, in the videos that it was trained on and in those it was not.
        own: what the run finds in its training videos.
        plan, fold: which these are.

    Returns:
        (N,) for the rows of `again`.
    """
    source = _of_labels(again, plan, plan.others(fold))
    target = _of_labels(own, plan, list(plan.fold))
    if not len(source) or not len(target):
        return again.score
    at = np.linspace(0, 1, RANKS)
    a, b = np.quantile(source, at), np.quantile(target, at)
    width = a[-1] - a[0]
    if not width > 0:
        return np.asarray(again.score - a[0] + b[0])
    slope = (b[-1] - b[0]) / width
    x, (a, first) = again.score, np.unique(a, return_index=True)
    beyond = slope * (np.minimum(x - a[0], 0) + np.maximum(x - a[-1], 0))
    return np.asarray(np.interp(x, a, b[first]) + beyond)


def _of_labels(found: Detections, plan: Folds, videos: Sequence[str]) -> FloatArray:
    """The highest scores of the classes that occur in these videos, where they were found."""
    top = top_scores(found, videos)[plan.present(videos, found.classes)]
    return np.asarray(top[top > -np.inf])


def _held_out(found: Detections, plan: Folds, fold: int) -> list[HeldOut]:
    """What a refit finds in its held-out videos, scores on the scale of the run."""
    videos = plan.held_out(fold)
    top = top_scores(found, videos)
    out = []
    for name, row in zip(videos, top, strict=True):
        clear = clearest(found, name, -math.inf)
        pairs = {
            word: Pair(
                score=float(row[c]),
                segments=tuple(np.sort(clear.score[clear.label == c])[::-1].tolist()),
            )
            for c, word in enumerate(found.classes)
            if row[c] > -np.inf
        }
        labels = tuple(plan.classes[c] for c in plan.labels[name])
        complete = name in plan.complete
        out.append(HeldOut(video=name, fold=fold, labels=labels, complete=complete, found=pairs))
    return out


def _notes(run: Run, members: Sequence[Run], plan: Folds) -> list[str]:
    """What to know about a calibration."""
    notes = []
    everywhere = [
        name for c, name in enumerate(plan.classes) if all(c in labels for labels in plan.labels.values())
    ]
    if everywhere:
        notes.append(
            f"no video is known to be without, so that no false alarm can be told: {some(everywhere)}"
        )
    notes += [
        f"{m.config.method} re-scores segments of a file, which knew the held-out videos: rates are too low"
        for m in members
        if m.config.data.get("proposals") and not (m.folder / "base" / "config.yaml").exists()
    ]
    return notes
