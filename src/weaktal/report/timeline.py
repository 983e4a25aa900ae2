"""One video on a time line: what was annotated, what was detected, and the curve it came from."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, Detections, SnippetScores

FloatArray = NDArray[np.float64]
WIDTH = 1000.0  # units of the drawing's x axis; the page stretches it


@dataclass(frozen=True)
class RunView:
    """What the page shows of one run.

    Attributes:
        name: a short name, unique on the page.
        facts: what to say about the run (method, supervision, protocol, checkpoint rule, ...), in order.
        detections: its detections, seconds.
        correct: (N,) bool, detections that take a ground truth at tIoU 0.5.
        taken: (N,) the row of `Annotations.instance_table` each correct detection takes, -1 elsewhere.
        thresholds: (H,) tIoU thresholds.
        ap: (H, C) average precision in [0, 1]; NaN for a class that does not count.
        errors: shares or counts of the kinds of detections, in order of display.
        scores: snippet scores by video, where the method has them.
    """

    name: str
    facts: Mapping[str, str]
    detections: Detections
    correct: NDArray[np.bool_]
    taken: NDArray[np.int64]
    thresholds: FloatArray
    ap: FloatArray
    errors: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, SnippetScores] = field(default_factory=dict)

    @property
    def mean_ap(self) -> FloatArray:
        """(H,) mean over the classes that count."""
        return np.asarray(np.nanmean(self.ap, axis=1))


def class_colors(count: int) -> list[str]:
    """Distinct hues of even lightness, as hex colours."""
    out = []
    for i in range(count):
        r, g, b = colorsys.hls_to_rgb((0.58 + i * 0.381966) % 1.0, 0.45 if i % 2 else 0.55, 0.62)
        out.append(f"#{round(255 * r):02x}{round(255 * g):02x}{round(255 * b):02x}")
    return out


def best_cut(run: RunView, instances: int) -> float:
    """The confidence above which precision and recall at tIoU 0.5 balance best (largest F1)."""
    if not len(run.detections) or not instances:
        return 0.0
    order = np.argsort(-run.detections.score, kind="stable")
    hits = np.cumsum(run.correct[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + instances)
    return float(run.detections.score[order[int(np.argmax(f1))]])


@dataclass(frozen=True)
class Bar:
    """A segment in drawing units; `key` is the confidence that shows it (or, for truth, that finds it)."""

    x: float
    width: float
    label: int
    key: float | None
    correct: bool
    title: str


@dataclass(frozen=True)
class Curve:
    """A polyline over the time line: `points` as SVG "x,y ..." in a box of the given height."""

    name: str
    label: int | None
    points: str


@dataclass(frozen=True)
class RunTrack:
    """One run's part of a video's drawing."""

    run: RunView
    bars: list[Bar]
    curves: list[Curve]
    hidden: int  # weaker detections that are not drawn


@dataclass(frozen=True)
class VideoView:
    """All that the page draws of one video."""

    name: str
    duration: float
    classes: list[int]
    truth: list[list[Bar]]  # one list per run: the same instances, with the confidence that finds them
    tracks: list[RunTrack]
    ticks: list[tuple[float, str]]
    ignored: list[tuple[float, float]]
    thumbnails: Sequence[str] = ()
    agreed: Sequence[Bar] = ()  # what most of the runs find; the key is their share


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.25)
    '1:15.2'
    """
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)}:{int(rest * 10) / 10:04.1f}"


def ticks(duration: float) -> list[tuple[float, str]]:
    """Six to twelve round times with their places."""
    step = next(
        s for s in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 1e9) if duration / s <= 12
    )
    return [(WIDTH * t / duration, clock(t)) for t in np.arange(0, duration, step)]


def curve_points(
    values: NDArray[np.floating[Any]], times: FloatArray, duration: float, height: float, most: int = 600
) -> str:
    """A curve of values in [0, 1] as SVG points, thinned to the peaks of at most `most` bins."""
    if len(values) > most:
        edges = np.linspace(0, len(values), most + 1).astype(int)[:-1]
        values, times = np.maximum.reduceat(values, edges), times[edges]
    x = np.clip(times / duration, 0, 1) * WIDTH
    y = height * (1 - np.clip(values, 0, 1))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def view_video(
    annotations: Annotations,
    name: str,
    runs: Sequence[RunView],
    thumbnails: Sequence[str] = (),
    *,
    agreed: Detections | None = None,
    height: float = 44.0,
    most: int = 60,
) -> VideoView:
    """Lay out one video; at most `most` of its strongest detections are drawn per run.

    Args:
        annotations, name, runs: what is drawn.
        thumbnails: images along its time axis, as data URLs.
        agreed: what most of the runs find, over the annotated classes; see `weaktal.localize.fusion.agreed`.
        height: of the curves.
    """
    video = annotations.video(name)
    table = annotations.instance_table()
    rows = np.flatnonzero(table.video == table.names.index(name))
    ends = [video.duration or 0.0, *video.instances.end]
    ends += [r.detections.of(name).end.max(initial=0.0) for r in runs] if not video.duration else []
    ends += [r.scores[name].axis.end for r in runs if name in r.scores and not video.duration]
    duration = float(max(ends)) or 1.0
    scale = WIDTH / duration

    truth, tracks, shown_classes = [], [], set(table.label[rows].tolist())
    for run in runs:
        d = run.detections
        mine = np.flatnonzero(d.video == d.names.index(name)) if name in d.names else np.empty(0, np.int64)
        mine = mine[np.argsort(-d.score[mine], kind="stable")]
        to_class = [annotations.classes.index(c) if c in annotations.classes else -1 for c in d.classes]
        found = {int(run.taken[i]): float(d.score[i]) for i in mine if run.correct[i]}
        bars = []
        for i in mine[:most]:
            label = to_class[d.label[i]]
            text = (
                f"{d.classes[d.label[i]]} {clock(d.start[i])}-{clock(d.end[i])}, confidence {d.score[i]:.3g}"
            )
            bars.append(
                Bar(
                    d.start[i] * scale,
                    max(1.5, (d.end[i] - d.start[i]) * scale),
                    label,
                    float(d.score[i]),
                    bool(run.correct[i]),
                    text + (", correct at tIoU 0.5" if run.correct[i] else ", no match at tIoU 0.5"),
                )
            )
        truth.append(
            [
                Bar(
                    table.start[r] * scale,
                    max(1.5, (table.end[r] - table.start[r]) * scale),
                    int(table.label[r]),
                    found.get(int(r)),
                    int(r) in found,
                    f"{annotations.classes[table.label[r]]} {clock(table.start[r])}-{clock(table.end[r])}",
                )
                for r in rows
            ]
        )
        shown_classes |= {b.label for b in bars[: 3 * max(1, len(rows))] if b.label >= 0}
        tracks.append(
            RunTrack(
                run,
                bars,
                _curves(run.scores.get(name), rows, table.label, duration, height),
                max(0, len(mine) - most),
            )
        )
    of_most = (
        [] if agreed is None or name not in agreed.names else _bars_of_most(agreed.of(name), len(runs), scale)
    )
    shown_classes |= {bar.label for bar in of_most}
    return VideoView(
        name,
        duration,
        sorted(shown_classes),
        truth,
        tracks,
        ticks(duration),
        [(a * scale, (b - a) * scale) for a, b in video.ignored],
        thumbnails,
        of_most,
    )


def _bars_of_most(found: Detections, runs: int, scale: float) -> list[Bar]:
    """What most of the runs found in a video."""
    columns = zip(found.start, found.end, found.label, found.score, strict=True)
    return [
        Bar(
            a * scale,
            max(1.5, (b - a) * scale),
            int(c),
            float(share),
            True,
            f"{found.classes[c]} {clock(a)}-{clock(b)}, found by {share * runs:.0f} of {runs} runs",
        )
        for a, b, c, share in columns
    ]


def _curves(
    scores: SnippetScores | None,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    duration: float,
    height: float,
) -> list[Curve]:
    """Actionness, and the activation of the annotated classes (of the likeliest one where there are none)."""
    if scores is None:
        return []
    times = scores.axis.centers()
    wanted = sorted(set(labels[rows].tolist())) or [int(scores.video_scores.argmax())]
    low, high = float(scores.cas[:, wanted].min()), float(scores.cas[:, wanted].max())
    span = (high - low) or 1.0
    curves = [Curve("actionness", None, curve_points(scores.foreground, times, duration, height))]
    curves += [
        Curve("activation", c, curve_points((scores.cas[:, c] - low) / span, times, duration, height))
        for c in wanted
    ]
    return curves
