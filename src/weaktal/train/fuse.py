"""Several runs as one: what `weaktal fuse` does, and `weaktal train METHOD METHOD... --fuse`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import yaml

from weaktal.core import InputError, write_text
from weaktal.dataset import Dataset
from weaktal.localize.fusion import Scale, voices
from weaktal.methods import find_method
from weaktal.methods.protocol import SnippetMethod
from weaktal.train.localize import Found, dataset_of, found_by
from weaktal.train.members import SCALES, By, FusedConfig, Member, fingerprint, fused_config, member_path
from weaktal.train.run import FUSED, Run, RunConfig, versions
from weaktal.train.select import label_likelihood
from weaktal.train.starts import Started, train_starts

PathLike = str | os.PathLike[str]


def fuse_runs(
    runs: Sequence[Run | PathLike],
    out: PathLike,
    *,
    by: By = "detections",
    data: Dataset | PathLike | None = None,
    device: str = "auto",
    max_memory: str | None = None,
) -> Run:
    """A run of several others, for `weaktal.localize_run`, `predict`, `report_runs` and the rest.

    By detections, runs of any methods and features are joined by weighted fusion. What a score means differs
    between runs, so each is put on the range of scores that its run gives in its training videos; they are
    localized for that. Of three or more runs that differ in nothing but the seed, one that ranks these
    segments as no other does (`weaktal.localize.fusion.voices`) is left out, if its TL
    (`weaktal.train.select`) is below their median: a start that collapsed does no harm. By scores, snippet
    scores of runs of one method are averaged, all of them.

    Args:
        runs: the runs, or their directories; of the same classes.
        out: directory of the new run, which refers to the others: they have to stay where they are. Its
            configuration names those that were left out, too.
        by: what is fused.
        data: a data set, or its description; default for each run the one that it was trained on.
        device, max_memory: see `weaktal.localize_run`.

    Raises:
        InputError: no runs, the same twice, runs of different classes, or, by scores, of different methods;
            one without a checkpoint; a run in `out`.
    """
    out = Path(out)
    members = [Run.open(r) for r in runs]
    if not members:
        raise InputError("no run to fuse")
    if (out / "config.yaml").exists():
        raise InputError("there is a run in this folder already", file=out, hint="name another folder")
    first = members[0]
    prints = [fingerprint(m) for m in members]
    for i, member in enumerate(members):
        if member.folder.resolve() in [m.folder.resolve() for m in members[:i]]:
            raise InputError("the same run is named twice", file=member.folder)
        if sorted(member.config.classes) != sorted(first.config.classes):
            raise InputError(
                "runs of different classes cannot be fused",
                file=member.folder,
                found=", ".join(member.config.classes[:5]),
                expected=", ".join(first.config.classes[:5]),
            )
    if by == "scores":
        _same_scores(members)
    named = [Member(path=member_path(m, out), sha256=p) for m, p in zip(members, prints, strict=True)]
    heard = [True] * len(members)
    if by == "detections":
        found = [found_by(m, data, m.config.subset, device=device, max_memory=max_memory) for m in members]
        each = [f.detections.relabelled(first.config.classes) for f in found]
        scales = [Scale.of(d) for d in each]
        for rows in _alike(members):
            if len(rows) > 2:  # two that differ say nothing of which one is odd
                told = voices(
                    [each[i] for i in rows],
                    scales=[scales[i] for i in rows],
                    likelihood=[_likelihood(members[i], found[i], data) for i in rows],
                )
                for i, voice in zip(rows, told.tolist(), strict=True):
                    heard[i] = voice
        ranges = [{"low": s.low.tolist(), "high": s.high.tolist()} for s in compress(scales, heard)]
        write_text(out / SCALES, json.dumps(ranges) + "\n")
    config = FusedConfig(
        by=by,
        members=tuple(compress(named, heard)),
        left_out=tuple(m.path for m, h in zip(named, heard, strict=True) if not h),
    )
    made = RunConfig(
        method=FUSED,
        config=config.model_dump(mode="json"),
        dim=first.config.dim,
        classes=first.config.classes,
        data=first.config.data,
        versions=versions(),
    )
    # without it a folder is no run, so it comes last
    text = yaml.safe_dump(made.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(out / "config.yaml", text)
    return Run(out, made)


def _alike(members: Sequence[Run]) -> list[list[int]]:
    """Rows of the runs that differ in nothing but the seed, group by group."""
    rows: dict[str, list[int]] = {}
    for i, member in enumerate(members):
        what = json.dumps([member.config.method, member.config.config], sort_keys=True)
        rows.setdefault(what, []).append(i)
    return list(rows.values())


def _likelihood(member: Run, found: Found, data: Dataset | PathLike | None) -> float:
    """TL of a run, from its scores in its training videos; NaN where it has no class scores, or no labels."""
    if not found.scores:
        return math.nan
    of = {s.video: s for s in found.scores}
    known = dataset_of(member, data).subset(member.config.subset)
    weak = known.where(lambda v: v.name in of).weak("video")
    if weak.classes != member.config.classes or not weak.multi_hot().any():
        return math.nan
    return label_likelihood([of[v.name] for v in weak.videos], weak)


def _same_scores(members: Sequence[Run]) -> None:
    """Whether scores of these runs can be averaged.

    Raises:
        InputError: they cannot.
    """
    first = members[0]
    if not issubclass(find_method(first.config.method), SnippetMethod):
        raise InputError(
            f"{first.config.method} has no snippet scores", file=first.folder, hint="fuse detections"
        )
    for member in members[1:]:
        for field in ("method", "dim", "classes"):
            found, expected = getattr(member.config, field), getattr(first.config, field)
            if found != expected:
                raise InputError(
                    "scores of these runs cannot be averaged",
                    file=member.folder,
                    field=field,
                    found=found,
                    expected=expected,
                    hint="fuse detections",
                )


@dataclass(frozen=True)
class Fused:
    """Methods trained from several seeds each, as one run.

    Attributes:
        run: the fused run.
        started: the starts, by method.
    """

    run: Run
    started: Mapping[str, Started]

    def __str__(self) -> str:
        tables = [f"{method}\n{table}" for method, table in self.started.items()]
        end = [*fused_config(self.run).remarks, f"fused: {self.run.folder}"]
        return "\n\n".join([*tables, "\n".join(end)])


def train_fused(
    methods: Sequence[str],
    data: Dataset | PathLike,
    out: PathLike,
    *,
    starts: int = 5,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    **options: Any,
) -> Fused:
    """Train methods from several seeds each and fuse the picks; of a single method, all of its starts.

    Every method is a run of its own in ``METHOD`` of `out`, see `weaktal.train_starts`.

    Args:
        methods: their names.
        data: a data set with a file, or its description.
        out: the run directory.
        starts: seeds of each method.
        settings: single hyper-parameters; with several methods, as "METHOD.KEY".
        resume: go on.
        options: others of `weaktal.train_starts`, for all methods.

    Raises:
        InputError: as `weaktal.train_starts` and `fuse_runs`; a setting of no method.
    """
    out, alone = Path(out), len(methods) == 1
    if alone and (options.get("early") is not None or starts < 2):
        raise InputError(
            "all starts of a single method are fused: two or more, each trained to its end",
            hint="leave out --early, or name several methods",
        )
    if len(set(methods)) < len(methods):
        raise InputError("a method is named twice", found=", ".join(methods))
    of: dict[str, dict[str, Any]] = {m: {} for m in methods}
    for key, value in (settings or {}).items():
        method, dot, field = key.partition(".")
        if alone and not (dot and method in of):
            method, field = methods[0], key
        elif not dot or method not in of:
            raise InputError(
                "a setting of which method?",
                found=repr(key),
                expected=f"one of {', '.join(of)}, a dot, a field",
            )
        of[method][field] = value
    if (out / "config.yaml").exists() and not resume:
        raise InputError(
            "there is a run in this folder already",
            file=out,
            hint="continue it with --resume, or name another folder",
        )
    keep = {"keep": True} if alone else {}
    started = {
        m: train_starts(m, data, out / m, starts=starts, settings=of[m], resume=resume, **{**options, **keep})
        for m in methods
    }
    if (out / "config.yaml").exists():
        return Fused(Run.open(out), started)
    runs = list(started[methods[0]].runs) if alone else [s.run for s in started.values()]
    chosen = {k: options[k] for k in ("device", "max_memory") if options.get(k) is not None}
    return Fused(fuse_runs(runs, out, data=data, **chosen), started)
