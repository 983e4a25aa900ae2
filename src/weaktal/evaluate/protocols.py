"""What exactly is computed when a paper says mAP: named, versioned protocols.

The same detections score differently under each of them (docs/protocols.md has the table), so every result
names its protocol. A protocol never changes under its name: a change of what it computes raises `version`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core import InputError, did_you_mean

FloatArray = NDArray[np.float64]

# snippets of 16 frames at 25 frames per second, the grid of the field's I3D features
SNIPPET_RATE = 25 / 16
# of a snippet: what rounding to seconds moves a time that lay on the grid, with much room
SNAP = 1e-6
TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# what numpy.arange(0.1, 1.0, 0.1) holds: 0.30000000000000004 and 0.7000000000000001 among them, so that an
# overlap of exactly 3/10 or 7/10 does not match
ARANGE_TIOU = tuple(np.arange(0.1, 1.0, 0.1).tolist())


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol. Make variants with `dataclasses.replace`.

    Attributes:
        name, version: together they say what is computed.
        summary: one line for people.
        rate: times are compared on a grid of that many snippets per second; None compares seconds.
        round_truth: annotated times are rounded to whole snippets, halves to even.
        integer: segments are ranges of whole snippets: detections are cut to [int(start), int(end)), and
            those left without a snippet, and those of videos without instances, are dropped.
        preference: a detection takes the free instance that it overlaps most, or the one "listed" first,
            among those with enough overlap.
        ties: of equal scores and equal overlaps, that listed "last" or "first" comes first. "numpy" is
            "last" for scores and, for overlaps, the order in which NumPy's default sort leaves equal values,
            as in the published tool: the same on processors with AVX2 or AVX-512, another one elsewhere.
        interpolated: precision at a rank is the best precision at this rank or later.
        without_truth: videos whose instances are taken out; detections in them are false positives.
        ignore: detections that touch an ambiguous interval are removed first (whole snippets, in any class).
        nan_matches: published quirk: a detection and an instance of zero length match wherever they are.
        missing_class_zeroes: published quirk: if a class has no detection, the mean over classes is 0.
        snap: detected times this close to a whole snippet are put on it; detections that carry this grid (see
            `weaktal.core.Detections`) are put on it always. Methods that work in whole snippets
            store seconds, and 7 / rate * rate need not be 7; on the snippet grid overlaps of exactly 1/2 are
            so common that this moves mAP (docs/protocols.md).
        tiou: default thresholds of temporal intersection over union.
    """

    name: str
    summary: str
    version: int = 1
    rate: float | None = None
    round_truth: bool = False
    integer: bool = False
    preference: Literal["overlap", "listed"] = "overlap"
    ties: Literal["last", "first", "numpy"] = "last"
    interpolated: bool = True
    without_truth: tuple[str, ...] = ()
    ignore: bool = True
    nan_matches: bool = False
    missing_class_zeroes: bool = False
    snap: float = 0.0
    tiou: tuple[float, ...] = TIOU

    def published(self) -> Protocol:
        """The protocol with the quirks of its published implementation, for comparison with its output."""
        quirks: dict[str, dict[str, Any]] = {
            "activitynet": {"nan_matches": True, "tiou": ARANGE_TIOU},
            "wtalc": {"nan_matches": True},
            "wtalc-raw": {"nan_matches": True},
            "integer-grid": {"missing_class_zeroes": True},
            "integer-grid-wtalc": {"missing_class_zeroes": True, "tiou": TIOU[:5]},
        }
        return replace(self, **quirks.get(self.name, {}))

    def truth_times(self, seconds: ArrayLike) -> FloatArray:
        """Annotated seconds in the protocol's unit."""
        x = np.asarray(seconds, dtype=np.float64)
        if self.rate is None:
            return x
        return np.rint(x * self.rate) if self.round_truth else x * self.rate

    def detection_times(self, seconds: ArrayLike) -> FloatArray:
        """Detected seconds in the protocol's unit."""
        x = np.asarray(seconds, dtype=np.float64)
        if self.rate is None:
            return x
        x = to_snippets(x, self.rate, self.snap)
        return np.trunc(x) if self.integer else x

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def to_snippets(seconds: FloatArray, rate: float, snap: float) -> FloatArray:
    """Seconds in snippets; a time within `snap` of a whole snippet is that snippet."""
    x = seconds * rate
    if not snap:
        return x
    whole = np.rint(x)
    return np.where(np.abs(x - whole) < snap, whole, x)


PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "activitynet",
            "seconds, as annotated (ActivityNet tool; ASM-Loc, BaS-Net, SAL, LAC)",
            ignore=False,
            ties="numpy",
        ),
        Protocol(
            "wtalc",
            "annotations rounded to snippets (CO2-Net, STCL-Net, P-MIL)",
            rate=SNIPPET_RATE,
            round_truth=True,
        ),
        Protocol(
            "wtalc-raw",
            "snippets, not rounded, without two THUMOS14 videos (TSPNet)",
            rate=SNIPPET_RATE,
            without_truth=("video_test_0000270", "video_test_0001496"),
        ),
        Protocol(
            "integer-grid",
            "ranges of whole snippets, best free instance (ISSF)",
            rate=SNIPPET_RATE,
            round_truth=True,
            integer=True,
            ties="first",
        ),
        Protocol(
            "integer-grid-wtalc",
            "ranges of whole snippets, first free instance, AP not interpolated (W-TALC)",
            rate=SNIPPET_RATE,
            round_truth=True,
            integer=True,
            preference="listed",
            ties="first",
            interpolated=False,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        InputError: there is none of that name.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise InputError(
            "unknown evaluation protocol",
            found=repr(name),
            expected="one of " + ", ".join(PROTOCOLS),
            hint=did_you_mean(name, PROTOCOLS),
        ) from None
