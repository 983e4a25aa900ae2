"""FiftyOne: temporal detections as JSON, of the type ``FiftyOneTemporalDetectionDataset`` or of samples.

Written is ``{"classes": [...], "labels": {NAME: [{"label", "timestamps": [start, end]}]}}``, the
``labels.json`` that ``fiftyone.Dataset.from_dir`` imports beside a folder ``data`` of media, by their
names without suffix.
Read are that, with ``timestamps`` in seconds or ``support`` in frames, and the samples of ``Dataset.to_json``
or of an export, where a support needs a frame rate that the metadata carry or somebody names.
"""

from __future__ import annotations

import json
from typing import Any

from weaktal.core import Annotations, InputError, write_text
from weaktal.core.reading import PathLike, kind, number, read_mapping
from weaktal.formats.gather import Fps, Gathered, Media, Rates, segments_of, video_name

SUBSETS = ("train", "training", "val", "validation", "test", "testing")


def looks_like(document: object) -> bool:
    """Whether a JSON document is of one of these kinds."""
    return isinstance(document, dict) and (
        isinstance(document.get("samples"), list)
        or (isinstance(document.get("labels"), dict) and "classes" in document)
    )


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file.

    Raises:
        InputError: anything that is not as FiftyOne writes it, with the place; frames without a rate.
    """
    document = read_mapping(path)
    if isinstance(document.get("samples"), list):
        return _samples(document["samples"], path, Rates(fps, path))
    labels, classes = document.get("labels"), document.get("classes") or []
    if not isinstance(labels, dict) or not isinstance(classes, list):
        raise InputError(
            "no temporal detections of FiftyOne", file=path,
            found="the keys " + ", ".join(map(repr, list(document)[:5])), expected="labels, or samples",
        )  # fmt: skip
    found, rates = Gathered(path, classes), Rates(fps, path)
    for name, rows in labels.items():
        found.video(name, fps=rates.find(name))
        for i, row in enumerate(_list(rows, path, f"labels.{name}")):
            field = f"labels.{name}[{i}]"
            label = row.get("label")
            if isinstance(label, int) and not isinstance(label, bool):
                if not 0 <= label < len(classes):
                    raise InputError("no such class", file=path, field=field, found=label)
                label = classes[label]
            _detection(found, name, row, label, rates, None, field)
    return found.annotations()


def _list(rows: object, path: PathLike, field: str) -> list[dict[str, Any]]:
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("expected a list of objects", file=path, field=field, found=kind(rows))
    return rows


def _detection(
    found: Gathered,
    name: str,
    row: dict[str, Any],
    label: object,
    rates: Rates,
    own: float | None,
    field: str,
) -> None:
    times, support = row.get("timestamps"), row.get("support")
    if isinstance(times, list) and len(times) == 2:
        found.segment(name, times[0], times[1], label, field)
    elif isinstance(support, list) and len(support) == 2:
        first, last = (number(x, file=found.path, field=field) for x in support)
        rate = rates.of(name, own)  # frames from 1, the last one included
        found.segment(name, (first - 1) / rate, last / rate, label, field)
    else:
        raise InputError(
            "expected a segment",
            file=found.path,
            field=field,
            found=kind(row),
            expected="timestamps or support",
        )


def _samples(samples: list[Any], path: PathLike, rates: Rates) -> Annotations:
    found = Gathered(path)
    for i, sample in enumerate(_list(samples, path, "samples")):
        where = f"samples[{i}]"
        name = video_name(sample.get("filepath"), path, where)
        meta = sample.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        duration, own = (
            None if meta.get(k) is None else number(meta[k], file=path, field=f"{where}.metadata.{k}")
            for k in ("duration", "frame_rate")
        )
        tags = sample.get("tags")
        subset = next((t for t in tags if t in SUBSETS), None) if isinstance(tags, list) else None
        found.video(name, where=where, duration=duration, fps=rates.find(name, own), subset=subset)
        for key, value in sample.items():
            cls = value.get("_cls") if isinstance(value, dict) else None
            if cls == "TemporalDetections":
                for j, row in enumerate(_list(value.get("detections"), path, f"{where}.{key}")):
                    _detection(found, name, row, row.get("label"), rates, own, f"{where}.{key}[{j}]")
            elif cls == "Classifications":
                for j, row in enumerate(_list(value.get("classifications"), path, f"{where}.{key}")):
                    found.tag(name, row.get("label"), f"{where}.{key}[{j}]")
            elif cls in ("TemporalDetection", "Classification"):
                if cls == "Classification":
                    found.tag(name, value.get("label"), f"{where}.{key}")
                else:
                    _detection(found, name, value, value.get("label"), rates, own, f"{where}.{key}")
    return found.annotations()


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write ``labels.json`` of a ``FiftyOneTemporalDetectionDataset``; it names videos, never media files."""
    names = annotations.classes
    labels = {
        video.name: [{"label": names[c], "timestamps": [s, e]} for s, e, c in segments_of(video)]
        for video in annotations
    }
    write_text(path, json.dumps({"classes": list(names), "labels": labels}, indent=1) + "\n")
