"""Static figures for papers: the same content as the page, as PNG, SVG or PDF by the file's suffix."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from weaktal.core import Annotations, atomic_path
from weaktal.report.timeline import RunView, class_colors, clock


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure, whole or not at all."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip("."), dpi=160, bbox_inches="tight")


def timeline_figure(
    annotations: Annotations, name: str, runs: Sequence[RunView], cuts: Sequence[float]
) -> Figure:
    """One video: ground truth, then per run its activation sequence and the detections above its cut."""
    video = annotations.video(name)
    colors = class_colors(len(annotations.classes))
    rows = 1 + sum(2 if name in r.scores else 1 for r in runs)
    figure = Figure(figsize=(9, 0.5 + 0.62 * rows), layout="constrained")
    axes: list[Axes] = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    _bars(axes[0], video.instances.start, video.instances.end, [colors[c] for c in video.instances.label])
    axes[0].set_ylabel("ground\ntruth", rotation=0, ha="right", va="center", fontsize=8)
    labels = sorted(set(video.instances.label.tolist()))
    row = 1
    for run, cut in zip(runs, cuts, strict=True):
        if name in run.scores:
            scores, axis = run.scores[name], axes[row]
            times = scores.axis.centers()
            axis.fill_between(times, np.clip(scores.foreground, 0, 1), color="#c9cfda", lw=0)
            shown = labels or [int(scores.video_scores.argmax())]
            low, high = scores.cas[:, shown].min(), scores.cas[:, shown].max()
            for c in shown:
                axis.plot(times, (scores.cas[:, c] - low) / ((high - low) or 1), color=colors[c], lw=1)
            axis.set_ylim(0, 1)
            axis.set_ylabel("activation", rotation=0, ha="right", va="center", fontsize=8)
            row += 1
        d = run.detections
        keep = (
            (d.video == d.names.index(name)) & (d.score >= cut) if name in d.names else np.zeros(len(d), bool)
        )
        places = [annotations.classes.index(d.classes[c]) for c in d.label[keep]]
        _bars(axes[row], d.start[keep], d.end[keep], [colors[c] for c in places], run.correct[keep])
        axes[row].set_ylabel(run.name, rotation=0, ha="right", va="center", fontsize=8)
        row += 1
        labels = sorted({*labels, *places})
    for axis in axes:
        axis.set_yticks([])
        axis.margins(x=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    if video.duration:
        axes[-1].set_xlim(0, video.duration)
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda t, _: clock(t)))
    handles = [axes[0].plot([], [], color=colors[c], lw=5, label=annotations.classes[c])[0] for c in labels]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    return figure


def _bars(
    axis: Axes, start: np.ndarray, end: np.ndarray, colors: list[str], solid: np.ndarray | None = None
) -> None:
    for i, (a, b, color) in enumerate(zip(start, end, colors, strict=True)):
        full = solid is None or bool(solid[i])
        axis.axvspan(a, b, facecolor=color, alpha=0.9 if full else 0.25, edgecolor=color, lw=0.8)
    axis.set_ylim(0, 1)


def map_figure(runs: Sequence[RunView]) -> Figure:
    """mAP over the tIoU thresholds, a line per run."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axis = figure.subplots()
    for run in runs:
        axis.plot(
            run.thresholds,
            100 * run.mean_ap,
            marker="o",
            ms=4,
            label=f"{run.name} ({100 * run.mean_ap.mean():.1f})",
        )
    axis.set_xlabel("tIoU threshold")
    axis.set_ylabel("mAP (%)")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, title="average in brackets", fontsize=8, title_fontsize=8)
    return figure
