"""`weaktal predict`: raw video in, segments out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from weaktal.core import Detections, InputError, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_folder", type=Path, metavar="RUN", help="run directory of a trained method")
    add("videos", nargs="+", metavar="VIDEO", help="video files, or folders of them")
    add("--out", type=Path, required=True, help="folder for features, segments and the page")
    add("--backbone", help="default: the one of the features that the run was trained on")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the backbone (repeatable)",
    )
    add(
        "--threshold",
        type=float,
        help="least score in subtitles, EDL and page (default: 0.7 of a video's best)",
    )
    add("--chunk", type=float, metavar="SECONDS", help="pieces that the network sees (default: whole videos)")
    add("--workers", type=int, help="worker processes for the features (default: one per core)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def run(args: argparse.Namespace) -> int:
    from weaktal.cli.extract import extraction, options
    from weaktal.features.extract.driver import Job, LocalEngine, describe
    from weaktal.features.extract.videos import find_videos
    from weaktal.features.store import FeatureStore
    from weaktal.formats import save_detections
    from weaktal.formats.scores import save_scores
    from weaktal.train import Run
    from weaktal.train.loop import launch
    from weaktal.train.predict import Predictor, clearest, feature_difference

    opened = Run.open(args.run_folder)
    trained_on: dict[str, Any] = opened.config.data.get("features") or {}
    extractor = trained_on.get("extractor") or {}
    backbone = args.backbone or extractor.get("name") or trained_on.get("backbone")
    if backbone is None:
        raise InputError(
            "the run does not say which backbone its features are from",
            file=opened.folder / "config.yaml",
            hint="name it with --backbone, and its options with --set",
        )
    inherited = extractor.get("options", {}) if backbone == extractor.get("name") else {}
    job = Job(backbone, {**inherited, **options(args.set)})
    offered = describe(job)
    difference = feature_difference(trained_on, offered)
    if difference:
        raise InputError(
            "this run was trained on other features",
            file=opened.folder,
            found=difference,
            hint="set the backbone's options with --backbone and --set",
        )
    width = sum(offered["dims"].values())
    if width != opened.config.dim:
        raise InputError(
            "this run was trained on other features", found=f"width {width}", expected=opened.config.dim
        )
    if not extractor:
        print("what the run's features are from is not recorded in full: compared what is", file=sys.stderr)
    chunk = None if args.chunk is None else round(args.chunk * offered["rate"])
    predictor = Predictor(opened, launch(args.device).device, chunk=chunk)

    videos = find_videos(args.videos)
    report = extraction(videos, args.out / "features", job, LocalEngine(args.workers))
    usable = [o.name for o in report.outcomes if o.state != "failed"]
    detections, scores = [Detections.empty(usable, predictor.classes)], []
    store = FeatureStore.open(args.out / "features") if usable else None
    for name in usable:
        assert store is not None
        found, curve = predictor(name, store.load(name), store.axis(name))
        detections.append(found)
        if curve is not None:
            scores.append(curve)
    joined = Detections.concatenate(
        [Detections.empty(usable, predictor.classes), *detections], predictor.classes
    )
    save_detections(joined, args.out / "detections.json")
    save_detections(joined, args.out / "detections.csv")
    save_scores(scores, args.out / "scores.safetensors", predictor.classes)
    clear = Detections.concatenate(
        [clearest(joined, name, args.threshold) for name in usable], predictor.classes
    )
    files = {v.stem: v for v in videos}
    lengths = {o.name: o.seconds for o in report.outcomes}
    for name in usable:
        _write_cues(clear.of(name), name, files[name], args.out / "segments")
    _write_page(
        args.out / "report.html", args.run_folder, clear, scores, files, lengths, usable, args.threshold
    )
    for name in usable:
        _print_segments(clear.of(name), name)
    print(f"{len(joined)} detections in {len(usable)} videos: {args.out}", file=sys.stderr)
    return 2 if report["failed"] else 0


def _write_cues(kept: Detections, name: str, video: Path, folder: Path) -> None:
    from weaktal.features.extract.decode import VideoReader
    from weaktal.formats.cues import Cue, to_edl, to_srt, to_vtt

    rows = zip(kept.start, kept.end, kept.label, kept.score, strict=True)
    cues = [Cue(max(0.0, float(a)), float(b), f"{kept.classes[c]} ({s:.2f})") for a, b, c, s in rows]
    fps = VideoReader(video).info.fps or 25.0
    write_text(folder / f"{name}.srt", to_srt(cues))
    write_text(folder / f"{name}.vtt", to_vtt(cues))
    write_text(folder / f"{name}.edl", to_edl(cues, title=name, clip=video.name, fps=fps))


def _print_segments(kept: Detections, name: str) -> None:
    print(f"{name}: {len(kept)} clear segments")
    for a, b, c, s in zip(kept.start, kept.end, kept.label, kept.score, strict=True):
        print(f"  {a:8.2f} - {b:8.2f} s  {kept.classes[c]}  {s:.2f}")


def _write_page(
    path: Path,
    run: Path,
    clear: Detections,
    scores: list[Any],
    files: dict[str, Path],
    lengths: dict[str, float],
    names: list[str],
    threshold: float | None,
) -> None:
    from weaktal.cli.report import _pictures
    from weaktal.report.prediction import write_prediction_page
    from weaktal.train.predict import CLEAR

    least = f"{CLEAR:g} of the best in each video" if threshold is None else f"{threshold:.3g}"
    write_prediction_page(
        path,
        title=f"{run.name}: {len(names)} videos",
        facts={"run": str(run), "least score drawn": least},
        detections=clear,
        durations={n: lengths[n] for n in names},
        scores={s.video: s for s in scores},
        thumbnails={n: _pictures(files[n].parent, n) for n in names},
    )
