"""Detections of a trained run in a data set: what `weaktal localize` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from weaktal.core import CoverageWarning, Detections, Grid, InputError, SnippetScores
from weaktal.dataset import Dataset
from weaktal.formats import save_detections
from weaktal.formats.scores import load_scores, save_scores
from weaktal.methods.protocol import Method, SnippetMethod
from weaktal.train.calibration import Per, least_shown
from weaktal.train.config import validated
from weaktal.train.data import inference_bank
from weaktal.train.inference import detect_videos, score_videos, with_grid
from weaktal.train.loop import launch
from weaktal.train.measure import load_proposals
from weaktal.train.members import fused_config, joined, open_members
from weaktal.train.predict import feature_difference
from weaktal.train.run import FUSED, Run

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Localized:
    """What was found.

    Attributes:
        detections: in the videos of the subset.
        path: the file that holds them.
        scores: the snippet scores they come from; empty for a method that has none.
    """

    detections: Detections
    path: Path
    scores: tuple[SnippetScores, ...] = ()


def localize_run(
    run: Run | PathLike,
    data: Dataset | PathLike | None = None,
    *,
    subset: str = "test",
    out: PathLike | None = None,
    checkpoint: Literal["last", "best"] | None = None,
    from_scores: bool = False,
    settings: Mapping[str, Any] | None = None,
    proposals: PathLike | None = None,
    false_alarms: float | Literal["off"] = "off",
    per: Per = "video",
    device: str = "auto",
    max_memory: str | None = None,
) -> Localized:
    """Detections of a run in the videos of a subset; its snippet scores are kept in the run's ``scores/``.

    Args:
        run: the run, or its directory.
        data: a data set, or its description; default the one that was trained on.
        subset: role or name of the subset.
        out: the detections, ``.json`` or ``.csv``; default ``detections.json`` of the run.
        checkpoint: default what the run's checkpoint rule says.
        from_scores: repeat from the scores kept in the run, without the network and the features.
        settings: of the localization, in place of the run's.
        proposals: file of a base locator's segments, for proposal-level methods; default the run's.
        false_alarms: keep the detections that `weaktal.predict` would show at this rate, and leave out all
            others, which an evaluation would count.
        per: what the rate is a share of, see `weaktal.predict`.
        device: see `weaktal.train.loop.launch`.
        max_memory: see `weaktal.train.feature_bank`.

    Raises:
        InputError: no run, no checkpoint, no scores; unusable data; features that were made otherwise than
            those that the run was trained on; a rate of false alarms, and no calibration for what was chosen.

    Warns:
        CoverageWarning: videos that are left out; scores that could not be kept in the run; other classes
            than the run's.
    """
    run = Run.open(run)
    least, _, _ = least_shown(run, false_alarms, per)
    if least is not None and (settings or checkpoint is not None):
        raise InputError("the run is calibrated with its own checkpoint and settings", file=run.folder)
    kept = run.folder / "scores" / f"{subset}.safetensors"
    if from_scores:
        method, scores = _kept_scores(run, kept)
        _set(method, run, settings)
        found = Found(replace(method.localize(scores), grid=_grid(run)), tuple(scores), method.classes)
    else:
        found = found_by(
            run,
            data,
            subset,
            checkpoint=checkpoint,
            settings=settings,
            proposals=proposals,
            device=device,
            max_memory=max_memory,
        )
        if found.scores:
            _keep(found, kept, elsewhere=out is not None)
    path = run.folder / "detections.json" if out is None else Path(out)
    detections = found.detections
    if least is not None:
        detections = detections[detections.score >= least]
    save_detections(detections, path)
    return Localized(detections, path, found.scores)


@dataclass(frozen=True, eq=False)
class Found:
    """What a run finds in videos.

    Attributes:
        detections: of all of them.
        scores: the snippet scores they come from; empty where there are none.
        classes: of the run.
    """

    detections: Detections
    scores: tuple[SnippetScores, ...]
    classes: tuple[str, ...]


def found_by(
    run: Run,
    data: Dataset | PathLike | None,
    subset: str,
    *,
    checkpoint: Literal["last", "best"] | None = None,
    settings: Mapping[str, Any] | None = None,
    proposals: PathLike | None = None,
    device: str = "auto",
    max_memory: str | None = None,
) -> Found:
    """What a run finds in the videos of a subset; nothing is written. See `localize_run`."""
    if run.config.method == FUSED:
        if checkpoint is not None or proposals is not None:
            raise InputError("of a fused run neither checkpoint nor proposals can be chosen", file=run.folder)
        return _found_by_members(run, data, subset, settings or {}, device, max_memory)
    dataset = dataset_of(run, data)
    same_features(run, dataset)
    method = run.method(checkpoint)
    _set(method, run, settings)
    bank = inference_bank(dataset, subset, max_memory=max_memory, scratch=run.folder / "features")
    if bank.dim != run.config.dim:
        raise InputError(
            "the features are of another width than the method's",
            file=dataset.path,
            found=bank.dim,
            expected=run.config.dim,
        )
    method.to(launch(device).device)
    scores: list[SnippetScores] = []
    if isinstance(method, SnippetMethod):
        scores = score_videos(method, bank)
        detections = method.localize(scores)
    else:
        given = proposals or run.config.data.get("proposals")
        segments = load_proposals(given, dataset) if method.base_at_test else None
        detections = detect_videos(method, bank, proposals=segments)
    _compare_classes(run, dataset)
    return Found(with_grid(detections, bank.axes), tuple(scores), method.classes)


def _found_by_members(
    run: Run,
    data: Dataset | PathLike | None,
    subset: str,
    settings: Mapping[str, Any],
    device: str,
    max_memory: str | None,
) -> Found:
    """What the members of a fused run find, as one.

    A member that was trained on other features than the data set has finds in those of its own data set.
    """
    members, rule = open_members(run), fused_config(run).by
    dataset = dataset_of(run, data)
    localizer: SnippetMethod | None = None
    if rule == "scores":
        built = members[0].build()
        assert isinstance(built, SnippetMethod)
        _set(built, members[0], settings)
        localizer = built
    elif settings:
        wrong = next(iter(settings))
        raise InputError(
            "what a fusion of detections does is fixed when it is made",
            found=repr(wrong),
            expected="no setting",
        )
    found = [
        found_by(m, dataset if fits(m, dataset) else None, subset, device=device, max_memory=max_memory)
        for m in members
    ]
    detections, scores = joined(run, members, [(f.detections, f.scores) for f in found], localizer)
    return Found(detections, tuple(scores), run.config.classes)


def fits(run: Run, dataset: Dataset) -> bool:
    """Whether a run can use the features of a data set."""
    known = run.config.data.get("features") or {}
    return dataset.store.dim == run.config.dim and not feature_difference(known, dataset.store.provenance)


def dataset_of(run: Run, data: Dataset | PathLike | None) -> Dataset:
    """A data set, its description, or the one that a run was trained on."""
    data = data if data is not None else run.config.data.get("path")
    if data is None:
        raise InputError("no data set: name its description with --data")
    return data if isinstance(data, Dataset) else Dataset.load(data)


def _set(method: Method, run: Run, settings: Mapping[str, Any] | None) -> None:
    if settings:
        method.config = validated(type(method.config), {**run.config.config, **settings})


def same_features(run: Run, dataset: Dataset) -> None:
    """Compare what is known of the features with what the run was trained on, as `weaktal.predict` does.

    Raises:
        InputError: another rate, window, offset, streams, backbone or weights.
    """
    difference = feature_difference(run.config.data.get("features") or {}, dataset.store.provenance)
    if difference:
        raise InputError(
            "this run was trained on other features",
            file=dataset.path,
            found=difference,
            hint="name features that were made in the same way, and their rate",
        )


def _grid(run: Run) -> Grid | None:
    """The snippets of the features that a run was trained on, where it says so."""
    made = {} if run.config.method == FUSED else run.config.data.get("features") or {}
    rate, offset = made.get("rate"), made.get("offset") or 0.0
    if not isinstance(rate, int | float) or not isinstance(offset, int | float) or not rate > 0:
        return None
    return Grid(float(rate), float(offset))


def _compare_classes(run: Run, dataset: Dataset) -> None:
    known = () if dataset.annotations is None else dataset.annotations.classes
    missing = [name for name in run.config.classes if name not in known]
    if known and missing:
        warnings.warn(
            f"{len(missing)} of the {len(run.config.classes)} classes of the run are none of the data set's, "
            f"which has {len(known)}: {', '.join(missing[:3])}" + (", ..." if len(missing) > 3 else ""),
            CoverageWarning,
            stacklevel=3,
        )


def _kept_scores(run: Run, path: Path) -> tuple[SnippetMethod, list[SnippetScores]]:
    if run.config.method == FUSED and fused_config(run).by == "scores":
        method = open_members(run)[0].build()
    else:
        method = run.build()
    if not isinstance(method, SnippetMethod):
        raise InputError(f"{method.name} has no snippet scores; localize without --from-scores")
    if not path.exists():
        raise InputError("no scores saved yet", file=path, hint="localize without --from-scores")
    scores, classes = load_scores(path)
    if classes != method.classes:
        raise InputError("these scores are of other classes", file=path)
    return method, scores


def _keep(found: Found, path: Path, *, elsewhere: bool) -> None:
    """Save scores in the run; one that cannot be written to is no hindrance if the output goes elsewhere."""
    try:
        save_scores(found.scores, path, found.classes)
    except OSError as error:
        if not elsewhere:
            raise
        warnings.warn(
            f"{path}: the scores are not kept: {error.strerror or error}", CoverageWarning, stacklevel=3
        )
