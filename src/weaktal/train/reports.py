"""Runs on a page: what `weaktal report` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from weaktal.core import Annotations, CoverageWarning, Detections, InputError, SnippetScores, file_names
from weaktal.dataset import Dataset
from weaktal.evaluate import Interval, Protocol, analyse, differences, evaluate, get_protocol, intervals
from weaktal.evaluate.baseline import chance_detections
from weaktal.evaluate.false_alarms import false_alarm_rate, pair_recall, top_scores, wrong_videos
from weaktal.evaluate.notes import aligned, unknown_classes
from weaktal.features.extract.pictures import find_video, video_pictures
from weaktal.formats import load_detections, segments
from weaktal.formats.scores import load_scores
from weaktal.localize.fusion import agreed
from weaktal.methods import find_method
from weaktal.report import RunView, best_cut, run_view, write_report
from weaktal.report.prediction import write_prediction_page
from weaktal.train.calibration import least_shown, least_words, read_calibration
from weaktal.train.members import fused_config, open_members
from weaktal.train.predict import clearest
from weaktal.train.run import FUSED, Run

PathLike = str | os.PathLike[str]
CHECKPOINT = {
    "last": "last",
    "best-on-test": "best on the test set",
    "weak": "chosen by the labels of the training videos",
}


@dataclass(frozen=True)
class Reported:
    """What was written.

    Attributes:
        path: the page.
        figures: static figures, for papers.
        evaluated: whether there were instances to evaluate against; if not, the page shows what was found.
    """

    path: Path
    figures: tuple[Path, ...] = ()
    evaluated: bool = True


@dataclass(frozen=True)
class _Found:
    """Detections, snippet scores and facts of a run or of a detections file."""

    detections: Detections
    scores: Sequence[SnippetScores] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    run: Run | None = None


def report_runs(
    runs: Run | PathLike | Sequence[Run | PathLike],
    out: PathLike | None = None,
    *,
    data: Dataset | PathLike | None = None,
    subset: str = "test",
    protocol: str | None = None,
    video_folder: PathLike | None = None,
    most: int = 40,
    chance: bool = True,
    figures: PathLike | None = None,
    format: Literal["png", "svg", "pdf"] = "png",
    beside: Mapping[str, Sequence[float]] | None = None,
    resamples: int | None = None,
    notes: Sequence[str] = (),
) -> Reported:
    """One HTML page of one run, or of several side by side: what was found, missed and invented.

    Where the subset has no instances to evaluate against (weak labels only), the page shows what the run
    found, as `weaktal.predict` does, with ``segments.csv`` beside it; of several runs, what more than half of
    them found.

    Args:
        runs: runs, their directories, or detections files.
        out: the page; default ``report.html`` in the first run's directory.
        data: a data set, or its description; default the one that the first run was trained on.
        subset: role or name of the subset.
        protocol: of the evaluation; default the data set's.
        video_folder: of the videos, for pictures; default the data set's.
        most: how many videos to draw.
        chance: put the chance baseline in the table.
        figures: folder for static figures.
        format: of the figures.
        beside: rows of mAP to compare with, at the thresholds of the protocol, such as published figures.
        resamples: also give intervals of every run's average mAP and of its difference to the first, by so
            many resamples of the videos, see `weaktal.evaluate.intervals`.
        notes: remarks below the table.

    Raises:
        InputError: no data set, no detections yet, detections of other classes, an unknown subset.
    """
    asked = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
    paths = [r.folder if isinstance(r, Run) else Path(r) for r in asked]
    if not paths:
        raise InputError("no run to report on")
    data = data if data is not None else _described(paths)
    dataset = data if isinstance(data, Dataset) else Dataset.load(data)
    annotations = dataset.subset(subset)
    names = _short_names(paths)
    found = [_load(path, annotations, subset) for path in paths]
    folder = dataset.videos if video_folder is None else Path(video_folder)
    page = _default_out(paths[0]) if out is None else Path(out)
    drawn = list(annotations.videos)[: max(0, most)]
    title = f"{dataset.name}: " + " and ".join(names)
    facts = {"data": str(dataset.path)}
    if not len(annotations.instance_table()):
        _write_found(page, title, facts, annotations, found, drawn, _pictures(folder, drawn))
        return Reported(page, evaluated=False)
    rule = get_protocol(protocol or dataset.protocol)
    views = [
        run_view(name, f.detections, annotations, rule, facts=f.facts, scores=f.scores)
        for name, f in zip(names, found, strict=True)
    ]
    table = annotations.instance_table()
    common = agreed([_clear(f, list(annotations.videos)) for f in found]) if len(found) > 1 else None
    write_report(
        page,
        annotations,
        views,
        title=title,
        facts=facts
        | {
            "subset": f"{subset}, {len(annotations)} videos, {len(table)} instances, "
            f"{len(annotations.classes)} classes",
            "protocol": f"{rule.name} (version {rule.version})",
        },
        videos=drawn,
        thumbnails=_pictures(folder, drawn),
        baselines={**(_chance(annotations, rule) if chance else {}), **(beside or {})},
        notes=notes,
        spread={} if resamples is None else _spread(names, found, annotations, rule, resamples),
        thresholds={
            name: rows for name, f in zip(names, found, strict=True) if (rows := _thresholds(f, annotations))
        },
        agreed=common,
        shown={} if common is None else _what_is_shown(names, found, common, annotations),
    )
    written = () if figures is None else _figures(Path(figures), format, annotations, views, drawn)
    return Reported(page, written)


def _described(paths: Sequence[Path]) -> Path:
    for path in paths:
        if path.is_dir() and (found := Run.open(path).config.data.get("path")):
            return Path(found)
    raise InputError("no data set: name its description with --data")


def _default_out(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "report.html"


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as tell them apart."""
    for depth in range(1, 8):
        names = ["/".join((p.parent / p.stem if p.is_file() else p).parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError("the same run is named twice", found=", ".join(map(str, paths)))


def _load(path: Path, annotations: Annotations, subset: str) -> _Found:
    if not path.is_dir():
        return _Found(_known(load_detections(path), annotations, path), facts={"detections file": str(path)})
    run = Run.open(path)
    config = run.config
    detections = path / "detections.json"
    if not detections.exists():
        raise InputError(
            "this run has no detections yet",
            file=path,
            hint=f"first: weaktal localize {path} --subset {subset}",
        )
    scores = path / "scores" / f"{subset}.safetensors"
    return _Found(
        _known(load_detections(detections), annotations, detections),
        load_scores(scores)[0] if scores.exists() else (),
        _fused_facts(run)
        if config.method == FUSED
        else {
            "method": config.method,
            "supervision": f"{find_method(config.method).supervision}-level",
            "recipe": config.recipe or "defaults",
            "seed": str(config.seed),
            "checkpoint": CHECKPOINT[config.training.choose],
        },
        run,
    )


def _fused_facts(run: Run) -> dict[str, str]:
    rule, members = fused_config(run), open_members(run)
    each = ", ".join(f"{m.config.method} seed {m.config.seed}" for m in members)
    return {"method": f"{rule.by} of {len(members)} runs, fused", "members": each}


def _known(found: Detections, annotations: Annotations, path: Path) -> Detections:
    """The detections over the annotated classes, under the annotations' names of videos."""
    found = aligned(found, annotations)
    try:
        for note in unknown_classes(found, annotations):
            warnings.warn(f"{path}: {note}", CoverageWarning, stacklevel=4)
    except InputError as error:
        raise error.at(path) from None
    return found.relabelled(annotations.classes)


def _pictures(folder: Path | None, names: Sequence[str]) -> dict[str, list[str]]:
    """Pictures of the videos that are there and can be read."""
    out: dict[str, list[str]] = {}
    for name in names if folder is not None else ():
        assert folder is not None
        try:
            file = find_video(folder, name)
            out[name] = [] if file is None else video_pictures(file)
        except InputError:
            out[name] = []
    return out


def _chance(annotations: Annotations, protocol: Protocol) -> dict[str, list[float]]:
    result = evaluate(chance_detections(annotations), annotations, protocol)
    return {"chance: uniformly placed proposals": result.mean_ap.tolist()}


def _spread(
    names: Sequence[str],
    found: Sequence[_Found],
    annotations: Annotations,
    rule: Protocol,
    resamples: int,
) -> dict[str, list[Interval]]:
    """Intervals of average mAP, and of the difference to the first run, paired by video."""
    out = {}
    for i, (name, f) in enumerate(zip(names, found, strict=True)):
        out[name] = [intervals(f.detections, annotations, rule, resamples=resamples).average]
        if i:
            pair = ([found[0].detections], [f.detections])
            out[name].append(differences(*pair, annotations, rule, resamples=resamples).average)
    return out


def _clear(found: _Found, videos: Sequence[str]) -> Detections:
    """What `weaktal.predict` would show of these videos."""
    least, _, notes = (None, None, ()) if found.run is None else least_shown(found.run, None)
    for note in notes:
        warnings.warn(note, CoverageWarning, stacklevel=3)
    classes = found.detections.classes
    parts = [clearest(found.detections, name, least) for name in videos]
    return Detections.concatenate([Detections.empty(videos, classes), *parts], classes)


def _thresholds(found: _Found, annotations: Annotations) -> list[dict[str, float]]:
    """What thresholds of a calibrated run cost and bring, in held-out videos and in those of the page."""
    calibration = None if found.run is None else read_calibration(found.run)
    if calibration is None:
        return []
    top = top_scores(found.detections, list(annotations.videos))
    present = np.array([[c in v.labels for c in range(len(annotations.classes))] for v in annotations], bool)
    absent = ~present & np.array([bool(v.complete) for v in annotations])[:, None]
    return [
        {
            "rate": rate,
            "threshold": point.threshold,
            "held_out": point.false_alarms,
            "held_out_videos": point.wrong_videos,
            "held_out_recall": point.recall,
            "segments": point.segments,
            "false_alarms": false_alarm_rate(top, absent, point.threshold),
            "wrong_videos": wrong_videos(top, absent, point.threshold),
            "recall": pair_recall(top, present, point.threshold),
        }
        for rate, point in calibration.table().items()
        if point is not None
    ]


def _what_is_shown(
    names: Sequence[str], found: Sequence[_Found], common: Detections, annotations: Annotations
) -> dict[str, dict[str, float]]:
    """How many segments runs show, and most of them together; how many are right, and what they find."""
    videos, instances = list(annotations.videos), len(annotations.instance_table())
    rows: dict[str, dict[str, float]] = {}
    every = {name: _clear(f, videos) for name, f in zip(names, found, strict=True)}
    for name, shown in (every | {f"more than half of the {len(found)} runs": common}).items():
        right = int((analyse(shown, annotations, rule="own-class-first").kind[0] == 0).sum())
        rows[name] = {
            "segments": len(shown),
            "precision": right / max(1, len(shown)),
            "recall": right / max(1, instances),
        }
    return rows


def _write_found(
    page: Path,
    title: str,
    facts: Mapping[str, str],
    annotations: Annotations,
    found: Sequence[_Found],
    drawn: Sequence[str],
    pictures: Mapping[str, list[str]],
) -> None:
    """The page of what was found where nobody knows what is there; of several runs, by most of them."""
    scores = {s.video: s for s in found[0].scores} if len(found) == 1 else {}
    clear = [_clear(f, drawn) for f in found]
    shown = clear[0] if len(found) == 1 else agreed(clear)
    if len(found) == 1:
        least, rate, _ = (None, None, ()) if found[0].run is None else least_shown(found[0].run, None)
        told = {**found[0].facts, "least score drawn": least_words(least, rate)}
    else:
        told = {"drawn": f"what more than half of the {len(found)} runs find; the score is their share"}
    segments.write(shown, page.with_name("segments.csv"))
    write_prediction_page(
        page,
        title=title,
        facts={**facts, "evaluation": "none, nobody annotated instances here", **told},
        detections=shown,
        durations={name: _duration(annotations, found[0].detections, scores, name) for name in drawn},
        scores=scores,
        thumbnails=pictures,
    )


def _duration(
    annotations: Annotations, detections: Detections, scores: Mapping[str, SnippetScores], name: str
) -> float:
    known = annotations.video(name).duration
    if known:
        return known
    ends = [float(detections.of(name).end.max(initial=0.0))]
    return max(ends + ([float(scores[name].axis.end)] if name in scores else [])) or 1.0


def _figures(
    folder: Path, format: str, annotations: Annotations, views: Sequence[RunView], drawn: Sequence[str]
) -> tuple[Path, ...]:
    from weaktal.report.figures import map_figure, save_figure, timeline_figure

    files = file_names(drawn, f".{format}")
    cuts = [best_cut(view, len(annotations.instance_table())) for view in views]
    written = [folder / f"map.{format}"]
    save_figure(map_figure(views), written[0])
    for name in drawn:
        written.append(folder / files[name])
        save_figure(timeline_figure(annotations, name, views, cuts), written[-1])
    return tuple(written)
