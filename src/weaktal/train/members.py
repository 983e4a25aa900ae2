"""What a fused run is: several runs by their paths, and how what they find becomes one.

::

    FUSED/config.yaml    method: fused; the rule and the members, each with a checksum
    FUSED/scales.json    range of every member's scores by class, in its training videos

A member is opened as any run is: nothing in these files makes code run. Its checksum says whether it is still
the one that was fused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaktal.core import Detections, InputError, SnippetScores
from weaktal.localize.fusion import IOU, MOST, NMS, Scale, fuse_detections, fuse_scores
from weaktal.methods.protocol import SnippetMethod
from weaktal.train.run import FUSED, Run

SCALES = "scales.json"
By = Literal["detections", "scores"]


class Member(BaseModel):
    """A run of a fused one.

    Attributes:
        path: its directory, relative to the fused run's if inside it.
        sha256: of its configuration and its checkpoint, see `fingerprint`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str


class FusedConfig(BaseModel):
    """The rule of a fused run, and its members.

    Attributes:
        by: "detections": weighted fusion of segments; "scores": means of snippet scores on a common time
            axis, localized as the first member does.
        most, iou, nms_threshold: of the fusion of detections, see `weaktal.localize.fusion.fuse_detections`.
        members: in order.
        left_out: paths of runs that were named and have no voice, see `weaktal.train.fuse.fuse_runs`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: By = "detections"
    most: int = Field(default=MOST, ge=1)
    iou: float = Field(default=IOU, gt=0, le=1)
    nms_threshold: float = Field(default=NMS, gt=0, le=1)
    members: tuple[Member, ...] = Field(min_length=1)
    left_out: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """What whoever fuses should know, a line each."""
        why = "ranks segments as no other seed of it does, and its TL is below their median"
        return [f"left out: {path} {why}" for path in self.left_out]


def fused_config(run: Run) -> FusedConfig:
    """The rule of a fused run.

    Raises:
        InputError: its configuration is damaged.
    """
    try:
        return FusedConfig.model_validate(run.config.config)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("config", *first["loc"])))
        found = repr(first.get("input"))[:80]
        raise InputError(first["msg"], file=run.folder / "config.yaml", field=field, found=found) from error


def open_members(run: Run) -> list[Run]:
    """The members of a fused run.

    Raises:
        InputError: one is missing, was trained anew since, or is a fused run itself.
    """
    out = []
    for i, member in enumerate(fused_config(run).members):
        found = Run.open(run.folder / member.path)
        if fingerprint(found) != member.sha256:
            raise InputError(
                "this member of a fused run has changed since it was fused",
                file=found.folder,
                field=f"config.members.{i}",
                hint="fuse the runs again",
            )
        out.append(found)
    return out


def fingerprint(run: Run) -> str:
    """SHA-256 of what decides what a run finds: its configuration and its checkpoint.

    Raises:
        InputError: a fused run, or one without a checkpoint.
    """
    if run.config.method == FUSED:
        raise InputError("a fused run cannot be fused again", file=run.folder, hint="fuse all of its members")
    parts = [run.folder / "config.yaml", run.checkpoint() / "meta.json"]
    if not parts[1].exists():
        raise InputError("this run has no checkpoint yet", file=parts[1].parent, hint="train it first")
    digest = hashlib.sha256()
    for part in parts:  # meta.json holds the checksums of weights and state
        digest.update(part.read_bytes())
    return digest.hexdigest()


def member_path(run: Run, folder: Path) -> str:
    """How a fused run in `folder` names a member: relative inside of it, absolute elsewhere."""
    there, here = run.folder.resolve(), folder.resolve()
    return os.fspath(there.relative_to(here) if there.is_relative_to(here) else there)


def joined(
    run: Run,
    members: Sequence[Run],
    found: Sequence[tuple[Detections, Sequence[SnippetScores]]],
    localizer: SnippetMethod | None = None,
) -> tuple[Detections, list[SnippetScores]]:
    """What members found as one; snippet scores only where these are what is fused.

    Args:
        run: the fused run.
        members: its members.
        found: by each of them, in the same videos.
        localizer: the first member's method, for a fusion of scores.
    """
    config, classes = fused_config(run), run.config.classes
    if config.by == "scores":
        assert localizer is not None
        scores = fuse_scores([s for _, s in found])
        return localizer.localize(scores), scores
    each = [d.relabelled(classes) for d, _ in found]
    fused = fuse_detections(
        each,
        scales=read_scales(run, members),
        most=config.most,
        iou=config.iou,
        nms_threshold=config.nms_threshold,
    )
    return fused, []


def read_scales(run: Run, members: Sequence[Run]) -> list[Scale]:
    """The ranges of the members' scores.

    Raises:
        InputError: they are missing or do not fit.
    """
    path = run.folder / SCALES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        scales = [Scale(np.array(s["low"], np.float64), np.array(s["high"], np.float64)) for s in found]
        shapes = {x.shape for s in scales for x in (s.low, s.high)}
        if len(scales) != len(members) or shapes != {(len(run.config.classes),)}:
            raise ValueError("they are of other members or classes")
        if not all(np.isfinite(x).all() for s in scales for x in (s.low, s.high)):
            raise ValueError("a range is not finite")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            "cannot read the ranges of scores", file=path, found=error, hint="fuse the runs again"
        ) from error
    return scales
