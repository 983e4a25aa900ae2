"""`weaktal report`."""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import Annotations, InputError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run directory, or a detections file")
    add("--out", type=Path, help="the page (default: report.html in the first run's directory)")
    add("--data", type=Path, help="data set description (default: the one that the first run was trained on)")
    add("--subset", default="test", help="role or name of the subset (default test)")
    add("--protocol", help="evaluation protocol (default: the data set's)")
    add("--video-folder", type=Path, metavar="DIR", help="folder of the videos, for pictures")
    add("--most", type=int, default=40, help="how many videos to draw (default 40)")
    add("--figures", type=Path, metavar="DIR", help="also write static figures there, for papers")
    add("--format", default="png", choices=("png", "svg", "pdf"), help="of the figures (default png)")
    add("--no-chance", action="store_true", help="leave the chance baseline out of the table")


def run(args: argparse.Namespace) -> int:
    from weaktal.dataset import Dataset
    from weaktal.evaluate import evaluate, get_protocol
    from weaktal.evaluate.baseline import chance_detections
    from weaktal.report import best_cut, run_view, write_report

    data = args.data or _described(args.runs)
    dataset = Dataset.load(data)
    annotations = dataset.subset(args.subset)
    protocol = get_protocol(args.protocol or dataset.protocol)
    names = _short_names(args.runs)
    views = [
        run_view(name, **_load(path, annotations, args.subset), annotations=annotations, protocol=protocol)
        for name, path in zip(names, args.runs, strict=True)
    ]
    baselines = {}
    if not args.no_chance:
        chance = evaluate(chance_detections(annotations), annotations, protocol)
        baselines["chance: uniformly placed proposals"] = chance.mean_ap.tolist()
    folder = args.video_folder or dataset.videos
    drawn = list(annotations.videos)[: max(0, args.most)]
    pictures = {n: _pictures(folder, n) for n in drawn} if folder is not None else {}
    out = args.out or _default_out(args.runs[0])
    table = annotations.instance_table()
    write_report(
        out,
        annotations,
        views,
        title=f"{dataset.name}: " + " and ".join(names),
        facts={
            "data": str(data),
            "subset": f"{args.subset}, {len(annotations)} videos, {len(table)} instances, "
            f"{len(annotations.classes)} classes",
            "protocol": f"{protocol.name} (version {protocol.version})",
        },
        videos=drawn,
        thumbnails=pictures,
        baselines=baselines,
    )
    print(f"report: {out}", file=sys.stderr)
    if args.figures:
        from weaktal.report.figures import map_figure, save_figure, timeline_figure

        cuts = [best_cut(v, len(table)) for v in views]
        save_figure(map_figure(views), args.figures / f"map.{args.format}")
        for name in drawn:
            save_figure(
                timeline_figure(annotations, name, views, cuts), args.figures / f"{name}.{args.format}"
            )
        print(f"figures: {args.figures}", file=sys.stderr)
    return 0


def _described(runs: Sequence[Path]) -> Path:
    from weaktal.train.run import Run

    for path in runs:
        if path.is_dir() and (found := Run.open(path).config.data.get("path")):
            return Path(found)
    raise InputError("no data set: name its description with --data")


def _default_out(run: Path) -> Path:
    return (run if run.is_dir() else run.parent) / "report.html"


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as tell them apart."""
    for depth in range(1, 8):
        names = ["/".join((p.parent / p.stem if p.is_file() else p).parts[-depth:]) for p in runs]
        if len(set(names)) == len(names):
            return names
    raise InputError("the same run is named twice", found=", ".join(map(str, runs)))


def _load(path: Path, annotations: Annotations, subset: str) -> dict[str, Any]:
    """Detections, scores and facts of a run directory or a detections file."""
    from weaktal.formats import load_detections
    from weaktal.formats.scores import load_scores

    if not path.is_dir():
        found = load_detections(path)
        return {"detections": _known(found, annotations, path), "facts": {"detections file": str(path)}}
    from weaktal.methods import find_method
    from weaktal.train.run import Run

    opened = Run.open(path)
    detections_path = path / "detections.json"
    if not detections_path.exists():
        raise InputError(
            "this run has no detections yet",
            file=path,
            hint=f"first: weaktal localize {path} --subset {subset}",
        )
    config = opened.config
    scores_path = path / "scores" / f"{subset}.safetensors"
    scores, _ = load_scores(scores_path) if scores_path.exists() else ([], ())
    return {
        "detections": _known(load_detections(detections_path), annotations, detections_path),
        "scores": scores,
        "facts": {
            "method": config.method,
            "supervision": f"{find_method(config.method).supervision}-level",
            "recipe": config.recipe or "defaults",
            "seed": str(config.seed),
            "checkpoint": "last" if config.training.choose == "last" else "best on the test set",
        },
    }


def _known(found: Any, annotations: Annotations, path: Path) -> Any:
    for name in found.classes:
        if name not in annotations.classes:
            raise InputError(
                "unknown class", file=path, found=repr(name), hint=did_you_mean(name, annotations.classes)
            )
    return found.relabelled(annotations.classes)


def _pictures(folder: Path, name: str, count: int = 14, height: int = 54) -> list[str]:
    """Small pictures evenly along a video, as data URLs; none where the video or a decoder is missing."""
    from weaktal.features.extract.videos import SUFFIXES

    file = next((f for s in sorted(SUFFIXES) if (f := folder / f"{name}{s}").exists()), None)
    if file is None:
        return []
    try:
        import cv2

        from weaktal.features.extract.decode import VideoReader
    except ImportError:
        return []
    reader = VideoReader(file, short_side=height)
    if not reader.info.duration:
        return []
    reader = VideoReader(file, rate=count / reader.info.duration, short_side=height)
    out = []
    for _, frame in zip(range(count), reader, strict=False):
        ok, data = cv2.imencode(
            ".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 70]
        )
        if ok:
            out.append("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode())
    return out
