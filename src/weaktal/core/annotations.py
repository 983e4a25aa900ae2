"""What is known about a set of videos: classes, instances, points, video-level labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core.errors import InputError, did_you_mean
from weaktal.core.names import NameIndex

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def _floats(x: ArrayLike) -> FloatArray:
    return np.asarray(x, dtype=np.float64).reshape(-1)


def _ints(x: ArrayLike) -> IntArray:
    return np.asarray(x, dtype=np.int64).reshape(-1)


@dataclass(frozen=True, eq=False)
class Instances:
    """Action instances of one video: ``start`` and ``end`` in seconds, ``label`` a class index; (N,) each."""

    start: FloatArray = field(default_factory=lambda: np.empty(0))
    end: FloatArray = field(default_factory=lambda: np.empty(0))
    label: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _floats(self.start))
        object.__setattr__(self, "end", _floats(self.end))
        object.__setattr__(self, "label", _ints(self.label))
        if not len(self.start) == len(self.end) == len(self.label):
            raise ValueError("start, end and label differ in length")

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instances) and all(
            np.array_equal(a, b)
            for a, b in ((self.start, other.start), (self.end, other.end), (self.label, other.label))
        )


@dataclass(frozen=True, eq=False)
class Points:
    """Point labels (clicks) of one video: ``time`` in seconds, ``label`` a class index; (P,) each."""

    time: FloatArray = field(default_factory=lambda: np.empty(0))
    label: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", _floats(self.time))
        object.__setattr__(self, "label", _ints(self.label))
        if len(self.time) != len(self.label):
            raise ValueError("time and label differ in length")

    def __len__(self) -> int:
        return len(self.time)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Points)
            and np.array_equal(self.time, other.time)
            and np.array_equal(self.label, other.label)
        )


@dataclass(frozen=True, eq=False)
class Video:
    """One annotated video.

    Attributes:
        name: its identifier, the same in annotations, features and detections.
        subset: the annotation file's own word for its subset ("validation", "train", ...), or None.
        duration: seconds, or None where the file does not say.
        fps: frame rate of the original video, or None.
        instances: the full annotation. Never reaches a weakly-supervised method, see `Annotations.weak`.
        points: one click per instance, or None where there are no point labels.
        labels: indices of the classes that occur (the video-level label), ascending.
        ignored: (K, 2) ambiguous intervals in seconds; detections that touch one do not count.
        complete: whether no other class occurs. Without labels: whether nothing occurs (true) or nothing is
            known (false). By default true where there are labels.
    """

    name: str
    subset: str | None = None
    duration: float | None = None
    fps: float | None = None
    instances: Instances = field(default_factory=Instances)
    points: Points | None = None
    labels: tuple[int, ...] = ()
    ignored: FloatArray = field(default_factory=lambda: np.empty((0, 2)))
    complete: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(sorted({int(c) for c in self.labels})))
        complete = bool(self.labels) if self.complete is None else bool(self.complete)
        object.__setattr__(self, "complete", complete)
        if self.empty and (len(self.instances) or self.points):
            raise ValueError("nothing occurs in this video, and it has instances or points")
        object.__setattr__(self, "ignored", np.asarray(self.ignored, dtype=np.float64).reshape(-1, 2))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        names = ("name", "subset", "duration", "fps", "instances", "points", "labels", "complete")
        return all(getattr(self, n) == getattr(other, n) for n in names) and np.array_equal(
            self.ignored, other.ignored
        )

    @property
    def empty(self) -> bool:
        """Whether it is known that nothing occurs."""
        return bool(self.complete) and not self.labels


@dataclass(frozen=True)
class InstanceTable:
    """All instances of a set of videos as columns, in file order; `video` indexes `names`. (N,) each."""

    names: tuple[str, ...]
    video: IntArray
    start: FloatArray
    end: FloatArray
    label: IntArray

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class WeakVideo:
    """All that a weakly-supervised method may know of a training video: there is no field for instances.

    Attributes:
        name: the video.
        labels: class indices that occur; ascending.
        points: clicks, present only under point-level supervision.
        complete: whether no other class occurs; a video without labels then is one without any action. If
            not, of the other classes it is not known.
    """

    name: str
    labels: tuple[int, ...]
    points: Points | None = None
    complete: bool = True


@dataclass(frozen=True)
class WeakLabels:
    """The training view of `Annotations`: classes, names, and video-level or point-level labels only."""

    classes: tuple[str, ...]
    videos: tuple[WeakVideo, ...]

    def __len__(self) -> int:
        return len(self.videos)

    def multi_hot(self) -> NDArray[np.float32]:
        """Video-level labels, shape (V, C), 0 or 1; read-only, made once."""
        return self._multi_hot

    @cached_property
    def _multi_hot(self) -> NDArray[np.float32]:
        out = np.zeros((len(self.videos), len(self.classes)), np.float32)
        for row, video in zip(out, self.videos, strict=True):
            row[list(video.labels)] = 1
        out.flags.writeable = False
        return out

    @cached_property
    def known(self) -> NDArray[np.bool_] | None:
        """Of which classes it is known whether they occur, (V, C); None: of all of them in every video."""
        if all(v.complete for v in self.videos):
            return None
        known: NDArray[np.bool_] = self._multi_hot > 0
        known |= np.array([v.complete for v in self.videos])[:, None]
        return known


@dataclass(frozen=True)
class Annotations:
    """Classes in order, and videos by name in file order."""

    classes: tuple[str, ...]
    videos: Mapping[str, Video]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) != len(self.classes):
            twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
            raise InputError("class names must differ", found=", ".join(map(repr, twice)))

    @classmethod
    def of(cls, classes: Iterable[str], videos: Iterable[Video]) -> Annotations:
        """From a sequence of videos; their names must differ."""
        by_name: dict[str, Video] = {}
        for video in videos:
            if video.name in by_name:
                raise InputError("a video is listed twice", field=video.name)
            by_name[video.name] = video
        return cls(tuple(classes), by_name)

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos.values())

    def video(self, name: str) -> Video:
        """The video of that name; an `InputError` with the nearest known name otherwise."""
        try:
            return self.videos[name]
        except KeyError:
            raise InputError(
                "unknown video", found=repr(name), hint=did_you_mean(name, self.videos)
            ) from None

    def class_index(self, name: str) -> int:
        """The index of a class; an `InputError` with the nearest known name otherwise."""
        try:
            return self.classes.index(name)
        except ValueError:
            raise InputError(
                "unknown class", found=repr(name), hint=did_you_mean(name, self.classes)
            ) from None

    @property
    def subsets(self) -> tuple[str, ...]:
        """The subset names that occur, in order of first appearance."""
        return tuple(dict.fromkeys(v.subset for v in self if v.subset is not None))

    def where(self, keep: Callable[[Video], bool]) -> Annotations:
        """The videos for which `keep` is true; classes stay."""
        return Annotations(self.classes, {v.name: v for v in self if keep(v)})

    def subset(self, name: str) -> Annotations:
        """The videos of one subset, by the file's own word for it; all of them where no video has a subset.

        Raises:
            InputError: videos have subsets, and none has that one.
        """
        if not self.subsets:
            return self
        found = self.where(lambda v: v.subset == name)
        if not found.videos:
            raise InputError(
                "no video in this subset",
                found=repr(name),
                expected="one of " + ", ".join(map(repr, self.subsets)),
                hint=did_you_mean(name, self.subsets),
            )
        return found

    def map(self, change: Callable[[Video], Video]) -> Annotations:
        """A copy with every video changed; names must stay."""
        return Annotations(self.classes, {name: change(v) for name, v in self.videos.items()})

    def with_points(self, points: Mapping[str, Points]) -> Annotations:
        """A copy with point labels; videos that `points` does not name lose theirs."""
        known = NameIndex(self.videos)
        for name in points:
            if name not in known:
                self.video(name)
        table = known.rename(points)
        return self.map(lambda v: replace(v, points=table.get(v.name)))

    def with_ignored(self, ignored: Mapping[str, FloatArray]) -> Annotations:
        """A copy with ambiguous intervals; names that are not annotated are left out."""
        table = NameIndex(self.videos).rename(ignored)
        return self.map(lambda v: replace(v, ignored=table.get(v.name, np.empty((0, 2)))))

    def instance_table(self) -> InstanceTable:
        """All instances as columns, in file order."""
        rows = [v.instances for v in self]
        return InstanceTable(
            names=tuple(self.videos),
            video=np.repeat(np.arange(len(rows), dtype=np.int64), [len(r) for r in rows]),
            start=np.concatenate([np.empty(0), *(r.start for r in rows)]),
            end=np.concatenate([np.empty(0), *(r.end for r in rows)]),
            label=np.concatenate([np.empty(0, np.int64), *(r.label for r in rows)]),
        )

    def weak(self, supervision: str) -> WeakLabels:
        """The training view: "video" keeps class tags only, "point" adds the clicks.

        Raises:
            InputError: point-level supervision is asked for and no video has points.
        """
        if supervision not in ("video", "point"):
            raise ValueError(f"supervision is 'video' or 'point', not {supervision!r}")
        point = supervision == "point"
        if point and not any(v.points is not None for v in self):
            raise InputError(
                "point-level supervision needs point labels, and there are none",
                hint="name a points file in the data set description (points: ...)",
            )
        return WeakLabels(
            self.classes,
            tuple(
                WeakVideo(v.name, v.labels, (v.points or Points()) if point else None, bool(v.complete))
                for v in self
            ),
        )
