"""One self-contained page that says what is wrong with detections, and what mending it would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from os import PathLike

import numpy as np

from weaktal.evaluate import Comparison, Confusion, Curve, Diagnosis, Seconds
from weaktal.evaluate.operating import ALL
from weaktal.report.page import KIND_COLORS, render_page

CHARACTERISTICS = {
    "coverage": "share of the video",
    "length": "length in seconds",
    "instances": "instances in the video",
}


def write_diagnosis_page(
    path: str | PathLike[str],
    diagnosis: Diagnosis,
    *,
    title: str,
    facts: Mapping[str, str],
    curves: Mapping[str, Curve],
    seconds: Seconds,
    confusion: Confusion,
    comparison: tuple[str, str, Comparison] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: the HTML file; written whole or not at all.
        diagnosis: see `weaktal.evaluate.analyse`.
        title: the heading.
        facts: what to say about data and detections, in order.
        curves: see `weaktal.evaluate.operating_curves`.
        seconds: see `weaktal.evaluate.errors_in_seconds`, at the best F1 of all classes.
        confusion: see `weaktal.evaluate.class_confusion`.
        comparison: names of two runs and what `weaktal.evaluate.compare` says of them.
        notes: remarks below the facts.
    """
    total = curves[ALL]
    render_page(
        path,
        "diagnosis.html.jinja",
        title=title,
        facts=facts,
        notes=notes,
        diagnosis=diagnosis,
        kind_colors=KIND_COLORS,
        counts=[diagnosis.counts(h) for h in range(len(diagnosis.tiou))],
        profile=diagnosis.profile().tolist(),
        impact=diagnosis.impact(),
        repair=diagnosis.repair(),
        base=diagnosis.average_map_normalised,
        sensitivity=diagnosis.sensitivity(),
        misses=diagnosis.misses(),
        sizes=diagnosis.bucket_sizes(),
        edges={c: _ranges(b.edges) for c, b in diagnosis.buckets.items()},
        characteristics=CHARACTERISTICS,
        best={name: curve.best() for name, curve in curves.items()},
        line=_polyline(total),
        everything=ALL,
        seconds=seconds,
        confusion=confusion,
        most_confused=max(1, int(confusion.counts.max())),
        comparison=comparison,
    )


def _ranges(edges: Sequence[float]) -> list[str]:
    """Each bucket as people write it.

    >>> _ranges((0, 3, 6, float("inf")))
    ['up to 3', '3 to 6', 'over 6']
    """
    out = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)]
    out[0] = f"up to {edges[1]:.3g}"
    if np.isinf(edges[-1]):
        out[-1] = f"over {edges[-2]:.3g}"
    return out


def _polyline(curve: Curve, size: float = 300) -> str:
    """Precision over recall as points of an SVG of this size, at most a few hundred of them."""
    step = max(1, len(curve.threshold) // 300)
    xy = zip(curve.recall[::step], curve.precision[::step], strict=True)
    return " ".join(f"{size * x:.1f},{size * (1 - y):.1f}" for x, y in xy)
