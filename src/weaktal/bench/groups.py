"""Runs beside each other: groups of runs that differ in nothing but their seed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from weaktal.bench.plan import Plan
from weaktal.bench.published import Published, published_of
from weaktal.core import InputError, shown
from weaktal.core.reading import read_mapping
from weaktal.dataset import Dataset
from weaktal.evaluate import evaluate
from weaktal.formats import load_detections
from weaktal.train.log import Course, logged_course
from weaktal.train.members import open_members
from weaktal.train.run import FUSED, Run

PathLike = str | os.PathLike[str]
LAST = "last"


class Covered(BaseModel):
    """How many videos were annotated."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    annotated: int


class Measured(BaseModel):
    """What ``metrics.json`` holds, as far as a bench looks at it; see `weaktal.evaluate.DetectionResult`.

    Attributes:
        checkpoint: the rule that chose it.
        last: the evaluation of the last checkpoint, where another one was chosen.
        weak: mAP in percent by threshold, and "average", of a choice by the labels of the training videos.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    checkpoint: str = LAST
    protocol: str
    tiou: tuple[float, ...]
    mAP: tuple[float, ...]
    average_mAP: float
    classes: tuple[str, ...]
    ap: tuple[tuple[float, ...], ...]
    instances: int
    coverage: Covered
    notes: tuple[str, ...] = ()
    last: Measured | None = None
    weak: dict[str, float] | None = None

    @classmethod
    def read(cls, path: Path) -> Measured:
        """A run's ``metrics.json``.

        Raises:
            InputError: damaged, or none of ours.
        """
        try:
            return cls.model_validate(read_mapping(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"this is no metrics.json of a run: {first['msg']}",
                file=path,
                field=where,
                found=shown(first.get("input")),
                hint="written by weaktal train --evaluate",
            ) from None

    @property
    def test_list(self) -> str:
        """What it was evaluated against."""
        return f"{self.coverage.annotated} videos, {self.instances:,} instances"

    @property
    def percent(self) -> dict[str, float]:
        """mAP by threshold, and "average"."""
        each = {f"{t:.2g}": 100 * m for t, m in zip(self.tiou, self.mAP, strict=True)}
        return {**each, "average": 100 * self.average_mAP}

    @property
    def by_rule(self) -> dict[str, dict[str, float]]:
        """Figures in percent by the rule that chose the checkpoint; the last checkpoint first."""
        out = {} if self.last is None else {LAST: self.last.percent}
        if self.weak is not None:
            out["weak"] = self.weak
        return {**out, self.checkpoint: self.percent}


@dataclass(frozen=True, eq=False)
class Member:
    """One run.

    Attributes:
        folder: its directory, also of one that was not begun.
        seed: of the run.
        run: None if it was not begun.
        measured: None if it was not evaluated.
    """

    folder: Path
    seed: int
    run: Run | None
    measured: Measured | None

    @classmethod
    def open(cls, folder: Path, seed: int = 0) -> Member:
        """What is in a directory; `seed` if there is no run yet.

        Raises:
            InputError: damaged files.
        """
        run = Run.open(folder) if (folder / "config.yaml").exists() else None
        metrics = folder / "metrics.json"
        measured = Measured.read(metrics) if metrics.exists() else None
        return cls(folder, seed if run is None else run.config.seed, run, measured)

    @cached_property
    def course(self) -> Course:
        """Losses and evaluations as training went."""
        return logged_course(self.folder / "log.jsonl")

    @property
    def state(self) -> str:
        """In words, whether it is done."""
        if self.measured is not None:
            return "done"
        if self.run is None:
            return "not begun"
        if self.course.diverged is not None:
            return f"diverged at step {self.course.diverged}"
        return f"not evaluated, {len(self.course.step)} training steps"


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        data: name of the data set.
        name: what tells the group apart from others on the same data.
        members: the runs, by seed.
        published: figures to stand beside them.
        facts: what a group is made of: "method", the fields of its configuration, and what else decides
            results; empty if no run of it was begun.
    """

    data: str
    name: str
    members: tuple[Member, ...]
    published: tuple[Published, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> tuple[Member, ...]:
        """Those that were evaluated."""
        return tuple(m for m in self.members if m.measured is not None)

    @property
    def measured(self) -> tuple[Measured, ...]:
        """What they reached."""
        return tuple(m.measured for m in self.members if m.measured is not None)

    @property
    def rules(self) -> list[str]:
        """By which rules checkpoints were chosen, in the order of `Measured.by_rule`."""
        return list(dict.fromkeys(rule for m in self.measured for rule in m.by_rule))


def planned_groups(plan: Plan, out: Path) -> list[Group]:
    """The entries of a plan on each of its data sets, in its order, whether their runs are done or not.

    Raises:
        InputError: damaged files of a run; runs of a group, or groups on a data set, that cannot stand side
            by side.
    """
    groups = []
    for data, described in plan.data.items():
        for name, entry in plan.methods.items():
            folders = ((out / "runs" / data / name / f"seed{s}", s) for s in plan.seeds)
            members = tuple(Member.open(folder, seed) for folder, seed in folders)
            published = published_of(described.published or "", str(entry.method))
            groups.append(Group(data, name, members, published, _facts_of(members)))
    _same_classes((g.data, m) for g in groups for m in g.members)
    _measured_alike(groups)
    return groups


def grouped(runs: Iterable[PathLike]) -> list[Group]:
    """Runs, grouped by what differs: data set, method, and every setting that decides results.

    Args:
        runs: run directories, or folders with run directories anywhere in them.

    Raises:
        InputError: no run, the same run twice, damaged files, data sets of one name with other classes.
    """
    members = [_evaluated(Member.open(folder)) for folder in find_runs(runs)]
    _same_classes((_described(m)[0], m) for m in members)
    parts: dict[tuple[str, str], list[Member]] = {}
    for member, data in zip(members, _data_names(members), strict=True):
        assert member.run is not None
        parts.setdefault((data, repr(facts(member.run))), []).append(member)
    groups = []
    for (data, _), part in parts.items():
        ordered = tuple(sorted(part, key=lambda m: m.seed))
        groups.append(Group(data, "", ordered, (), _facts_of(ordered)))
    named = []
    for data in dict.fromkeys(g.data for g in groups):
        mine = [g for g in groups if g.data == data]
        named += [replace(g, name=name) for g, name in zip(mine, group_names(mine), strict=True)]
    _measured_alike(named)
    return named


def find_runs(paths: Iterable[PathLike]) -> list[Path]:
    """Run directories among paths, and in the folders among them, sorted there.

    Raises:
        InputError: a path without a run; the same run twice.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        here = []
        for place, inside, files in os.walk(path):
            inside.sort()
            if "config.yaml" in files:
                here.append(Path(place))
                inside.clear()
        if not here:
            raise InputError("there is no run here", file=path, hint="runs are made by weaktal train")
        found += here
    seen: dict[Path, Path] = {}
    for folder in found:
        if folder.resolve() in seen:
            raise InputError("the same run is named twice", file=folder)
        seen[folder.resolve()] = folder
    return found


def facts(run: Run) -> dict[str, Any]:
    """What decides the results of a run, but for its seed and its data set; plain values."""
    config = run.config
    settings = dict(config.config)
    if config.method == FUSED:
        settings["members"] = sorted(m.config.method for m in open_members(run))
    training, data = config.training, config.data
    return {
        "method": config.method,
        **settings,
        "trained on": config.subset,
        "proposals": data.get("proposals"),
        "features": _flat(data.get("features") or {}) | {"dim": config.dim},
        "protocol": training.protocol,
        "precision": training.precision,
        "compile": training.compile,
    }


def differing(groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """The facts in which groups differ, each with its value in every group, as people write it.

    Fields of a configuration are compared between groups of the same method; "" where they do not differ.

    Args:
        groups: on one data set.
    """
    out = {}
    for key in dict.fromkeys(k for g in groups for k in g.facts):
        of = ["" if key in _SHARED else str(g.facts.get("method")) for g in groups]
        values: dict[str, set[str]] = {}
        for g, method in zip(groups, of, strict=True):
            if key in g.facts:
                values.setdefault(method, set()).add(repr(g.facts[key]))
        told = [key in g.facts and len(values[method]) > 1 for g, method in zip(groups, of, strict=True)]
        if any(told):
            out[key] = tuple(plain(g.facts[key]) if t else "" for g, t in zip(groups, told, strict=True))
    return out


def group_names(groups: Sequence[Group]) -> list[str]:
    """Short names of groups on one data set: the method, and the fewest settings that tell them apart."""
    names = []
    for group in groups:
        same = [g for g in groups if g.facts["method"] == group.facts["method"]]
        keys = _telling(same)
        values = [f"{key} {plain(group.facts.get(key))}" for key in keys]
        names.append(" ".join([str(group.facts["method"]), ", ".join(values)]).strip())
    return names


# what every run has, whatever its method
_SHARED = {"method", "trained on", "features", "protocol", "precision", "compile"}


def plain(value: object) -> str:
    """A setting as people write it.

    >>> plain(0.0003), plain(None), plain([0.1, 0.2]), plain({"rate": 2.5})
    ('0.0003', 'none', '0.1, 0.2', 'rate 2.5')
    """
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return str(value)


def _evaluated(member: Member) -> Member:
    """With an evaluation of its detections in the test subset, if it was localized and no more."""
    path, run = member.folder / "detections.json", member.run
    if run is None or member.measured is not None or not path.exists():
        return member
    try:
        data = Dataset.load(run.config.data.get("path") or "")
        protocol = run.config.training.protocol or data.protocol
        result = evaluate(load_detections(path, run.config.classes), data.subset("test"), protocol)
    except InputError:  # data that went elsewhere, or detections in other videos
        return member
    found = {"checkpoint": run.config.training.choose, **result.to_dict()}
    return replace(member, measured=Measured.model_validate(found))


def _telling(groups: Sequence[Group]) -> list[str]:
    """The fewest keys, greedily, whose values tell groups of one method apart."""
    different = differing(groups)
    keys: list[str] = []

    def apart(chosen: Sequence[str]) -> int:
        return len({tuple(different[k][i] for k in chosen) for i in range(len(groups))})

    while apart(keys) < len(groups):
        left = [k for k in different if k not in keys]
        best = max(left, key=lambda k: apart([*keys, k]), default=None)
        if best is None or apart([*keys, best]) == apart(keys):
            break
        keys.append(best)
    return keys


def _facts_of(members: Sequence[Member]) -> dict[str, Any]:
    return next((facts(m.run) for m in members if m.run is not None), {})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def _data_names(members: Sequence[Member]) -> list[str]:
    """A name for every run's data set; with the test list where there are several of one name."""
    lists: dict[str, dict[str, str]] = {}  # name -> description -> test list
    for member in members:
        name, path = _described(member)
        if member.measured is not None:
            lists.setdefault(name, {})[path] = member.measured.test_list
    out = []
    for member in members:
        name, path = _described(member)
        known = lists.get(name, {})
        if len(set(known.values())) > 1:
            mine = known.get(path) if member.measured is None else member.measured.test_list
            name += f" ({mine or next(iter(known.values()))})"
        out.append(name)
    return out


def _described(member: Member) -> tuple[str, str]:
    """Name and description of a run's data set."""
    assert member.run is not None
    data = member.run.config.data
    return str(data.get("name") or "data"), str(data.get("path") or "")


def _measured_alike(groups: Sequence[Group]) -> None:
    """Whether the runs of each group were.

    Raises:
        InputError: they were not.
    """
    for group in groups:
        done = group.done
        for member in done[1:]:
            assert done[0].measured is not None
            assert member.measured is not None
            for key in ("protocol", "tiou"):
                found, expected = getattr(member.measured, key), getattr(done[0].measured, key)
                if found != expected:
                    raise InputError(
                        "runs that differ only in their seed were evaluated in other ways: they have no mean",
                        file=member.folder / "metrics.json",
                        field=key,
                        found=plain(found),
                        expected=f"{plain(expected)}, as in {done[0].folder}",
                        hint="evaluate them alike, or leave one out",
                    )


def _same_classes(members: Iterable[tuple[str, Member]]) -> None:
    """Whether runs on data of one name know the same classes.

    Raises:
        InputError: they do not.
    """
    first: dict[str, tuple[Path, list[str]]] = {}
    for name, member in members:
        if member.run is None:
            continue
        found = sorted(member.run.config.classes)
        known, expected = first.setdefault(name, (member.folder, found))
        if found != expected:
            raise InputError(
                f"runs on {name} know different classes: they cannot stand side by side",
                file=member.folder,
                found=_beyond(found, expected),
                expected=f"those of {known}",
                hint="leave one out, or give their data sets different names",
            )


def _beyond(found: Sequence[str], expected: Sequence[str]) -> str:
    more, less = sorted({*found} - {*expected}), sorted({*expected} - {*found})
    parts = [f"also {', '.join(more[:5])}"] if more else []
    parts += [f"not {', '.join(less[:5])}"] if less else []
    return f"{len(found)} classes, " + ", ".join(parts)
