"""From detections to what the page shows of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from weaktal.core import Annotations, Detections, SnippetScores
from weaktal.evaluate import Protocol, analyse, evaluate, strongest_rows
from weaktal.report.timeline import RunView


def run_view(
    name: str,
    detections: Detections,
    annotations: Annotations,
    protocol: Protocol,
    *,
    facts: Mapping[str, str] | None = None,
    scores: Sequence[SnippetScores] = (),
    tiou: Sequence[float] | None = None,
) -> RunView:
    """Evaluate detections and lay out the result for the page.

    Args:
        name: a short name, unique on the page.
        detections: of the annotated videos.
        annotations: the evaluated subset.
        protocol: decides the numbers; found and missed on the time lines are at tIoU 0.5 in seconds.
        facts: more to say about the run.
        scores: snippet scores, where the method has them.
        tiou: thresholds, default those of the protocol.
    """
    result = evaluate(detections, annotations, protocol, tiou=tiou)
    ap = np.full((len(result.tiou), len(annotations.classes)), np.nan)
    ap[:, [annotations.classes.index(c) for c in result.classes]] = result.ap
    told = {
        **(facts or {}),
        "protocol": f"{result.protocol.name} (version {result.protocol.version})",
        "detections": f"{result.detections:,}",
        "coverage": f"{result.coverage.predicted} of {result.coverage.annotated} videos",
    }
    if result.notes:
        told["note"] = "; ".join(result.notes)
    matched = analyse(detections, annotations, rule="own-class-first")
    strongest = detections[strongest_rows(detections, annotations)]
    return RunView(
        name=name,
        facts=told,
        detections=detections,
        correct=matched.kind[0] == 0,
        taken=matched.instance[0],
        thresholds=np.array(result.tiou),
        ap=ap,
        errors=analyse(strongest, annotations, rule="own-class-first").shares(),
        scores={s.video: s for s in scores},
    )
