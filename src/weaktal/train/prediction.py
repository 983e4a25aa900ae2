"""Raw video in, segments out: what `weaktal predict` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from weaktal.core import CoverageWarning, Detections, InputError, SnippetScores, file_name, write_text
from weaktal.core.printable import printable
from weaktal.features.extract.backbone import BUILT_IN
from weaktal.features.extract.driver import Job, LocalEngine
from weaktal.features.extract.driver import extract as run_job
from weaktal.features.extract.extraction import Progress, described_job, watching
from weaktal.features.extract.limits import Limits
from weaktal.features.extract.pictures import video_pictures
from weaktal.features.extract.videos import find_videos
from weaktal.features.store import FeatureStore
from weaktal.formats import save_detections, segments
from weaktal.formats.cues import Cue, to_edl, to_srt, to_vtt
from weaktal.formats.scores import save_scores
from weaktal.report.prediction import write_prediction_page
from weaktal.train.calibration import Per, least_shown, least_words
from weaktal.train.loop import launch
from weaktal.train.predict import clearest, feature_difference, predictor_of
from weaktal.train.run import Run

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was found in videos.

    Attributes:
        detections: all of them.
        clear: those worth reading, see `weaktal.train.predict.clearest`: per video in order of time, none
            over another.
        scores: snippet scores, one per video, where the method has them.
        durations: the videos that could be read, in order, with their seconds.
        failed: the videos that could not, with the reason.
        out: the folder of all files.
        notes: what to know about it.
        least: least score of a clear segment; None where each video has its own.
        false_alarms: the rate that this score stands for, see `weaktal.calibrate`; None without one.
    """

    detections: Detections
    clear: Detections
    scores: tuple[SnippetScores, ...]
    durations: Mapping[str, float]
    failed: Mapping[str, str]
    out: Path
    notes: tuple[str, ...] = ()
    least: float | None = None
    false_alarms: float | None = None

    @property
    def videos(self) -> tuple[str, ...]:
        """The videos that could be read."""
        return tuple(self.durations)

    def __str__(self) -> str:
        """The clear segments, video by video."""
        lines = []
        for name in self.videos:
            kept = self.clear.of(name)
            lines.append(f"{name}: {len(kept)} clear segments" if len(kept) else f"{name}: nothing found")
            lines += [
                f"  {a:8.2f} - {b:8.2f} s  {kept.classes[c]}  {s:.2f}"
                for a, b, c, s in zip(kept.start, kept.end, kept.label, kept.score, strict=True)
            ]
        return "\n".join(lines)


def predict(
    run: Run | PathLike,
    videos: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
    threshold: float | None = None,
    false_alarms: float | Literal["off"] | None = None,
    per: Per = "video",
    chunk: float | None = None,
    workers: int | None = None,
    device: str = "auto",
    limits: Limits | None = None,
    progress: bool | Progress = False,
) -> Prediction:
    """Segments of videos by a trained run; a video that cannot be read is told in the result, others go on.

    Writes into `out`: ``features/``, ``detections.json`` and ``.csv``, ``scores.safetensors``, the clear
    segments as ``segments.csv`` and in ``segments/`` (SubRip, WebVTT and EDL), and ``report.html``.

    Args:
        run: the run, or its directory.
        videos: files, or folders of them.
        out: the folder.
        backbone: of the features; default the one that the run was trained on, as far as it is one of ours
            (what a run's files name is never loaded as code).
        options: of the backbone, in place of those that the run was trained with.
        threshold: least score of a clear segment; default that of `false_alarms`.
        false_alarms: the share of the videos that may show any class which does not occur in them, above 0
            and below 1. Default 0.05 for a run that has a calibration which can promise that (see
            `weaktal.calibrate`); others, and "off", show what has 0.7 of the best score in each video.
        per: "class" if that rate is to be the mean over classes of the share of the videos without the class
            that show it; more is shown, the more so the more classes there are.
        chunk: seconds that the network sees at once; default whole videos, see `weaktal.train.predict`.
        workers: processes for the features, default one per core.
        device: where the network runs, see `weaktal.train.loop.launch`.
        limits: what a video may ask of us, see `weaktal.features.extract.limits`.
        progress: of the features, see `weaktal.features.extract.extraction.extract`.

    Raises:
        InputError: no run, other features than the run was trained on, no video; a rate of false alarms
            that no calibration of the run can promise, or one beside a threshold.

    Warns:
        CoverageWarning: a video whose features could be made, and that is left out all the same.
    """
    run, out = Run.open(run), Path(out)
    if threshold is not None and false_alarms is not None:
        raise InputError("a threshold, or a rate of false alarms that decides it, not both")
    least, alarms, told = (
        least_shown(run, false_alarms, per) if threshold is None else (threshold, None, tuple[str, ...]())
    )
    job, rate, notes = _job(run, backbone, options or {}, limits)
    notes += told
    pieces = None if chunk is None else round(chunk * rate)
    predictor = predictor_of(run, launch(device).device, chunk=pieces)
    given = [videos] if isinstance(videos, str | os.PathLike) else videos
    files = {file.stem: file for file in find_videos(given)}
    with watching(len(files), progress) as tell:
        report = run_job(
            list(files.values()), out / "features", job, engine=LocalEngine(workers), progress=tell
        )
    failed = {o.name: o.error or "it failed" for o in report["failed"]}
    durations: dict[str, float] = {}
    found: list[Detections] = []
    scores: list[SnippetScores] = []
    clocks: dict[str, Mapping[str, Any]] = {}
    usable = [o for o in report.outcomes if o.state != "failed"]
    store = FeatureStore.open(out / "features") if usable else None
    for outcome in usable:
        assert store is not None
        name = outcome.name
        try:
            clocks[name] = store.about(name).get("timing") or _timing(files[name])
            detections, curve = predictor(name, store.load(name), store.axis(name))
        except InputError as error:
            failed[name] = str(error)
            warnings.warn(f"{files[name]} is left out: {error}", CoverageWarning, stacklevel=2)
            continue
        durations[name] = outcome.seconds
        found.append(detections)
        if curve is not None:
            scores.append(curve)
    names, classes = list(durations), predictor.classes
    joined = Detections.concatenate([Detections.empty(names, classes), *found], classes)
    clear = Detections.concatenate(
        [Detections.empty(names, classes), *(clearest(joined, name, least) for name in names)], classes
    )
    save_detections(joined, out / "detections.json")
    # a table holds no name with a line break in it; one odd name must not cost the others their table
    plain = [name for name in names if printable(name) == name]

    def of_plain(found: Detections) -> Detections:
        if len(plain) == len(names):
            return found
        parts = [Detections.empty(plain, classes), *(found.of(name) for name in plain)]
        return Detections.concatenate(parts, classes)

    save_detections(of_plain(joined), out / "detections.csv")
    segments.write(of_plain(clear), out / "segments.csv")
    if len(plain) < len(names):
        notes += (
            f"{len(names) - len(plain)} videos are in detections.json alone: no table holds their names",
        )
    save_scores(scores, out / "scores.safetensors", classes)
    for name in names:
        _write_cues(clear.of(name), name, files[name], clocks[name], out / "segments")
    write_prediction_page(
        out / "report.html",
        title=f"{run.folder.name}: {len(names)} videos",
        facts={"run": str(run.folder), "least score drawn": least_words(least, alarms, per)},
        detections=clear,
        durations=durations,
        scores={s.video: s for s in scores},
        thumbnails={name: _pictures(files[name]) for name in names},
    )
    return Prediction(joined, clear, tuple(scores), durations, failed, out, notes, least, alarms)


def _job(
    run: Run, backbone: str | None, options: Mapping[str, Any], limits: Limits | None
) -> tuple[Job, float, tuple[str, ...]]:
    """The extraction that makes the features which the run was trained on, its rate, and remarks."""
    trained_on: dict[str, Any] = run.config.data.get("features") or {}
    extractor = trained_on.get("extractor") or {}
    config = run.folder / "config.yaml"
    recorded = extractor.get("name") or trained_on.get("backbone")
    name = backbone or recorded
    if name is None:
        raise InputError(
            "the run does not say which backbone its features are from",
            file=config,
            hint="name it with --backbone, and its options with --set",
        )
    if backbone is None and name not in BUILT_IN:
        raise InputError(
            "the run's features are from a backbone that is not one of ours, and code is not loaded because "
            "a file names it",
            file=config,
            found=repr(name),
            hint="if you trust that code, name it with --backbone",
        )
    inherited = extractor.get("options", {}) if name == extractor.get("name") else {}
    job, offered = described_job(name, {**inherited, **options}, limits, trusted=backbone is not None)
    difference = feature_difference(trained_on, offered)
    if difference:
        raise InputError(
            "this run was trained on other features",
            file=run.folder,
            found=difference,
            hint="set the backbone's options with --backbone and --set",
        )
    width = sum(offered["dims"].values())
    if width != run.config.dim:
        raise InputError(
            "this run was trained on other features", found=f"width {width}", expected=run.config.dim
        )
    if extractor:
        return job, offered["rate"], ()
    return (
        job,
        offered["rate"],
        ("what the run's features are from is not recorded in full: compared what is",),
    )


def _timing(video: Path) -> Mapping[str, Any]:
    from weaktal.features.extract.decode import VideoReader

    return VideoReader(video).timing


def _pictures(video: Path) -> list[str]:
    """Pictures are an ornament: a video that gives none is no error."""
    try:
        return video_pictures(video)
    except InputError:
        return []


def _write_cues(kept: Detections, name: str, video: Path, clock: Mapping[str, Any], folder: Path) -> None:
    rows = zip(kept.start, kept.end, kept.label, kept.score, strict=True)
    cues = [Cue(max(0.0, float(a)), float(b), f"{kept.classes[c]} ({s:.2f})") for a, b, c, s in rows]
    write_text(folder / file_name(name, ".srt"), to_srt(cues))
    write_text(folder / file_name(name, ".vtt"), to_vtt(cues))
    edl = to_edl(
        cues,
        title=name,
        clip=video.name,
        fps=float(clock["fps"]),
        constant=clock.get("rate") is not None,
        start=clock.get("timecode"),
    )
    write_text(folder / file_name(name, ".edl"), edl)
