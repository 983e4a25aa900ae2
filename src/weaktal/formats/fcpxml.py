"""Final Cut Pro (``.fcpxml``): a clip per video, keyword ranges for its segments and markers for its clicks.

Read are keywords, markers, and clips that are cut into a timeline, whose names are classes. All videos in one
file; frames.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from weaktal.core import Annotations, InputError, shown, write_text
from weaktal.core.reading import PathLike
from weaktal.formats.cues import counting
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
    read_xml,
    video_name,
    xml_text,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

CLIPS = ("asset-clip", "clip", "video")
WHAT = "an FCPXML file"


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file; times are the media's own, from their first frame on.

    Raises:
        InputError: no FCPXML, clips of media that are not listed, times that are none.
    """
    root = read_xml(path)
    if root.tag != "fcpxml":
        raise InputError("no FCPXML", file=path, found=shown(root.tag), expected="<fcpxml>")
    rate_of = {}
    for about in root.iterfind("resources/format"):
        if about.get("frameDuration"):
            frame = _time(about.get("frameDuration"), path, "format")
            rate_of[about.get("id")] = float(1 / frame) if frame else None
    found, rates = Gathered(path), Rates(fps, path)
    assets: dict[str, tuple[str, Fraction]] = {}
    for asset in root.iterfind("resources/asset"):
        id_ = asset.get("id", "")
        field = f"asset {id_}"
        rep = asset.find("media-rep")
        address = asset.get("src") or (rep.get("src") if rep is not None else None)
        source = asset.get("name") if not address else address if "://" in address else unquote(address)
        name = video_name(source, path, field)
        assets[id_] = (name, _time(asset.get("start", "0s"), path, field))
        if name not in found.videos:  # a file may list a medium twice
            length = asset.get("duration")
            duration = float(_time(length, path, field)) if length else None
            rate = rates.find(name, rate_of.get(asset.get("format")))
            found.video(name, where=field, duration=duration or None, fps=rate)
    for parent in root.iter():
        for element in parent:
            if element.tag in CLIPS:
                _clip(found, element, assets, parent.tag == "spine")
    return found.annotations()


def _clip(found: Gathered, clip: Element, assets: dict[str, tuple[str, Fraction]], in_spine: bool) -> None:
    inner = next((e for e in clip if e.get("ref")), None)
    ref = clip.get("ref") or ("" if inner is None else inner.get("ref", ""))
    labelled = [e for e in clip if e.tag in ("keyword", "marker", "chapter-marker")]
    field = f"clip {clip.get('name', '')}"
    if ref not in assets:
        if labelled:
            raise InputError(
                "a clip of a medium that is not listed", file=found.path, field=field, found=shown(ref)
            )
        return
    name, first = assets[ref]

    def seconds(element: Element, key: str) -> Fraction:
        return _time(element.get(key, "0s"), found.path, field)

    keywords = [e for e in labelled if e.tag == "keyword"]
    for element in labelled:
        start = seconds(element, "start") - first
        if element.tag == "keyword":
            end = start + seconds(element, "duration")
            for label in (element.get("value") or "").split(","):
                found.segment(name, float(start), float(end), label, field)
        else:
            found.click(name, float(start), element.get("value"), field)
    label = clip.get("name", "")
    if in_spine and not keywords and label.strip() and video_name(label, found.path) != name:
        start = seconds(clip, "start") - first if clip.get("start") else Fraction(0)
        found.segment(name, float(start), float(start + seconds(clip, "duration")), label, field)


def _time(text: str | None, path: PathLike, field: str) -> Fraction:
    """A time, as ``1001/30000s`` or ``5s``."""
    match = re.fullmatch(r"\s*(-?\d{1,18}(?:\.\d{1,18})?)(?:/(\d{1,18}))?s\s*", text or "")
    if match is None or (match[2] is not None and int(match[2]) == 0):
        raise InputError("expected a time", file=path, field=field, found=shown(text), expected="1001/30000s")
    return Fraction(match[1]) / int(match[2] or 1)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file: an event with a clip of every video.

    Args:
        annotations: what to write.
        path: the file.
        media: video name to media file or address, as Final Cut is to open it.

    Raises:
        InputError: a video without a frame rate.
    """
    root = ElementTree.Element("fcpxml", version="1.8")
    resources = ElementTree.SubElement(root, "resources")
    event = ElementTree.SubElement(root, "event", name="WeakTAL")
    names = [plain(n, path, WHAT, without=",") for n in annotations.classes]
    formats: dict[Fraction, str] = {}
    for i, video in enumerate(annotations, 1):
        rate = Rates(None, path).of(video.name, video.fps)
        one = _frame(rate)
        if one not in formats:
            formats[one] = f"f{len(formats) + 1}"
            ElementTree.SubElement(resources, "format", id=formats[one], frameDuration=_text(one))
        file = plain(media_file(video.name, media, path), path, WHAT)
        src = file if "://" in file else f"file://{quote(file)}" if file.startswith("/") else quote(file)
        length = _text(frame_count(video, rate) * one)
        about = {
            "name": video.name,
            "start": "0s",
            "duration": length,
            "format": formats[one],
        }
        ElementTree.SubElement(resources, "asset", about, id=f"a{i}", src=src, hasVideo="1")
        clip = ElementTree.SubElement(event, "asset-clip", about, ref=f"a{i}")
        rows = [(a, b - a, "keyword", c) for a, b, c in frame_spans(video, rate)]
        rows += [(frame_at(t, rate), 1, "marker", c) for t, c in clicks_of(video)]
        for a, n, tag, c in sorted(rows):
            times = {"start": _text(a * one), "duration": _text(n * one)}
            ElementTree.SubElement(clip, tag, times, value=names[c])
    write_text(path, xml_text(root, "<!DOCTYPE fcpxml>\n"))


def _frame(rate: float) -> Fraction:
    """The length of a frame; exact for whole and NTSC rates."""
    base, _, ntsc = counting(rate)
    return Fraction(1001, 1000 * base) if ntsc else 1 / Fraction(rate).limit_denominator(100_000)


def _text(time: Fraction) -> str:
    return f"{time.numerator}s" if time.denominator == 1 else f"{time.numerator}/{time.denominator}s"
