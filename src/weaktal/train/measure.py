"""What a run reaches on annotated videos, and how its checkpoint was chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weaktal.core import Annotations, Detections, InputError, write_json
from weaktal.dataset import Dataset
from weaktal.evaluate import DetectionResult, evaluate, get_protocol
from weaktal.features.bank import FeatureBank
from weaktal.formats import load_detections, save_detections
from weaktal.formats.scores import save_scores
from weaktal.methods.protocol import Method, SnippetMethod
from weaktal.train.data import at_device, feature_bank, inference_bank
from weaktal.train.inference import detect_videos, score_videos, with_grid
from weaktal.train.log import logged_evaluations
from weaktal.train.run import Run
from weaktal.train.select import LIKELIHOOD


class Measure:
    """Detection mAP of methods on one subset; the features stay loaded from call to call.

    Args:
        dataset: features and annotations.
        subset: role or name.
        protocol: name of an evaluation protocol, by default the data set's own.
        proposals: segments of a base locator, for proposal-level methods.
        only: of the subset, these videos alone.
        max_memory, scratch: see `weaktal.train.feature_bank`.
    """

    def __init__(
        self,
        dataset: Dataset,
        subset: str = "test",
        *,
        protocol: str | None = None,
        proposals: Detections | None = None,
        only: Sequence[str] | None = None,
        max_memory: int | str | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.protocol = get_protocol(protocol or dataset.protocol)
        self.dataset, self.subset, self.proposals = dataset, subset, proposals
        self.annotations: Annotations = dataset.subset(subset)
        if only is None:
            bank = inference_bank(dataset, subset, max_memory=max_memory, scratch=scratch)
        else:
            names = [n for n in only if n in dataset.store]
            self.annotations = self.annotations.where(lambda v: v.name in set(only))
            bank = feature_bank(dataset.store, names, max_memory=max_memory, scratch=scratch)
        self.bank: FeatureBank = bank

    def __call__(self, method: Method) -> dict[str, float]:
        """Mean AP in percent: "average", and one entry per threshold; for `weaktal.train.fit`."""
        return percent(self.result(self.detections(method)))

    def detections(self, method: Method) -> Detections:
        """Detections in the videos; the features move to the device of the method."""
        self.bank = at_device(self.bank, next(method.parameters()).device)
        return with_grid(detect_videos(method, self.bank, proposals=self.proposals), self.bank.axes)

    def result(self, detections: Detections) -> DetectionResult:
        """The evaluation of detections in the videos."""
        return evaluate(detections, self.annotations, self.protocol)

    def of_run(self, run: Run) -> dict[str, Any]:
        """Localize and evaluate a run; writes its ``scores/``, ``detections.json`` and ``metrics.json``, and
        ``detections-last.json`` where another checkpoint than the last was chosen.

        Returns:
            What ``metrics.json`` holds: the evaluation, "checkpoint" (the rule that chose it) and, where that
            is not "last", "last" with the evaluation of the last checkpoint. Where test subset and labels
            were looked at as training went, "weak" tells what the choice by labels alone would have given.
        """
        rule = run.config.training.choose
        method = run.method()
        if isinstance(method, SnippetMethod):
            scores = score_videos(method, self.bank)
            save_scores(scores, run.folder / "scores" / f"{self.subset}.safetensors", method.classes)
            detections = with_grid(method.localize(scores), self.bank.axes)
        else:
            detections = self.detections(method)
        save_detections(detections, run.folder / "detections.json")
        metrics = {"checkpoint": rule, **self.result(detections).to_dict()}
        metrics["notes"] += [*run.config.data.get("notes", ()), *self._trained_on(run)]
        if rule != "last":
            of_last = self.detections(run.method("last"))
            save_detections(of_last, run.folder / "detections-last.json")
            metrics["last"] = self.result(of_last).to_dict()
        if rule == "best-on-test" and (weak := weak_choice(run.folder / "log.jsonl")):
            metrics["weak"] = weak
        write_json(run.folder / "metrics.json", metrics)
        return metrics

    def _trained_on(self, run: Run) -> list[str]:
        """Whether videos are measured that the run was trained on."""
        try:
            trained = self.dataset.subset(run.config.data.get("subset", "train")).videos
        except InputError:
            return []
        both = [name for name in self.annotations.videos if name in trained]
        if not both:
            return []
        of = f"{len(both)} of the {len(self.annotations)} evaluated videos"
        return [f"the run was trained on {of}: the numbers say nothing about other videos"]


def percent(result: DetectionResult) -> dict[str, float]:
    """Mean AP in percent by threshold, and their average."""
    each = {f"{t:.2g}": 100 * float(m) for t, m in zip(result.tiou, result.mean_ap, strict=True)}
    return {"average": 100 * result.average, **each}


def weak_choice(log: Path) -> dict[str, float]:
    """Mean AP in percent by a log's evaluation of the highest TL (of equal ones the first); or nothing."""
    both = [e for e in logged_evaluations(log) if LIKELIHOOD in e and "average" in e]
    if not both:
        return {}
    best = max(both, key=lambda e: e[LIKELIHOOD])
    return {k: v for k, v in best.items() if k != LIKELIHOOD}


def load_proposals(path: str | os.PathLike[str] | None, dataset: Dataset) -> Detections | None:
    """Segments of a base locator, over the classes of the data set; None stays None.

    Raises:
        InputError: unreadable, or of other classes.
    """
    if path is None:
        return None
    if dataset.annotations is None:
        raise InputError("proposals need a data set with annotations, for its classes")
    return load_detections(path, dataset.classes)
