"""`weaktal data inspect`, `weaktal data convert` and `weaktal data simulate-points`."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, Detections, InputError, Video, write_text
from weaktal.dataset import Coverage, Dataset
from weaktal.features.check import Finding, inspect_features
from weaktal.features.pack import write_pack
from weaktal.features.store import FeatureStore, write_video_features
from weaktal.formats import PointTable, activitynet, activitynet_detections, csv_detections, wtalc
from weaktal.formats.reading import read_json, read_text
from weaktal.formats.simulated_points import simulate_points

FEATURE_FORMATS = ("pack", "safetensors", "npy")
FORMATS = {
    "annotations": formats.ANNOTATION_FORMATS,
    "detections": formats.DETECTION_FORMATS,
    "points": formats.POINT_FORMATS,
    "features": FEATURE_FORMATS,
}
KINDS = (*FORMATS, "ignored", "dataset")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    look = actions.add_parser("inspect", help="what is there, and what is wrong with it")
    look.add_argument(
        "path", type=Path, help="a data set description, or annotations, detections, features, ..."
    )
    look.add_argument("--quick", action="store_true", help="headers only: do not read feature values")
    look.add_argument("--json", type=Path, metavar="FILE", help="the same for programs")
    turn = actions.add_parser("convert", help="from one format to another")
    turn.add_argument("source", type=Path, metavar="SRC")
    turn.add_argument("target", type=Path, metavar="DST")
    known = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in FORMATS.items())
    turn.add_argument(
        "--from", dest="kind", choices=tuple(FORMATS), help="what SRC holds, where looking is not enough"
    )
    turn.add_argument("--to", metavar="FORMAT", help=f"by the suffix of DST without it ({known})")
    click = actions.add_parser("simulate-points", help="clicks for studies, drawn from full annotations")
    click.add_argument(
        "source", type=Path, metavar="ANNOTATIONS", help="a data set description or annotations"
    )
    click.add_argument(
        "target", type=Path, metavar="TXT", help="clicks as text; it says that they are simulated"
    )
    click.add_argument("--kind", choices=("gaussian", "uniform"), default="gaussian", help="default gaussian")
    click.add_argument("--sigma", type=float, default=0.2, help="of gaussian, as a share of the length (0.2)")
    click.add_argument("--per-instance", type=int, default=1, metavar="N", help="clicks per instance (1)")
    click.add_argument("--seed", type=int, default=0)
    click.add_argument("--subset", help="only this subset, by the annotations' word for it")
    for sub in (look, turn):
        sub.add_argument(
            "--annotations", type=Path, metavar="FILE", help="durations and frame rates of the videos"
        )
        sub.add_argument("--fps", help="frame rate of the original videos, or a JSON table of them")
        sub.add_argument("--rate", type=float, help="features: snippets per second")
        sub.add_argument("--names", type=Path, metavar="NPY", help="features: videoname.npy of a joint array")
        sub.add_argument("--prefix", default="", help="features: what file names have before video names")


def run(args: argparse.Namespace) -> int:
    """Inspect or convert."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        if args.action == "inspect":
            about, lines = inspect(args)
        elif args.action == "simulate-points":
            about, lines = {}, [simulate(args)]
        else:
            about, lines = {}, [convert(args)]
    said = [str(w.message) for w in caught if issubclass(w.category, CoverageWarning)]
    print("\n".join([*lines, *(f"! {text}" for text in said)]))
    if getattr(args, "json", None) is not None:
        write_text(args.json, json.dumps(about | {"warnings": said}, indent=1) + "\n")
    return 0


# ---------------------------------------------------------------------------------------- looking


def kind_of(path: Path) -> str:
    """What a path holds, found by looking: one of `KINDS`."""
    if not path.exists():
        raise InputError("no such file or folder", file=path)
    if path.is_dir():
        return "annotations" if wtalc.looks_like(path) else "features"
    if path.suffix in (".yaml", ".yml"):
        return "dataset"
    if path.name == "pack.json" or path.suffix in (".npy", ".h5", ".hdf5"):
        return "features"
    text = read_text(path)
    if path.suffix == ".json" or text.lstrip()[:1] == "{":
        document = read_json(path)
        if activitynet_detections.looks_like(document):
            return "detections"
        if activitynet.looks_like(document):
            return "annotations"
        raise InputError(
            "neither annotations nor detections", file=path, expected="a key 'database' or 'results'"
        )
    line = next((line for line in text.splitlines() if line.strip()), "")
    cells = {cell.strip() for cell in line.split(",")}
    if "point" in cells or line.startswith("# simulated"):
        return "points"
    if cells & set(csv_detections.COLUMNS["score"]):
        return "detections"
    if cells & {"label", "class"}:
        return "annotations"
    if re.match(r"[^,]+,\s*[\d.eE+-]+\s*,.", line):
        return "points"
    if re.search(r"\S\s+[\d.eE+-]+\s+[\d.eE+-]+\s*$", line):
        return "ignored"
    raise InputError(
        "not a file that WeakTAL knows",
        file=path,
        field="line 1",
        found=repr(line[:60]),
        expected="annotations, detections, clicks, ambiguous intervals, features or a description",
    )


def inspect(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """What is at a path: for programs, and for people."""
    path, kind = args.path, kind_of(args.path)
    about: dict[str, Any] = {"path": str(path), "kind": kind}
    lines = [f"{path}: {kind}"]
    if kind == "dataset":
        data = Dataset.load(path)
        about |= {"name": data.name, "protocol": data.protocol}
        lines += [f"  name {data.name}, protocol {data.protocol}"]
        if data.annotations is not None:
            _annotations(data.annotations, about, lines)
        if data.features:
            _features(data.store, data.annotations, args.quick, about, lines)
    elif kind == "annotations":
        _annotations(formats.load_annotations(path), about, lines)
    elif kind == "detections":
        _detections(formats.load_detections(path), about, lines)
    elif kind == "points":
        table = formats.load_points(path, fps=_fps(args) or 1.0, annotations=_annotated(args))
        about |= {"videos": len(table.names), "points": len(table), "classes": list(table.classes)}
        lines.append(f"  {len(table)} clicks in {len(table.names)} videos, {len(table.classes)} classes")
        if table.origin:
            about["origin"] = table.origin
            lines.append(f"! {table.origin}")
    elif kind == "ignored":
        ignored = formats.load_ignored(path)
        count = sum(map(len, ignored.values()))
        about |= {"videos": len(ignored), "intervals": count}
        lines.append(f"  {count} ambiguous intervals in {len(ignored)} videos")
    else:
        _features(_store(args, path), _annotated(args), args.quick, about, lines)
    return about, lines


def _annotated(args: argparse.Namespace) -> Annotations | None:
    return None if args.annotations is None else formats.load_annotations(args.annotations, fps=_fps(args))


def _fps(args: argparse.Namespace) -> Any:
    if args.fps is None:
        return None
    try:
        return formats.load_fps(float(args.fps))
    except ValueError:
        return formats.load_fps(args.fps)


def _store(args: argparse.Namespace, path: Path) -> FeatureStore:
    return FeatureStore.open(path, args.rate, args.names, prefix=args.prefix)


def _annotations(annotations: Annotations, about: dict[str, Any], lines: list[str]) -> None:
    table = annotations.instance_table()
    points = sum(len(v.points) for v in annotations if v.points is not None)
    ignored = sum(len(v.ignored) for v in annotations)
    subsets: dict[str, Any] = {}
    summary: dict[str, Any] = {
        "videos": len(annotations),
        "instances": len(table),
        "classes": list(annotations.classes),
        "points": points,
        "ignored": ignored,
        "subsets": subsets,
    }
    about["annotations"] = summary
    lines.append(
        f"annotations: {len(annotations)} videos, {len(table)} instances, "
        f"{len(annotations.classes)} classes, {points} clicks, {ignored} ambiguous intervals"
    )
    for name in (*annotations.subsets, None):
        part = annotations.where(lambda v, name=name: v.subset == name)  # type: ignore[misc]
        if not len(part):
            continue
        hours = sum(v.duration or 0 for v in part) / 3600
        count = len(part.instance_table())
        subsets[str(name)] = {"videos": len(part), "instances": count, "hours": hours}
        long = f", {hours:.1f} h" if hours else ""
        lines.append(f"  {name or 'no subset'}: {len(part)} videos, {count} instances{long}")
    roles = {}
    for role in ("train", "test"):
        try:
            roles[role] = formats.subset_name(annotations, role)
        except InputError:
            continue
    if roles:
        summary["roles"] = roles
        lines.append("  taken as " + ", ".join(f"{role}: {name}" for role, name in roles.items()))
    _say(_doubts(annotations), summary, lines)


def _doubts(annotations: Annotations) -> list[Finding]:
    """What may be wrong with annotations."""
    rules: list[tuple[str, Callable[[Any], bool], str | None]] = [
        (
            "instances without length",
            lambda v: bool((v.instances.end == v.instances.start).any()),
            "never matched",
        ),
        (
            "instances that end after the video",
            lambda v: v.duration is not None and bool((v.instances.end > v.duration + 1).any()),
            "durations of another cut?",
        ),
        ("instances that start before 0", lambda v: bool((v.instances.start < 0).any()), None),
        (
            "video-level labels that are not the annotated classes",
            lambda v: len(v.instances) > 0 and set(v.labels) != set(v.instances.label.tolist()),
            "the video-level labels train, the instances evaluate",
        ),
        ("no label at all", lambda v: not v.labels, "cannot be trained on"),
    ]
    found = [(what, tuple(v.name for v in annotations if bad(v)), hint) for what, bad, hint in rules]
    doubts = [
        Finding(f"{len(names)} videos with {what}", names, hint) for what, names, hint in found if names
    ]
    present = set(np.unique(annotations.instance_table().label).tolist())
    bare = [c for i, c in enumerate(annotations.classes) if i not in present]
    if bare and present:
        doubts.append(Finding(f"{len(bare)} classes without an instance", tuple(bare)))
    return doubts


def _detections(detections: Detections, about: dict[str, Any], lines: list[str]) -> None:
    about |= {
        "videos": len(detections.names),
        "detections": len(detections),
        "classes": list(detections.classes),
    }
    lines.append(
        f"  {len(detections)} detections in {len(detections.names)} videos, {len(detections.classes)} classes"
    )
    if not len(detections):
        return
    low, high = float(detections.score.min()), float(detections.score.max())
    about |= {"scores": [low, high]}
    lines.append(f"  scores from {low:.4g} to {high:.4g}, segments up to {detections.end.max():.2f} s")
    empty = int((detections.end == detections.start).sum())
    if empty:
        lines.append(f"! {empty} detections without length: they match nothing")


def _features(
    store: FeatureStore,
    annotations: Annotations | None,
    quick: bool,
    about: dict[str, Any],
    lines: list[str],
) -> None:
    videos = () if annotations is None else tuple(annotations)
    report = inspect_features(
        store,
        {v.name: v.duration for v in videos if v.duration is not None},
        {v.name: v.fps for v in videos if v.fps is not None},
        quick=quick,
    )
    lengths = report.lengths
    made = store.provenance
    summary = {
        "provenance": made,
        "videos": report.videos,
        "snippets": report.snippets,
        "implied_rate": report.implied_rate,
        "compared": report.compared,
        "values_checked": not quick,
    }
    about["features"] = summary
    width = " + ".join(map(str, store.streams)) + (
        f", mean of {store.crops} crops" if store.crops > 1 else ""
    )
    rate = "unknown" if store.rate is None else f"{store.rate:g} snippets per second"
    lines.append(f"features: {store.layout.kind} at {store.path}")
    lines.append(f"  {report.videos} videos, {report.snippets} snippets, width {width}, rate {rate}")
    if len(lengths):
        lines.append(
            f"  {lengths.min()} to {lengths.max()} snippets a video, median {np.median(lengths):.0f}"
            + ("" if quick else "; every value is finite" * (not report.findings))
        )
    if report.implied_rate is not None:
        lines.append(
            f"  {report.compared} lengths held against durations: they imply {report.implied_rate:.4g} "
            "snippets per second"
        )
    shown = ("layout", "rate", "dims", "crops", "format")
    said = {k: v for k, v in made.items() if k not in shown and v not in (None, 0.0)}
    if said:
        lines.append("  made with " + ", ".join(f"{k}={v}" for k, v in sorted(said.items())))
    _say(report.findings, summary, lines)
    if annotations is not None:
        coverage = Coverage.of(annotations, annotations, store)
        about["coverage"] = coverage.as_dict()
        lines.append(f"coverage: {coverage}")
        if coverage.without_features and len(coverage.usable) < 0.9 * len(annotations):
            lines.append("! a reduced set of features: results are not comparable with the full set")


def _say(findings: list[Finding], summary: dict[str, Any], lines: list[str]) -> None:
    summary["findings"] = [{"what": f.what, "videos": list(f.videos), "hint": f.hint} for f in findings]
    lines += [f"! {finding}" for finding in findings]


# -------------------------------------------------------------------------------------- converting


def convert(args: argparse.Namespace) -> str:
    """Read SRC, write DST, read that again and say what its format could not hold."""
    source, target = args.source, args.target
    kind = args.kind or kind_of(source)
    if kind not in FORMATS:
        raise InputError("this is not converted", file=source, found=kind, expected=" or ".join(FORMATS))
    if args.to is not None and args.to not in FORMATS[kind]:
        raise InputError(
            f"no format for {kind}", field="--to", found=repr(args.to), expected=" or ".join(FORMATS[kind])
        )
    if target.exists() and target.resolve() == source.resolve():
        raise InputError("source and target are the same", file=target)
    if kind == "annotations":
        annotations = formats.load_annotations(source, fps=_fps(args))
        formats.save_annotations(annotations, target, args.to)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)
            lost = _lost(annotations, formats.load_annotations(target))
        return f"{target}: {len(annotations)} videos" + (f"; not held by this format: {lost}" if lost else "")
    if kind == "detections":
        detections = formats.load_detections(source)
        formats.save_detections(detections, target, args.to)
        return f"{target}: {len(detections)} detections"
    if kind == "points":
        return _convert_points(args)
    return _convert_features(args)


def _lost(before: Annotations, after: Annotations) -> str:
    """What differs between two annotations of the same videos, in words."""
    lost = [] if before.classes == after.classes else ["the order of classes"]
    pairs = [(_facts(before, v), _facts(after, after.videos[v.name])) for v in before]
    lost += [key for key in (pairs[0][0] if pairs else ()) if any(a[key] != b[key] for a, b in pairs)]
    return ", ".join(lost)


def _facts(annotations: Annotations, video: Video) -> dict[str, Any]:
    """A video with class names in place of indices."""
    names, points = annotations.classes, video.points
    return {
        "subset": video.subset,
        "duration": video.duration,
        "frame rate": video.fps,
        "clicks": None
        if points is None
        else [(t, names[c]) for t, c in zip(points.time, points.label, strict=True)],
        "video-level labels": {names[c] for c in video.labels},
        "ambiguous intervals": video.ignored.tolist(),
    }


def _convert_points(args: argparse.Namespace) -> str:
    fps, annotations = _fps(args), _annotated(args)
    table: PointTable = formats.load_points(args.source, fps=fps, annotations=annotations)
    to = args.to or ("point-csv" if args.target.suffix == ".csv" else "sfnet")
    if to == "sfnet":
        formats.sfnet_points.write(table, args.target)
    else:
        if fps is None and annotations is not None:
            fps = {v.name: v.fps for v in annotations if v.fps is not None}
        if fps is None:
            raise InputError("clicks in frames need a frame rate", file=args.target, hint="add --fps")
        formats.point_csv.write(table, args.target, fps, () if annotations is None else annotations.classes)
    return f"{args.target}: {len(table)} clicks in {len(table.names)} videos"


def simulate(args: argparse.Namespace) -> str:
    """Write simulated clicks."""
    if args.source.suffix in (".yaml", ".yml"):
        annotations = Dataset.load(args.source).annotations
    else:
        annotations = formats.load_annotations(args.source)
    if annotations is None:
        raise InputError("clicks are drawn from annotations, and there are none", file=args.source)
    if args.subset is not None:
        annotations = annotations.subset(args.subset)
    try:
        table = simulate_points(
            annotations, args.kind, per_instance=args.per_instance, sigma=args.sigma, seed=args.seed
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    formats.sfnet_points.write(table, args.target)
    return f"{args.target}: {len(table)} clicks in {len(table.names)} videos, {table.origin}"


def _convert_features(args: argparse.Namespace) -> str:
    store, target = _store(args, args.source), args.target
    to = args.to or "pack"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError("the target exists and is not an empty folder", file=target)
    if to == "pack":
        write_pack(store, target)
    else:
        if to == "safetensors" and store.rate is None:
            raise InputError("the rate of these features is not known", file=args.source, hint="add --rate")
        with _whole_folder(target) as folder:
            for name in store.names:
                _write_video(store, name, folder, to)
    return f"{target}: {len(store)} videos, {sum(store.length(n) for n in store.names)} snippets"


def _write_video(store: FeatureStore, name: str, folder: Path, to: str) -> None:
    rows = store.load(name)
    if to == "npy":
        np.save(folder / f"{name}.npy", rows)
        return
    assert store.rate is not None
    edge = np.cumsum([0, *store.streams])
    streams = ("rgb", "flow") if len(store.streams) == 2 else ("features",)
    parts = {k: rows[:, a:b] for k, a, b in zip(streams, edge, edge[1:], strict=False)}
    said = store.provenance | store.about(name)
    keep = {k: v for k, v in said.items() if k not in ("rate", "offset", "layout", "dims", "format")}
    write_video_features(folder / f"{name}.safetensors", parts, rate=store.rate, offset=store.offset, **keep)


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder that appears when everything in it is written, and not at all on an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield partial
        partial.chmod(0o755)
        if target.exists():
            target.rmdir()  # it is empty
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
