"""The report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from os import PathLike

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from weaktal.core import Annotations, Detections, write_text
from weaktal.evaluate.diagnosis import KINDS
from weaktal.evaluate.intervals import Interval
from weaktal.report.timeline import WIDTH, RunView, best_cut, class_colors, clock, view_video

# one colour for each of `weaktal.evaluate.diagnosis.KINDS`
KIND_COLORS = dict(
    zip(KINDS, ("#1c8a4c", "#4a90c2", "#7a5bc7", "#e0a020", "#b0568f", "#c62f3b"), strict=True)
)


def write_report(
    path: str | PathLike[str],
    annotations: Annotations,
    runs: Sequence[RunView],
    *,
    title: str,
    facts: Mapping[str, str],
    videos: Sequence[str] | None = None,
    thumbnails: Mapping[str, Sequence[str]] | None = None,
    baselines: Mapping[str, Sequence[float]] | None = None,
    notes: Sequence[str] = (),
    thresholds: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    agreed: Detections | None = None,
    shown: Mapping[str, Mapping[str, float]] | None = None,
    spread: Mapping[str, Sequence[Interval]] | None = None,
) -> None:
    """Write the report page.

    Args:
        path: the HTML file; written whole or not at all.
        annotations: ground truth of the evaluated subset.
        runs: one or several runs, shown side by side.
        title: the page's heading.
        facts: what to say about data, protocol and coverage, in order.
        videos: which videos to draw, in order; default all that are annotated.
        thumbnails: images along a video's time axis, as data URLs.
        baselines: mAP rows to compare with, at the thresholds of the first run (a chance baseline, say).
        notes: remarks below the table.
        thresholds: by run that is calibrated, a row per rate of videos with false alarms: "rate", "threshold"
            (-inf for none), "held_out", "held_out_videos", "held_out_recall", "segments", and in the videos
            of the page "false_alarms", "wrong_videos" and "recall".
        agreed: what most of several runs find, see `weaktal.localize.fusion.agreed`.
        shown: of what each run shows, and of `agreed`: "segments", the share of them that is right
            ("precision") and the share of instances that they find ("recall"), at tIoU 0.5.
        spread: by run, the interval of its average mAP and, but for the first, that of its difference to the
            first.
    """
    names = list(annotations.videos) if videos is None else list(videos)
    instances = len(annotations.instance_table())
    views = [view_video(annotations, n, runs, (thumbnails or {}).get(n, ()), agreed=agreed) for n in names]
    counted = np.flatnonzero(~np.isnan(runs[0].ap).all(axis=0))
    render_page(
        path,
        "page.html.jinja",
        title=title,
        facts=facts,
        runs=runs,
        cuts=[best_cut(r, instances) for r in runs],
        scores=[
            np.sort(r.detections.score)[::-1][:: max(1, len(r.detections) // 400)].tolist() for r in runs
        ],
        baselines=baselines or {},
        notes=notes,
        thresholds=thresholds or {},
        shown=shown or {},
        spread=spread or {},
        classes=annotations.classes,
        counted=counted.tolist(),
        instances=np.bincount(
            annotations.instance_table().label, minlength=len(annotations.classes)
        ).tolist(),
        colors=class_colors(len(annotations.classes)),
        kind_colors=KIND_COLORS,
        views=views,
        left_out=len(annotations) - len(names),
        mean=lambda x: float(np.mean(x)),
    )


def render_page(path: str | PathLike[str], template: str, **content: object) -> None:
    """Write a page from a template of this package, whole or not at all; names in it are escaped."""
    environment = Environment(
        loader=PackageLoader("weaktal.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        width=WIDTH, clock=clock, written=datetime.now().strftime("%Y-%m-%d %H:%M"), **content
    )
    write_text(path, page)
