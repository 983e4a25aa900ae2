"""A data set: annotations and features, described in one YAML file (see docs/data.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core import (
    Annotations,
    Finding,
    InputError,
    NameIndex,
    Video,
    composed,
    did_you_mean,
    shown,
    times_beyond,
)
from weaktal.core.limits import within
from weaktal.core.reading import check_name, kind, parse_yaml
from weaktal.features.joined import open_features
from weaktal.features.store import FeatureStore
from weaktal.formats import load_annotations, subset_name
from weaktal.formats.reading import number, read_mapping, read_text

KEYS = (
    "name",
    "annotations",
    "subsets",
    "classes",
    "points",
    "fps",
    "durations",
    "ignore",
    "features",
    "protocol",
    "videos",
)
FEATURE_KEYS = ("path", "rate", "offset", "fps", "stride", "window", "names", "prefix", "suffix")
ROLES = ("train", "test")


@dataclass(frozen=True)
class Coverage:
    """Which videos have what. A result carries it: a number over fewer videos is another number.

    Attributes:
        usable: annotated videos with features.
        without_features: annotated videos that have none.
        without_annotations: videos with features that nobody annotated.
    """

    usable: tuple[str, ...]
    without_features: tuple[str, ...]
    without_annotations: tuple[str, ...]

    @classmethod
    def of(cls, asked: Annotations, everything: Annotations, store: FeatureStore) -> Coverage:
        """Which of the videos asked for have features; a feature's video may be annotated in any subset."""
        known = NameIndex(everything.videos)
        return cls(
            usable=tuple(v for v in asked.videos if v in store),
            without_features=tuple(v for v in asked.videos if v not in store),
            without_annotations=tuple(v for v in store.names if v not in known),
        )

    def __str__(self) -> str:
        total = len(self.usable) + len(self.without_features)
        text = f"{len(self.usable)} of {total} annotated videos have features"
        for names, what in (
            (self.without_features, "without features"),
            (self.without_annotations, "with features and without annotations"),
        ):
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                text += f"; {len(names)} {what}: {shown}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """For metrics files."""
        return {
            "annotated": len(self.usable) + len(self.without_features),
            "usable": len(self.usable),
            "without_features": list(self.without_features),
            "without_annotations": list(self.without_annotations),
        }


@dataclass(eq=False)
class Dataset:
    """What a description names, found and read.

    Attributes:
        name: for people and reports.
        path: the description.
        annotations: classes, videos, points, ignored intervals; None for a data set without annotations.
        annotation_file: where they come from (a file or a folder).
        videos: folder of the videos themselves, for pictures in reports.
        protocol: name of the evaluation protocol.
        roles: "train" and "test" to the annotation file's word for the subset, where the description says.
        features: the ``features`` entry, paths made absolute; empty where there is none.
    """

    name: str
    path: Path
    annotations: Annotations | None
    protocol: str
    roles: Mapping[str, str]
    features: Mapping[str, Any]
    annotation_file: Path | None = None
    videos: Path | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dataset:
        """Read a description; paths in it are relative to it.

        Raises:
            InputError: unknown keys (with the nearest known one), missing or unreadable files, values of
                another kind than expected.

        Warns:
            CoverageWarning: what `weaktal.formats.load_annotations` warns of.
        """
        path = Path(path)
        entry = _mapping(read_text(path), path)
        _known_keys(entry, KEYS, path)
        base = path.parent

        def file(key: str) -> Path | None:
            value = entry.get(key)
            if value is None:
                return None
            if not isinstance(value, str) or not value.strip():
                raise InputError("expected a path", file=path, field=key, found=shown(value))
            return base / value

        def word(key: str, default: str) -> str:
            value = entry.get(key)
            if value is not None and not isinstance(value, str | int):
                raise InputError("expected a name", file=path, field=key, found=kind(value))
            return default if value is None else check_name(str(value), key, file=path)

        source = file("annotations")
        annotations = None
        if source is not None:
            fps = entry.get("fps")
            if isinstance(fps, int | float):
                fps = number(fps, file=path, field="fps")
            annotations = load_annotations(
                source,
                points=file("points"),
                ignore=file("ignore"),
                fps=fps if fps is None or isinstance(fps, float) else file("fps"),
            )
            if (durations := file("durations")) is not None:
                annotations = _with_durations(annotations, durations)
            if (classes := entry.get("classes")) is not None:
                annotations = _in_order(annotations, classes, path)
        else:
            for key in ("points", "ignore", "subsets", "durations", "classes"):
                if entry.get(key) is not None:
                    raise InputError(f"{key!r} needs 'annotations'", file=path)
            if entry.get("features") is None:
                raise InputError(
                    "this describes no data",
                    file=path,
                    found="the keys " + ", ".join(entry) if entry else "nothing",
                    expected="annotations, features, or both",
                )
        roles = entry.get("subsets") or {}
        if not isinstance(roles, dict) or not all(isinstance(v, str) for v in roles.values()):
            raise InputError(
                "expected a mapping",
                file=path,
                field="subsets",
                found=shown(roles),
                expected="{train: ..., test: ...}",
            )
        _known_keys(roles, ROLES, path, "subsets")
        if annotations is not None:
            annotations, roles = _split_lists(annotations, roles, base, path)
        return cls(
            name=word("name", path.stem),
            path=path,
            annotations=annotations,
            protocol=word("protocol", "activitynet"),
            roles=roles,
            features=_features(entry.get("features"), path),
            annotation_file=source,
            videos=file("videos"),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in order."""
        return self._annotated().classes

    def _annotated(self) -> Annotations:
        if self.annotations is None:
            raise InputError(
                "this data set has no annotations", file=self.path, hint="add 'annotations: FILE'"
            )
        return self.annotations

    @cached_property
    def store(self) -> FeatureStore:
        """The features, opened at first use.

        Raises:
            InputError: there are none, or no annotated video has any.
        """
        if not self.features:
            raise InputError(
                "this data set has no features", file=self.path, hint="add 'features: {path: ...}'"
            )
        options = dict(self.features)
        arrays = self.annotation_file
        if arrays is not None and arrays.is_dir():
            order = {"names": arrays / "videoname.npy"}  # of a joint array
            sources = options.get("sources")
            options = order | options if sources is None else {"sources": [order | s for s in sources]}
        store = open_features(options)
        if self.annotations is not None and not any(v in store for v in self.annotations.videos):
            raise InputError(
                "no annotated video has features",
                file=store.path,
                found=repr(store.names[0]),
                expected=f"names such as {next(iter(self.annotations.videos), '')!r}",
                hint=_prefix_hint(store.names, self.annotations),
            )
        return store

    def subset(self, role_or_name: str) -> Annotations:
        """The videos of a subset, by our role ("train", "test") or the annotation file's word.

        Raises:
            InputError: no such subset, or nothing in it.
        """
        annotations = self._annotated()
        name = self.roles.get(role_or_name)
        if name is None:
            name = subset_name(annotations, role_or_name)
        return annotations.subset(name)

    def findings(self) -> tuple[Finding, ...]:
        """What may be wrong with the times and the subsets of this data set.

        Times of clicks and instances are held against durations, those of the annotations or else what the
        features imply. See `check` for those that forbid any use.
        """
        if self.annotations is None:
            return ()
        videos = tuple(self.annotations)
        fps = {v.name: v.fps for v in videos if v.fps is not None}
        clicks = {v.name: v.points.time for v in videos if v.points is not None}
        durations = {v.name: v.duration for v in videos if v.duration is not None and v.duration > 0}
        if self.features and any(name not in durations for name in clicks) and self.store.rate is not None:
            for v in videos:
                if v.name not in durations and v.name in self.store:
                    durations[v.name] = self.store.axis(v.name).end
        found = [
            times_beyond("clicks", clicks, durations, fps),
            times_beyond("instances", {v.name: v.instances.end for v in videos}, durations, fps),
            _shared(self),
        ]
        return tuple(f for f in found if f is not None)

    def check(self) -> tuple[Finding, ...]:
        """`findings`, of which the first grave one is raised.

        Raises:
            InputError: times of most clicks or instances lie beyond the ends of their videos, with the unit
                in which they would fit.
        """
        found = self.findings()
        for finding in found:
            if finding.grave:
                raise finding.error(self.path)
        return found

    def coverage(self, subset: str | None = None) -> Coverage:
        """Which videos of a subset (or of all) have features, and which features nobody annotated."""
        everything = self._annotated()
        asked = everything if subset is None else self.subset(subset)
        return Coverage.of(asked, everything, self.store)


def _shared(data: Dataset) -> Finding | None:
    """Whether what is trained on is what is tested on."""
    try:
        train, test = data.subset("train"), data.subset("test")
    except InputError:
        return None
    both = tuple(name for name in train.videos if name in test.videos)
    if not both:
        return None
    return Finding(
        f"{len(both)} videos are trained on and tested on",
        both,
        "results on them say nothing about other videos; name subsets in the annotations or the description",
    )


def _mapping(text: str, path: Path) -> dict[str, Any]:
    entry = parse_yaml(text, path)
    if not isinstance(entry, dict):
        raise InputError(
            "not a data set description", file=path, found=type(entry).__name__, expected="keys and values"
        )
    return entry


def _known_keys(
    entry: Mapping[str, Any], known: Sequence[str], path: Path, inside: str | None = None
) -> None:
    for key in entry:
        if key not in known:
            raise InputError(
                "unknown key",
                file=path,
                field=inside,
                found=repr(key),
                expected="one of " + ", ".join(known),
                hint=did_you_mean(str(key), known),
            )


def _features(value: Any, path: Path) -> dict[str, Any]:
    """The options of `open_features`."""
    if value is None:
        return {}
    if isinstance(value, list) and value and not any(v is None or isinstance(v, list) for v in value):
        sources = [_features(v, path) for v in value]
        return {"sources": sources} if len(sources) > 1 else sources[0]
    entry = {"path": value} if isinstance(value, str) else value
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not entry["path"].strip():
        raise InputError(
            "expected a path",
            file=path,
            field="features",
            found=shown(value),
            expected="{path: ..., rate: ...}, or a list of such sources",
        )
    _known_keys(entry, FEATURE_KEYS, path, "features")
    out: dict[str, Any] = {"path": path.parent / entry["path"]}
    numbers = {
        k: number(entry[k], file=path, field=f"features.{k}")
        for k in ("rate", "offset", "fps", "stride", "window")
        if entry.get(k) is not None
    }
    if "fps" in numbers or "stride" in numbers:
        if not numbers.keys() >= {"fps", "stride"} or "rate" in numbers:
            raise InputError(
                "the rate is given as 'rate', or as 'fps' and 'stride' in frames", file=path, field="features"
            )
        fps, stride = numbers["fps"], numbers["stride"]
        if min(fps, stride) <= 0:
            raise InputError("fps and stride must be positive", file=path, field="features")
        numbers["rate"] = fps / stride
        if not 0 < numbers["rate"] < np.inf:
            raise InputError("no rate follows from fps and stride", file=path, field="features")
        # a snippet's row on the time axis lies around the middle of its window
        numbers.setdefault("offset", (numbers.get("window", stride) - stride) / 2 / fps)
    elif "window" in numbers:
        raise InputError("'window' needs 'fps' and 'stride'", file=path, field="features")
    out |= {k: numbers[k] for k in ("rate", "offset") if k in numbers}
    if (names := entry.get("names")) is not None:
        if not isinstance(names, list | str):
            raise InputError(
                "expected a list or a file", file=path, field="features.names", found=kind(names)
            )
        out["names"] = (
            [check_name(n, "video", file=path, field="features.names") for n in names]
            if isinstance(names, list)
            else path.parent / names
        )
    for key in ("prefix", "suffix"):
        if (part := entry.get(key)) is not None:
            if not isinstance(part, str | int | float):
                raise InputError("expected a text", file=path, field=f"features.{key}", found=kind(part))
            out[key] = str(part)
    return out


def _with_durations(annotations: Annotations, source: Path) -> Annotations:
    table = {k: number(v, file=source, field=k) for k, v in read_mapping(source).items()}
    for name, seconds in table.items():
        within(seconds, "seconds", "seconds", file=source, field=name)
        if seconds < 0:
            raise InputError("a duration is negative", file=source, field=name, found=seconds)
    known = NameIndex(annotations.videos).rename(table)
    return annotations.map(lambda v: replace(v, duration=known.get(v.name, v.duration)))


def _in_order(annotations: Annotations, classes: Any, path: Path) -> Annotations:
    """The annotations over another class list, which must hold all of theirs."""
    if not isinstance(classes, list):
        raise InputError("expected a list of class names", file=path, field="classes", found=shown(classes))
    within(len(classes), "classes", "classes", file=path, field="classes")
    listed = [
        check_name(str(c) if isinstance(c, int | float) else c, "class", file=path, field="classes")
        for c in classes
    ]
    if len(set(listed)) != len(listed):
        twice = next(c for c in listed if listed.count(c) > 1)
        raise InputError("a class is listed twice", file=path, field="classes", found=repr(twice))
    for name in annotations.classes:
        if name not in listed:
            raise InputError(
                "a class of the annotations is not listed",
                file=path,
                field="classes",
                found=repr(name),
                hint=did_you_mean(name, listed),
            )
    to = np.array([listed.index(c) for c in annotations.classes], np.int64)

    def video(v: Video) -> Video:
        return replace(
            v,
            instances=replace(v.instances, label=to[v.instances.label]),
            points=None if v.points is None else replace(v.points, label=to[v.points.label]),
            labels=tuple(to[list(v.labels)]) if v.labels else (),
        )

    return Annotations(tuple(listed), {v.name: video(v) for v in annotations})


def _split_lists(
    annotations: Annotations, roles: Mapping[str, str], base: Path, path: Path
) -> tuple[Annotations, dict[str, str]]:
    """Subsets given as text files of video names (``split_train.txt``) become the videos' subsets."""
    out, member = dict(roles), dict[str, str]()
    for role, value in roles.items():
        if not value.endswith(".txt"):
            if value not in annotations.subsets:
                raise InputError(
                    "no video in this subset",
                    file=path,
                    field=f"subsets.{role}",
                    found=repr(value),
                    expected="one of " + ", ".join(map(repr, annotations.subsets)),
                    hint=did_you_mean(value, annotations.subsets),
                )
            continue
        names = read_text(base / value).split("\n")
        known = NameIndex(annotations.videos)
        for line, name in enumerate((n.strip() for n in names), 1):
            if name and name not in known:
                raise InputError(
                    "unknown video",
                    file=base / value,
                    field=f"line {line}",
                    found=repr(name),
                    hint=did_you_mean(name, annotations.videos),
                )
            if not name:
                continue
            video = known.find(name) or name
            if member.setdefault(video, role) != role:
                raise InputError(
                    "a video is in both subsets: what is trained on cannot be tested on",
                    file=base / value,
                    field=f"line {line}",
                    found=repr(name),
                )
        out[role] = role
    if not member:
        return annotations, out
    return annotations.map(lambda v: replace(v, subset=member.get(v.name, v.subset))), out


def _prefix_hint(names: Sequence[str], annotations: Annotations) -> str | None:
    """What to write in the description if names differ by what is before or behind them."""
    for name in map(composed, names[:100]):
        for annotated in map(composed, annotations.videos):
            before, inside, behind = name.partition(annotated)
            if inside and annotated:
                keys = [f"{k}: {v}" for k, v in (("prefix", before), ("suffix", behind)) if v]
                return f"if all have it, add '{', '.join(keys)}' under features"
    return did_you_mean(names[0], annotations.videos)
