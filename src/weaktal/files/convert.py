"""From one file format to another."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, InputError, Points, Video
from weaktal.dataset import Dataset
from weaktal.features.layouts import stored_names
from weaktal.features.pack import reread, write_pack
from weaktal.features.store import FeatureStore, write_video_features
from weaktal.files.inspection import annotated
from weaktal.files.kinds import FORMATS, kind_of
from weaktal.formats import exchange, pseudo_labels
from weaktal.formats.gather import whole_folder
from weaktal.formats.simulated_points import simulate_points

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        path: the new file or folder.
        kind: "annotations", "detections", "points" or "features".
        counts: how much of what, such as {"videos": 3, "snippets": 90}, in the order of telling.
        lost: what the new format could not hold, in words; empty where it holds everything.
        origin: of simulated clicks, that they are.
    """

    path: Path
    kind: str
    counts: dict[str, int]
    lost: tuple[str, ...] = ()
    origin: str | None = None

    def __str__(self) -> str:
        joint = " in " if self.kind == "points" else ", "
        text = f"{self.path}: " + joint.join(f"{n} {what}" for what, n in self.counts.items())
        if self.origin:
            text += f", {self.origin}"
        return text + (f"; not held by this format: {', '.join(self.lost)}" if self.lost else "")


def convert(
    source: PathLike,
    target: PathLike,
    *,
    kind: str | None = None,
    to: str | None = None,
    annotations: PathLike | Annotations | None = None,
    fps: PathLike | formats.Fps | None = None,
    rate: float | None = None,
    names: PathLike | None = None,
    prefix: str = "",
    suffix: str = "",
    threshold: float | None = None,
    top: int | None = None,
) -> Converted:
    """Read `source`, write `target`; of annotations, read that again and say what its format cannot hold.

    Args:
        source: annotations, detections, clicks or features, a file or a folder.
        target: file or folder to write; of features, a folder that is new or empty.
        kind: what `source` holds, a key of `weaktal.files.FORMATS`, or the format of its annotations, where
            looking is not enough.
        to: one of the formats of that kind; by the suffix of `target` without it.
        annotations: of clicks, the videos' frame rates and the order of classes; of detections, what pseudo
            labels say of the videos.
        fps: frame rate of the original videos, a table of them, or a JSON file with that table.
        rate, names, prefix, suffix: of features, see `weaktal.files.inspect`.
        threshold, top: of detections, only these, see `weaktal.formats.pseudo_labels.confident`.

    Raises:
        InputError: unreadable, no such format, `source` is `target`, or the target folder is not empty.

    Warns:
        CoverageWarning: what `weaktal.formats.load_annotations` warns of.
    """
    source, target = Path(source), Path(target)
    format = kind if kind in FORMATS["annotations"] else None
    kind = "annotations" if format else kind or kind_of(source)
    if kind not in FORMATS:
        raise InputError("this is not converted", file=source, found=kind, expected=" or ".join(FORMATS))
    if to is not None and to not in FORMATS[kind]:
        raise InputError(
            f"no format for {kind}", field="--to", found=repr(to), expected=" or ".join(FORMATS[kind])
        )
    if target.exists() and target.resolve() == source.resolve():
        raise InputError("source and target are the same", file=target)
    if kind == "annotations":
        # clicks that the app gives to segments are for training; other tools get what people said
        derived = (to or exchange.BY_SUFFIX.get(target.suffix.lower())) not in exchange.FORMATS
        found = formats.load_annotations(source, fps=fps, format=format, derived=derived)
        formats.save_annotations(found, target, to)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)
            lost = _lost(found, _read_back(found, target, to))
        return Converted(target, kind, {"videos": len(found)}, lost)
    if kind == "detections":
        detections, about = formats.load_detections(source), annotated(annotations, fps)
        if threshold is not None or top is not None or to in pseudo_labels.LAYOUTS:
            detections = pseudo_labels.confident(detections, about, threshold=threshold, top=top)
        if to in pseudo_labels.LAYOUTS:
            pseudo_labels.write(detections, target, to, about)
        else:
            formats.save_detections(detections, target, to)
        return Converted(target, kind, {"detections": len(detections)})
    if kind == "points":
        rates = None if fps is None else formats.load_fps(fps)
        return _convert_points(source, target, to, rates, annotated(annotations, fps))
    return _convert_features(
        FeatureStore.open(source, rate, names, prefix=prefix, suffix=suffix), source, target, to
    )


def simulate_clicks(
    source: PathLike,
    target: PathLike,
    *,
    kind: Literal["gaussian", "uniform"] = "gaussian",
    sigma: float = 0.2,
    per_instance: int = 1,
    seed: int = 0,
    subset: str | None = None,
) -> Converted:
    """Draw clicks from full annotations, for studies, and write them as text that says they are simulated.

    Args:
        source: a data set description or annotations.
        target: the text file.
        kind: how clicks lie in an instance.
        sigma: of "gaussian", as a share of the instance's length.
        per_instance: clicks per instance.
        seed: of the drawing.
        subset: only of this subset, by the annotations' word for it.

    Raises:
        InputError: no annotations, or impossible numbers.
    """
    source, target = Path(source), Path(target)
    annotations = (
        Dataset.load(source).annotations
        if source.suffix in (".yaml", ".yml")
        else formats.load_annotations(source)
    )
    if annotations is None:
        raise InputError("clicks are drawn from annotations, and there are none", file=source)
    if subset is not None:
        annotations = annotations.subset(subset)
    try:
        table = simulate_points(annotations, kind, per_instance=per_instance, sigma=sigma, seed=seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    formats.sfnet_points.write(table, target)
    return Converted(
        target, "points", {"clicks": len(table), "videos": len(table.names)}, origin=table.origin
    )


def _read_back(written: Annotations, target: Path, to: str | None) -> Annotations:
    """What a file of ours holds; of a format that counts frames, by the rates that it was written with."""
    format = to or exchange.BY_SUFFIX.get(target.suffix.lower())
    if format is None or format not in exchange.FORMATS or not exchange.FORMATS[format].frames:
        return formats.load_annotations(target, format=format)
    rates = {v.name: v.fps for v in written if v.fps is not None}
    if len(written) == 1 and exchange.FORMATS[format].one_video:  # the video may be named by the file now
        return formats.load_annotations(target, format=format, fps=next(iter(rates.values()), None))
    return formats.load_annotations(target, format=format, fps=rates)


def _lost(before: Annotations, after: Annotations) -> tuple[str, ...]:
    """What differs between two annotations of the same videos, in words."""
    lost = [] if before.classes == after.classes else ["the order of classes"]
    if before.videos.keys() != after.videos.keys():
        lost.append("the names of videos")
        if len(before) == len(after) == 1:
            name = next(iter(before.videos))
            after = Annotations.of(after.classes, [replace(next(iter(after)), name=name)])
    both = [name for name in before.videos if name in after.videos]
    pairs = [(_facts(before, before.videos[n]), _facts(after, after.videos[n])) for n in both]
    lost += [key for key in (pairs[0][0] if pairs else ()) if any(a[key] != b[key] for a, b in pairs)]
    if any(not _same_times(before, before.videos[n], after, after.videos[n]) for n in both):
        lost.append("exact times")
    return tuple(lost)


def _facts(annotations: Annotations, video: Video) -> dict[str, Any]:
    """A video with class names in place of indices."""
    names, points = annotations.classes, video.points
    return {
        "subset": video.subset,
        "duration": None if video.duration is None else round(video.duration, 6),
        "frame rate": None if video.fps is None else round(video.fps, 6),
        "segments": sorted(names[c] for c in video.instances.label),
        "clicks": None if points is None else sorted(names[c] for c in points.label),
        "video-level labels": {names[c] for c in video.labels},
        "videos in which nothing occurs": video.empty,
        "labels that are not all": bool(video.labels) and not video.complete,
        "ambiguous intervals": video.ignored.tolist(),
    }


def _same_times(before: Annotations, video: Video, after: Annotations, other: Video) -> bool:
    """Whether what both have lies at the same times, up to the last bits."""
    sides = []
    for names, v in ((before.classes, video), (after.classes, other)):
        it, p = v.instances, v.points or Points()
        rows = zip(it.label.tolist(), it.start.tolist(), it.end.tolist(), strict=True)
        clicks = zip(p.label.tolist(), p.time.tolist(), strict=True)
        sides.append((sorted((names[c], s, e) for c, s, e in rows), sorted((names[c], t) for c, t in clicks)))
    return all(
        len(a) != len(b) or np.allclose([r[1:] for r in a], [r[1:] for r in b], rtol=0, atol=1e-9)
        for a, b in zip(*sides, strict=True)
    )


def _convert_points(
    source: Path, target: Path, to: str | None, fps: formats.Fps | None, annotations: Annotations | None
) -> Converted:
    table = formats.load_points(source, fps=fps, annotations=annotations)
    if (to or ("point-csv" if target.suffix == ".csv" else "sfnet")) == "sfnet":
        formats.sfnet_points.write(table, target)
    else:
        if fps is None and annotations is not None:
            fps = {v.name: v.fps for v in annotations if v.fps is not None}
        if fps is None:
            raise InputError("clicks in frames need a frame rate", file=target, hint="add --fps")
        formats.point_csv.write(table, target, fps, () if annotations is None else annotations.classes)
    return Converted(target, "points", {"clicks": len(table), "videos": len(table.names)})


def _convert_features(store: FeatureStore, source: Path, target: Path, to: str | None) -> Converted:
    to = to or "pack"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError("the target exists and is not an empty folder", file=target)
    if to == "pack":
        write_pack(store, target)
    else:
        if to == "safetensors" and store.rate is None:
            raise InputError("the rate of these features is not known", file=source, hint="add --rate")
        files = stored_names(store.names, f".{to}")
        with whole_folder(target) as folder:
            for name, file in files.items():
                _write_video(store, name, folder / file, to)
            reread(folder, store.names)
    snippets = sum(store.length(n) for n in store.names)
    return Converted(target, "features", {"videos": len(store), "snippets": snippets})


def _write_video(store: FeatureStore, name: str, path: Path, to: str) -> None:
    rows = store.load(name)
    if to == "npy":
        with path.open("wb") as file:
            np.save(file, rows)
        return
    assert store.rate is not None
    edge = np.cumsum([0, *store.streams])
    streams = ("rgb", "flow") if len(store.streams) == 2 else ("features",)
    parts = {k: rows[:, a:b] for k, a, b in zip(streams, edge, edge[1:], strict=False)}
    said = store.provenance | store.about(name)
    ours = ("rate", "offset", "layout", "dims", "format", "path", "features")
    keep = {k: v for k, v in said.items() if k not in ours}
    write_video_features(path, parts, rate=store.rate, offset=store.offset, **keep)
