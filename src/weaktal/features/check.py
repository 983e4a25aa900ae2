"""What is wrong with features: values, widths, and lengths that do not fit the durations of the videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Finding, InputError
from weaktal.features.store import FeatureStore

# frame rates and strides (in frames) of public features, the usual ones first
FRAME_RATES = (25.0, 30.0, 24.0, 15.0, 10.0)
HIGH_FRAME_RATES = (50.0, 60.0)
STRIDES = (16, 8, 4, 1, 2, 32, 64, 6, 5, 10, 24, 30)


@dataclass
class FeatureReport:
    """What `inspect_features` found.

    Attributes:
        videos, snippets: how many.
        lengths: (V,) snippets per video.
        compared: videos whose length was held against a duration.
        implied_rate: snippets per second that lengths and durations imply; None without durations.
        findings: what is wrong.
    """

    videos: int
    snippets: int
    lengths: NDArray[np.int64]
    compared: int = 0
    implied_rate: float | None = None
    findings: list[Finding] = field(default_factory=list)


def inspect_features(
    store: FeatureStore,
    durations: Mapping[str, float] | None = None,
    fps: Mapping[str, float] | None = None,
    *,
    quick: bool = False,
) -> FeatureReport:
    """Look at every video of a store.

    Args:
        store: the features.
        durations: annotated durations by video, seconds; else what the files say themselves.
        fps: frame rates of the original videos, where known.
        quick: shapes and headers only, no values.
    """
    lengths: dict[str, int] = {}
    broken: dict[str, list[str]] = {}
    zero, other, warned = [], [], []
    own: dict[str, float] = {}
    starts: dict[str, float] = {}
    unsaid: list[str] = []
    first = _set_header(store.about(store.names[0]))
    for name in store.names:
        try:
            if quick:
                lengths[name] = store.length(name)
            else:
                rows = store.load(name)
                lengths[name] = len(rows)
                if not rows.any():
                    zero.append(name)
            said = store.about(name)
            if _set_header(said) != first:
                other.append(name)
            if said.get("warnings"):
                warned.append(name)
            if said.get("duration"):
                own[name] = float(said["duration"])
            start = store.start(name)
            if start is not None:
                starts[name] = start
            elif said.get("source_hash"):  # by `weaktal extract`, before it noted where pictures begin
                unsaid.append(name)
        except InputError as error:
            detail = f", {error.found}" if error.message == "features of another width" else ""
            broken.setdefault(error.message + detail, []).append(name)
    counts = np.array(list(lengths.values()), np.int64)
    report = FeatureReport(len(store), int(counts.sum()), counts)
    report.findings += [Finding(f"{len(v)} videos: {what}", tuple(v)) for what, v in broken.items()]
    if zero:
        hint = "placeholders of videos that could not be extracted"
        report.findings.append(Finding(f"{len(zero)} videos are all zero", tuple(zero), hint))
    if other:
        hint = "extract them with the same settings"
        report.findings.append(
            Finding(f"{len(other)} videos were made otherwise than {store.names[0]!r}", tuple(other), hint)
        )
    if warned:
        hint = "their files say which"
        report.findings.append(
            Finding(f"{len(warned)} videos were decoded with warnings", tuple(warned), hint)
        )
    if unsaid:
        report.findings.append(
            Finding(
                f"where the picture begins is unknown of {len(unsaid)} videos",
                tuple(unsaid),
                "extracted by an older version: times are early where the picture begins later than the file",
            )
        )
    seen = {n: d - starts.get(n, 0.0) for n, d in (own | dict(durations or {})).items()}
    _check_lengths(store, lengths, seen, fps or {}, report)
    return report


def _set_header(about: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("rate", "window", "stride", "offset", "dims", "backbone", "weights", "crop", "flow")
    return {k: about.get(k) for k in keys}


def _check_lengths(
    store: FeatureStore,
    lengths: Mapping[str, int],
    durations: Mapping[str, float],
    fps: Mapping[str, float],
    report: FeatureReport,
) -> None:
    names = [n for n in lengths if durations.get(n, 0) > 0]
    report.compared = len(names)
    if not names:
        return
    length = np.array([lengths[n] for n in names], np.float64)
    duration = np.array([durations[n] for n in names])
    report.implied_rate = float(np.median(length / duration))
    if store.rate is None:
        report.findings.append(Finding("the rate is not known", (), likely_cause(length, duration, None)))
        return
    off = mismatched(length, duration, store.rate)
    if not off.any():
        return
    which = tuple(n for n, bad in zip(names, off, strict=True) if bad)
    if off.mean() > 0.1:
        rates = None if any(n not in fps for n in names) else np.array([fps[n] for n in names])
        hint = likely_cause(length, duration, rates, store.rate)
    else:
        hint = "other cuts of these videos, or durations that are wrong"
    report.findings.append(
        Finding(
            f"{len(which)} of {len(names)} videos have another length than duration x rate "
            f"(rate {store.rate:g}, implied {report.implied_rate:.4g} snippets per second)",
            which,
            hint,
        )
    )


def mismatched(length: NDArray[np.float64], duration: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Lengths that differ from duration x rate by more than two snippets and three percent."""
    expected = duration * rate
    return np.asarray(np.abs(length - expected) > 2 + 0.03 * expected)


def likely_cause(
    length: NDArray[np.float64],
    duration: NDArray[np.float64],
    fps: NDArray[np.float64] | None = None,
    rate: float | None = None,
) -> str:
    """Why lengths do not fit durations at the rate that was named, in words.

    >>> length = np.array([750.0, 1500, 300, 225])
    >>> likely_cause(length, length / 7.5, rate=25 / 16)
    'the lengths imply 7.5 snippets per second, as of 30 fps with a stride of 4 frames; set rate: 7.5'
    """
    varied = np.ptp(duration) > 0.2 * duration.max()
    if varied and np.ptp(length) == 0:
        return f"every video has {length[0]:.0f} snippets: resampled to a fixed number, time is lost"
    top = length.max()
    if (
        rate is not None
        and 0.1 < (length == top).mean() < 1
        and not mismatched(length[length < top], duration[length < top], rate).any()
    ):
        return f"videos are cut at {top:.0f} snippets"
    implied = length / duration
    middle = float(np.median(implied))
    # few snippets make a coarse estimate: each video may be off by one
    close = np.abs(length - middle * duration) <= 2 + 0.03 * middle * duration
    if close.mean() > 0.9:
        return f"the lengths imply {middle:.4g} snippets per second{_grid(middle)}"
    if fps is not None:
        frames = float(np.median(duration * fps / length))
        if (np.abs(length - duration * fps / frames) <= 2 + 0.03 * length).mean() > 0.9:
            return (
                f"a snippet every {frames:.3g} frames of videos that differ in frame rate: "
                "extract at one frame rate"
            )
    return (
        f"no single rate fits (a tenth of the videos lie below {np.quantile(implied, 0.1):.3g}, a tenth "
        f"above {np.quantile(implied, 0.9):.3g} snippets per second): features of other cuts, or a mixed set"
    )


def _grid(rate: float) -> str:
    for rates in (FRAME_RATES, HIGH_FRAME_RATES):
        for stride in STRIDES:
            for fps in rates:
                if abs(fps / stride / rate - 1) < 0.012:
                    return (
                        f", as of {fps:g} fps with a stride of {stride} frames; set rate: {fps / stride:.6g}"
                    )
    return f"; set rate: {rate:.6g}"
