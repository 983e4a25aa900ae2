"""What readers and writers of other tools' annotations share: collecting, frames, XML, one file a video."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np

from weaktal.core import (
    Annotations,
    CoverageWarning,
    InputError,
    Instances,
    NameIndex,
    Points,
    Video,
    file_names,
    printable,
    shown,
    write_text,
)
from weaktal.core.reading import PathLike, check_name, number, read_bytes
from weaktal.formats.tables import one_line

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Fps = Mapping[str, float] | float
Media = Mapping[str, str]
# what media files end with; other dots belong to names
MEDIA = ("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "flv", "ogv", "mts", "m2ts",
    "3gp", "asf", "vob", "mxf", "wav", "mp3", "flac", "ogg", "m4a", "aac")  # fmt: skip


@dataclass
class _Entry:
    duration: float | None = None
    fps: float | None = None
    subset: str | None = None
    segments: list[tuple[float, float, str]] = field(default_factory=list)
    clicks: list[tuple[float, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    nothing: bool = False


class Gathered:
    """Videos, segments, clicks and tags as a reader meets them.

    Args:
        path: of the file, for messages.
        classes: the file's own list, in its order; other classes that occur follow, sorted.
    """

    def __init__(self, path: PathLike, classes: Iterable[str] = ()) -> None:
        self.path = path
        self.classes = dict.fromkeys(check_name(c, "class", file=path) for c in classes)
        self.videos: dict[str, _Entry] = {}

    def video(
        self,
        name: object,
        *,
        where: str | None = None,
        duration: float | None = None,
        fps: float | None = None,
        subset: str | None = None,
    ) -> str:
        """A video of that name, once.

        Raises:
            InputError: no name, or the name is there already.
        """
        text = check_name(name, "video", file=self.path, field=where)
        if text in self.videos:
            raise InputError("a video is listed twice", file=self.path, field=where, found=shown(text))
        self.videos[text] = _Entry(duration, fps, subset)
        return text

    def segment(self, video: str, start: object, end: object, label: object, where: str) -> None:
        """A segment, seconds."""
        first, last = (number(x, file=self.path, field=where) for x in (start, end))
        if last < first:
            raise InputError(
                "a segment ends before it starts", file=self.path, field=where, found=[first, last]
            )
        self.videos[video].segments.append((first, last, self._class(label, where)))

    def click(self, video: str, time: object, label: object, where: str) -> None:
        """A click, seconds."""
        at = number(time, file=self.path, field=where)
        self.videos[video].clicks.append((at, self._class(label, where)))

    def tag(self, video: str, label: object, where: str) -> None:
        """A class that occurs somewhere in the video."""
        self.videos[video].tags.append(self._class(label, where))

    def nothing(self, video: str) -> None:
        """Somebody has looked and found nothing; what else is said of the video goes before."""
        self.videos[video].nothing = True

    def _class(self, label: object, where: str) -> str:
        if isinstance(label, str):
            label = label.strip()
        return check_name(label, "class", file=self.path, field=where)

    def annotations(self) -> Annotations:
        """Everything as one object, in order of time within a video."""
        found = {
            label
            for v in self.videos.values()
            for label in (*(c for *_, c in v.segments), *(c for _, c in v.clicks), *v.tags)
        }
        classes = [*self.classes, *sorted(found - self.classes.keys())]
        place = {name: i for i, name in enumerate(classes)}
        videos = []
        for name, v in self.videos.items():
            segments = sorted((s, e, place[c]) for s, e, c in v.segments)
            clicks = sorted((t, place[c]) for t, c in v.clicks)
            occurs = {c for *_, c in segments} | {c for _, c in clicks} | {place[c] for c in v.tags}
            videos.append(
                Video(
                    name,
                    subset=v.subset,
                    duration=v.duration,
                    fps=v.fps,
                    instances=Instances(*_columns(segments, 3)),
                    points=Points(*_columns(clicks, 2)) if clicks else None,
                    labels=tuple(occurs),
                    complete=bool(occurs) or v.nothing,
                )
            )
        return Annotations.of(classes, videos)


def _columns(rows: Sequence[tuple[float, ...]], width: int) -> list[np.ndarray]:
    return [np.array([r[i] for r in rows]) for i in range(width)]


# ---------------------------------------------------------------------------------------- names


def video_name(media: object, path: PathLike, where: str | None = None) -> str:
    """The name of the video in a media file: the last part of its path or address, without its suffix.

    >>> video_name("file:///videos/my%20film.mp4", "x"), video_name("v.1", "x")
    ('my film', 'v.1')
    """
    text = check_name(media, "video", file=path, field=where)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        parts = urlsplit(text)
        text = unquote(parts.path) or text
    name = PurePosixPath(text.replace("\\", "/")).name or text
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem.strip() and suffix.lower() in MEDIA else name


def media_file(name: str, media: Media | None, path: PathLike) -> str:
    """The media file of a video: as `media` says, else its name.

    Raises:
        InputError: the name would be taken for a path.

    Warns:
        CoverageWarning: the name ends as media files do, and is read back without.
    """
    if media is not None and name in media:
        return media[name]
    if "/" in name or "\\" in name:
        raise InputError("a video name with a slash would be taken for a path", file=path, found=shown(name))
    if video_name(name, path) != name:
        warnings.warn(
            f"{path}: the video {shown(name)} will be read back as {shown(video_name(name, path))}",
            CoverageWarning,
            stacklevel=2,
        )
    return name


def plain(text: str, path: PathLike, what: str, *, without: str = "") -> str:
    """A name that a line of text or XML can hold as it is; see `one_line`."""
    if printable(text) != text:
        raise InputError(
            f"{what} cannot hold a name with control characters",
            file=path,
            found=shown(text),
            hint="JSON holds every name; write that, or rename",
        )
    return one_line(text, path, what, without=without)


# --------------------------------------------------------------------------------------- frames


class Rates:
    """Frame rates that somebody named, and those that files carry.

    Args:
        fps: one for all, by video name, or None.
        path: for messages.
    """

    def __init__(self, fps: Fps | None, path: PathLike) -> None:
        self.fps, self.path = fps, path

    def find(self, name: str, own: float | None = None) -> float | None:
        """The named rate, else the file's own, else None."""
        if isinstance(self.fps, Mapping):
            rate = self.fps.get(NameIndex(self.fps).find(name) or name, own)
        else:
            rate = own if self.fps is None else self.fps
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError("a frame rate is a number > 0", file=self.path, field=name, found=rate)
        return rate

    def of(self, name: str, own: float | None = None) -> float:
        """The rate of a video.

        Raises:
            InputError: it is not known.
        """
        rate = self.find(name, own)
        if rate is None:
            raise InputError(
                "this format counts frames, and the frame rate of a video is not known",
                file=self.path,
                field=name,
                hint="name it, or a table of rates (--fps)",
            )
        return rate


def border(seconds: float, fps: float) -> int:
    """The frame at which a segment begins, or before which it ends: the nearest one."""
    return max(0, math.floor(seconds * fps + 0.5))


def frame_at(seconds: float, fps: float) -> int:
    """The frame that is shown at a time; what is written as the time of a frame is that frame."""
    return max(0, math.floor(seconds * fps + 1e-4))


def frame_spans(video: Video, fps: float, least: int = 1) -> list[tuple[int, int, int]]:
    """Segments as (first frame, frame behind the last, label), `least` frames or longer."""
    it = video.instances
    rows = zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
    return [(a := border(s, fps), max(border(e, fps), a + least), c) for s, e, c in rows]


def frame_count(video: Video, fps: float) -> int:
    """Frames of a video: by its duration, or up to the last that is annotated."""
    if video.duration is not None:
        return border(video.duration, fps)
    ends = [end for _, end, _ in frame_spans(video, fps)]
    return max([*ends, *(frame_at(t, fps) + 1 for t, _ in clicks_of(video))], default=0)


# -------------------------------------------------------------------------------------- content


def clicks_of(video: Video) -> list[tuple[float, int]]:
    """Clicks as (seconds, label)."""
    p = video.points
    return [] if p is None else list(zip(p.time.tolist(), p.label.tolist(), strict=True))


def segments_of(video: Video) -> list[tuple[float, float, int]]:
    """Segments as (start, end, label), seconds."""
    it = video.instances
    return list(zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True))


def extra_tags(video: Video) -> list[int]:
    """Labels of a video that no segment or click gives."""
    return sorted(set(video.labels) - {c for *_, c in segments_of(video)} - {c for _, c in clicks_of(video)})


def layers(spans: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Spans in as few rows as possible, in each of which they follow one another.

    >>> layers([(0, 2), (1, 3), (2, 4)])
    [[(0, 2), (2, 4)], [(1, 3)]]
    """
    rows: list[list[tuple[float, float]]] = []
    for span in sorted(spans):
        row = next((r for r in rows if r[-1][1] <= span[0]), None)
        if row is None:
            rows.append(row := [])
        row.append(span)
    return rows


# ------------------------------------------------------------------------------------------ XML


def read_xml(path: PathLike) -> Element:
    """The root of an XML file; entities that the file declares, and other files, are refused.

    Raises:
        InputError: malformed, with the line; entity declarations.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    raw = read_bytes(path)
    try:
        root: Element = fromstring(raw)
    except ParseError as error:
        raise InputError(f"malformed XML: {error}", file=path) from None
    except DefusedXmlException:
        raise InputError(
            "XML that declares entities is not read", file=path, hint="a stranger's could fill the memory"
        ) from None
    except (ValueError, LookupError, RecursionError) as error:
        raise InputError(f"malformed XML: {error}", file=path) from None
    return root


def xml_text(root: Element, doctype: str = "") -> str:
    """An XML document, indented."""
    from xml.etree.ElementTree import indent, tostring

    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{tostring(root, encoding="unicode")}\n'


# ----------------------------------------------------------------------------- one file a video


def files_of(path: PathLike, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Video names to files: those of a folder, by name, or one file.

    Raises:
        InputError: a folder without such files; two that name one video.
    """
    path = Path(path)
    if not path.is_dir():
        return {_stem(path, suffixes): path}
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.name.lower().endswith(suffixes) and not file.name.startswith("."):
            other = found.setdefault(_stem(file, suffixes), file)
            if other is not file:
                raise InputError("two files of one video", file=file, found=other.name)
    if not found:
        raise InputError("no such files in this folder", file=path, expected=" or ".join(suffixes))
    return found


def _stem(path: Path, suffixes: tuple[str, ...]) -> str:
    for suffix in suffixes:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_each(
    path: PathLike, suffixes: tuple[str, ...], read: Callable[[Gathered, str, Path], None]
) -> Annotations:
    """Annotations of a file, or of a folder with one file a video.

    Args:
        path: of the file or folder.
        suffixes: in lower case, with the dot.
        read: puts one file into what is gathered; it gets the name that the file has.
    """
    gathered = Gathered(path)
    for name, file in files_of(path, suffixes).items():
        gathered.path = file
        read(gathered, name, file)
    return gathered.annotations()


def write_each(
    annotations: Annotations, path: PathLike, suffix: str, text: Callable[[Video, Path], str]
) -> None:
    """Write a folder with one file a video; or the one file, if `path` ends in `suffix`.

    Raises:
        InputError: several videos for one file, a folder that is not empty, a name that is no file name.
    """
    path = Path(path)
    if path.name.lower().endswith(suffix.lower()) and not path.is_dir():
        if len(annotations) != 1:
            raise InputError(
                "a file of this format holds one video",
                file=path,
                found=f"{len(annotations)} videos",
                hint="name a folder",
            )
        write_text(path, text(next(iter(annotations)), path))
        return
    names = file_names(annotations.videos, suffix)
    texts = {names[v.name]: text(v, path / names[v.name]) for v in annotations}
    with whole_folder(path) as folder:
        for name, content in texts.items():
            (folder / name).write_text(content, encoding="utf-8", newline="")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder that appears when everything in it is written, and not at all on an error.

    Raises:
        InputError: there is something at `target`, and it is not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError("the target exists and is not an empty folder", file=target)
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
