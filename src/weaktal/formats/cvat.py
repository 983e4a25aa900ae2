"""CVAT for video 1.1 (XML): a track of boxes per segment, a track of one point in one frame per click.

CVAT labels objects in pictures; what is temporal in a track is the frames in which it is inside. Our boxes
say nothing of where in the picture. Frames, of which CVAT does not name the rate; one task, one video a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from weaktal.core import Annotations, InputError, Video, shown
from weaktal.core.reading import PathLike, number
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    frame_at,
    frame_count,
    frame_spans,
    media_file,
    plain,
    read_each,
    read_xml,
    video_name,
    write_each,
    xml_text,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SUFFIXES = (".xml",)
WHAT = "a CVAT file"
BOX = {"xtl": "0.00", "ytl": "0.00", "xbr": "100.00", "ybr": "100.00", "z_order": "0"}
POINT = {"points": "50.00,50.00", "z_order": "0"}


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them; a video is the source of the task.

    Raises:
        InputError: no such file; pictures in place of tracks; several tasks in one file; no frame rate.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        root = read_xml(file)
        if root.tag != "annotations":
            raise InputError("no CVAT file", file=file, found=shown(root.tag), expected="<annotations>")
        tasks = [
            *root.iterfind("meta/task"),
            *root.iterfind("meta/job"),
            *root.iterfind("meta/project/tasks/task"),
        ]
        if len(tasks) > 1:
            raise InputError("several tasks in one file", file=file, found=len(tasks), hint="export each")
        if root.find("image") is not None:
            raise InputError(
                "annotations of pictures", file=file, found="<image>", hint='export as "CVAT for video 1.1"'
            )
        task = tasks[0] if tasks else ElementTree.Element("task")
        source = root.findtext("meta/source") or task.findtext("source") or ""
        video = video_name(source, file) if source.strip() else name
        size = task.findtext("size")
        whole = not (task.findtext("frame_filter") or "").strip()
        tracks = list(root.iterfind("track"))
        rates = Rates(fps, file)
        rate = rates.of(video) if tracks else rates.find(video)
        count = number(size, file=file, field="size") if size and whole else None
        labels = [e.text or "" for e in task.iterfind("labels/label/name")]
        for label in labels:
            if label.strip():
                found.classes.setdefault(label)
        found.video(video, fps=rate, duration=count / rate if count is not None and rate else None)
        for i, track in enumerate(tracks):
            assert rate is not None
            _track(found, video, track, rate, f"track {track.get('id', i)}")

    return read_each(path, SUFFIXES, one)


def _track(found: Gathered, video: str, track: Element, rate: float, field: str) -> None:
    shapes = sorted(
        ((int(number(s.get("frame"), file=found.path, field=field)), s) for s in track), key=lambda x: x[0]
    )
    spans: list[tuple[int, int]] = []
    start = None
    for frame, shape in shapes:
        if shape.get("outside") == "1":
            if start is not None and frame > start:
                spans.append((start, frame))
            start = None
        elif start is None:
            start = frame
    if start is not None:
        spans.append((start, shapes[-1][0] + 1))
    points = all(shape.tag == "points" for _, shape in shapes)
    for a, b in spans:
        if points and b == a + 1:
            found.click(video, a / rate, track.get("label"), field)
        else:
            found.segment(video, a / rate, b / rate, track.get("label"), field)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file a video; `path` is a folder, or the file of one video.

    Raises:
        InputError: a video without a frame rate.
    """

    def text(video: Video, file: Path) -> str:
        rate = Rates(None, file).of(video.name, video.fps)
        names = [plain(n, file, WHAT) for n in annotations.classes]
        spans = [(a, b, c, "box") for a, b, c in frame_spans(video, rate)]
        spans += [(f := frame_at(t, rate), f + 1, c, "points") for t, c in clicks_of(video)]
        size = frame_count(video, rate)
        root = ElementTree.Element("annotations")
        _add(root, "version", "1.1")
        task = _add(_add(root, "meta"), "task")
        for tag, value in (
            ("name", plain(video.name, file, WHAT)),
            ("size", str(size)),
            ("mode", "interpolation"),
            ("overlap", "0"),
            ("bugtracker", ""),
            ("start_frame", "0"),
            ("stop_frame", str(max(0, size - 1))),
            ("frame_filter", ""),
        ):
            _add(task, tag, value)
        labels = _add(task, "labels")
        for name in names:
            label = _add(labels, "label")
            _add(label, "name", name)
            _add(label, "attributes")
        _add(task, "source", media_file(video.name, media, file))
        for i, (a, b, c, shape) in enumerate(sorted(spans)):
            track = _add(root, "track", id=str(i), label=names[c], source="manual")
            where = BOX if shape == "box" else POINT
            for frame in dict.fromkeys((a, b - 1)):
                _add(track, shape, frame=str(frame), keyframe="1", outside="0", occluded="0", **where)
            if b < size:
                _add(track, shape, frame=str(b), keyframe="1", outside="1", occluded="0", **where)
        return xml_text(root)

    write_each(annotations, path, SUFFIXES[0], text)


def _add(parent: Element, tag: str, text: str | None = None, /, **attributes: str) -> Element:
    child = ElementTree.SubElement(parent, tag, attributes)
    child.text = text
    return child
