"""Label Studio (JSON of tasks): labels on the timeline of a video, and choices for the whole of it.

A range of frames (``timelinelabels``, counted from 1, the last one included) is a segment, and one of a
single frame a click. Label Studio counts at the rate of its ``<Video frameRate>``, 24 if nobody says, and
does not export it; we write it as ``fps`` into the data of a task, from where it is read again. Ranges in
seconds (``labels`` on an audio track) are read as well. Choices are video-level labels.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

from weaktal.core import Annotations, CoverageWarning, InputError, Video, write_text
from weaktal.core.reading import PathLike, kind, number, read_json
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    extra_tags,
    frame_at,
    frame_spans,
    media_file,
    video_name,
)


def looks_like(document: object) -> bool:
    """Whether a JSON document is a list of tasks."""
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and isinstance(first.get("data"), dict)


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of an export; of each task the first annotation that was not skipped.

    Raises:
        InputError: no tasks, ranges that are none, frames without a frame rate.

    Warns:
        CoverageWarning: further annotations of a task, regions that are neither ranges nor choices.
    """
    document = read_json(path)
    tasks = document if isinstance(document, list) else [document]
    if not looks_like(document) and document != []:
        raise InputError(
            "no export of Label Studio",
            file=path,
            found=kind(document),
            expected="a list of tasks with 'data'",
        )
    found, rates = Gathered(path), Rates(fps, path)
    more = other = 0
    for i, task in enumerate(tasks):
        where = f"[{i}]"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise InputError("expected a task with 'data'", file=path, field=where, found=kind(task))
        data = task["data"]
        name = _name(data, path, where)
        own, duration = (
            None if data.get(k) is None else number(data[k], file=path, field=f"{where}.data.{k}")
            for k in ("fps", "duration")
        )
        subset = data.get("subset")
        rate = rates.find(name, own)
        found.video(
            name, where=where, duration=duration, fps=rate, subset=None if subset is None else str(subset)
        )
        listed = task.get("annotations") or task.get("completions") or []
        if not isinstance(listed, list) or not all(isinstance(a, dict) for a in listed):
            raise InputError("expected a list", file=path, field=f"{where}.annotations", found=kind(listed))
        listed = [a for a in listed if not a.get("was_cancelled")]
        more += len(listed[1:])
        result = (listed[0].get("result") or []) if listed else []
        for j, region in enumerate(result if isinstance(result, list) else [result]):
            field = f"{where}.annotations.result[{j}]"
            other += _region(found, name, region, own, rates, field)
    for count, text in (
        (more, "annotations are left out: of each task the first is read"),
        (other, "regions are left out: they are neither ranges of time nor choices"),
    ):
        if count:
            warnings.warn(f"{path}: {count} {text}", CoverageWarning, stacklevel=2)
    return found.annotations()


def _name(data: dict[str, Any], path: PathLike, where: str) -> str:
    keys = ("video", "video_url", "url", *data)
    media = next((data[k] for k in keys if isinstance(data.get(k), str) and data[k].strip()), None)
    if media is None:
        raise InputError("a task without a video", file=path, field=f"{where}.data", found=kind(data))
    if "/upload/" in media:  # Label Studio puts eight letters before the name of an upload
        media = re.sub(r"/[0-9a-f]{8}-([^/]*)$", r"/\1", media)
    return video_name(media.partition("?d=")[2] or media, path, where)


def _region(found: Gathered, name: str, region: object, own: float | None, rates: Rates, field: str) -> int:
    """Take a region over; 1 if it is none of ours."""
    value = region.get("value") if isinstance(region, dict) else None
    if not isinstance(region, dict) or not isinstance(value, dict):
        raise InputError("expected a region with a value", file=found.path, field=field, found=kind(region))
    sort = str(region.get("type", "")).lower()
    labels = value.get(sort) if sort in value else None
    if sort in ("choices", "timelinelabels", "labels") and not isinstance(labels, list):
        raise InputError("expected a list of labels", file=found.path, field=field, found=kind(labels))
    if sort == "choices":
        for label in labels or ():
            found.tag(name, label, field)
        return 0
    if sort == "labels" and "start" in value:
        for label in labels or ():
            found.segment(name, value["start"], value.get("end"), label, field)
        return 0
    if sort != "timelinelabels":
        return 1
    ranges = value.get("ranges")
    if not isinstance(ranges, list) or not all(isinstance(r, dict) for r in ranges):
        raise InputError("expected a list of ranges", file=found.path, field=field, found=kind(ranges))
    rate = rates.of(name, own)
    for row in ranges:
        first, last = (number(row.get(k), file=found.path, field=f"{field}.{k}") for k in ("start", "end"))
        for label in labels or ():
            if first == last:
                found.click(name, (first - 1) / rate, label, field)
            else:
                found.segment(name, (first - 1) / rate, last / rate, label, field)
    return 0


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write tasks with one annotation each; a segment has two frames or more.

    Args:
        annotations: what to write.
        path: the file.
        media: video name to media file or address, as Label Studio is to load it.
    """
    names, rates = annotations.classes, Rates(None, path)
    tasks = []
    for i, video in enumerate(annotations, 1):
        data: dict[str, Any] = {"video": media_file(video.name, media, path)}
        data |= {k: v for k in ("fps", "duration", "subset") if (v := getattr(video, k)) is not None}
        result = _ranges(video, names, rates) if len(video.instances) or clicks_of(video) else []
        if tags := extra_tags(video):
            value = {"choices": [names[c] for c in tags]}
            result.append(
                {"id": f"t{i}", "type": "choices", "from_name": "occurs", "to_name": "video", "value": value}
            )
        annotation = {"id": i, "was_cancelled": False, "ground_truth": False, "result": result}
        tasks.append({"id": i, "data": data, "annotations": [annotation]})
    write_text(path, json.dumps(tasks, indent=1) + "\n")


def _ranges(video: Video, names: tuple[str, ...], rates: Rates) -> list[dict[str, Any]]:
    rate = rates.of(video.name, video.fps)
    rows = [(a + 1, b, c) for a, b, c in frame_spans(video, rate, least=2)]
    rows += [(f := frame_at(t, rate) + 1, f, c) for t, c in clicks_of(video)]
    return [
        {
            "id": f"r{k}",
            "type": "timelinelabels",
            "from_name": "actions",
            "to_name": "video",
            "origin": "manual",
            "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [names[c]]},
        }
        for k, (first, last, c) in enumerate(rows)
    ]
