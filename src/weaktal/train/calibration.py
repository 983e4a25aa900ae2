"""From which score on segments are shown: a threshold with a known rate of false alarms.

Kept with a run are the scores of what was found in videos that were not trained on, and their labels, as
plain numbers in ``calibration.json``; another rate can be chosen at any time, without the network.
`weaktal.train.refits` makes them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaktal.core import InputError, shown
from weaktal.core.reading import read_json
from weaktal.evaluate.false_alarms import (
    any_class,
    false_alarm_rate,
    least_rate,
    pair_recall,
    threshold_for,
    wrong_videos,
)
from weaktal.train.members import fingerprint, open_members
from weaktal.train.predict import CLEAR
from weaktal.train.run import FUSED, Run

PathLike = str | os.PathLike[str]
FloatArray = NDArray[np.float64]

FILE = "calibration.json"
Per = Literal["class", "video"]  # what a rate is a share of, see `Calibration.threshold`
RATE = 0.05  # of videos: what `weaktal predict` keeps to by itself
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the table


class Pair(BaseModel):
    """A class that was found in a held-out video; scores on the scale of the run.

    Attributes:
        score: of its strongest detection.
        segments: of those that `weaktal.train.predict.clearest` leaves, from the highest on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: float = Field(allow_inf_nan=False)
    segments: tuple[float, ...] = ()


class HeldOut(BaseModel):
    """A training video, by the refit that was not trained on it.

    Attributes:
        video: its name.
        fold: which refit.
        labels: names of the classes that occur in it.
        complete: whether the others are known not to.
        found: by class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: str
    fold: int = Field(ge=0)
    labels: tuple[str, ...]
    complete: bool = True
    found: dict[str, Pair]


@dataclass(frozen=True)
class Point:
    """What a threshold costs and brings in held-out videos.

    Attributes:
        threshold: least score of what is shown; -inf for everything.
        false_alarms: mean over classes of the share of videos without the class that show it, in [0, 1].
        wrong_videos: share of the videos that show any class that does not occur in them.
        recall: share of the pairs of a video and a class that occurs in it of which the class is shown.
        segments: shown per video, none over another.
    """

    threshold: float
    false_alarms: float
    wrong_videos: float
    recall: float
    segments: float


class Calibration(BaseModel):
    """What refits found in held-out training videos; `threshold` makes a threshold of it.

    Attributes:
        run: SHA-256 of the run that it was made for, see `identity`.
        subset: role or name of the videos.
        folds: how many there were.
        classes: of the run, in order.
        videos: one entry per held-out video.
        notes: what to know about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    subset: str
    folds: int
    classes: tuple[str, ...]
    videos: tuple[HeldOut, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def top(self) -> FloatArray:
        """(V, C) highest scores; -inf where a class was not found."""
        none = -math.inf
        return np.array(
            [[v.found[c].score if c in v.found else none for c in self.classes] for v in self.videos]
        )

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(V, C) which classes occur."""
        return np.array([[c in v.labels for c in self.classes] for v in self.videos])

    @property
    def absent(self) -> NDArray[np.bool_]:
        """(V, C) which classes are known not to occur."""
        complete = np.array([v.complete for v in self.videos], bool)
        return np.asarray(~self.present & complete[:, None])

    def threshold(self, rate: float = RATE, per: Per = "video") -> float:
        """The least score at which the expected rate of false alarms is at most `rate`.

        Args:
            rate: above 0 and below 1.
            per: "video": share of the videos that show any class which does not occur in them. "class": mean
                over classes of the share of videos without the class that show it; of many classes each
                adds its own.

        Raises:
            InputError: so few videos can promise no rate as low as this one.
        """
        if not 0 < rate < 1:
            raise InputError("not a rate of false alarms", found=rate, expected="above 0 and below 1")
        losses = self._losses(per)
        found = threshold_for(*losses, rate)
        if found is None:
            least = math.ceil(1000 * least_rate(losses[1])) / 1000
            raise InputError(
                "so few held-out videos can promise no rate of false alarms as low as that",
                found=f"{rate:g} with {len(self.videos)} videos",
                expected=f"{least:g} or more",
            )
        return found

    def _losses(self, per: Per) -> tuple[FloatArray, NDArray[np.bool_]]:
        """`top` and `absent` as a rate of classes or of videos counts them."""
        return (self.top, self.absent) if per == "class" else any_class(self.top, self.absent)

    def at(self, threshold: float) -> Point:
        """False alarms, recall and segments at a threshold."""
        segments = [s for v in self.videos for pair in v.found.values() for s in pair.segments]
        return Point(
            threshold,
            false_alarm_rate(self.top, self.absent, threshold),
            wrong_videos(self.top, self.absent, threshold),
            pair_recall(self.top, self.present, threshold),
            float((np.array(segments) >= threshold).sum()) / max(1, len(self.videos)),
        )

    def table(self, rates: Sequence[float] = RATES, per: Per = "video") -> dict[float, Point | None]:
        """By the rate asked for, see `threshold`; None where so few videos cannot promise it."""
        out: dict[float, Point | None] = {}
        for rate in rates:
            found = threshold_for(*self._losses(per), rate)
            out[rate] = None if found is None else self.at(found)
        return out

    def __str__(self) -> str:
        """The table, for people."""
        lines = [
            f"{len(self.videos)} videos, held out in {self.folds} folds; {len(self.classes)} classes",
            f"{'of videos at most':>17}  {'threshold':>9}  {'show a false one':>16}  {'a class':>7}  "
            f"{'recall':>6}  segments a video",
        ]
        for rate, point in self.table().items():
            if point is None:
                lines.append(f"{100 * rate:15g} %  too few videos to promise it")
                continue
            least = "none" if point.threshold == -math.inf else f"{point.threshold:.4g}"
            lines.append(
                f"{100 * rate:15g} %  {least:>9}  {100 * point.wrong_videos:14.1f} %  "
                f"{100 * point.false_alarms:5.1f} %  {point.recall:6.2f}  {point.segments:.2f}"
            )
        return "\n".join([*lines, *self.notes])


def identity(run: Run) -> str:
    """SHA-256 of what decides what a run finds; of a fused run, too.

    Raises:
        InputError: no checkpoint yet, or members that have changed.
    """
    if run.config.method != FUSED:
        return fingerprint(run)
    open_members(run)  # whose checksums stand in the configuration
    digest = hashlib.sha256((run.folder / "config.yaml").read_bytes())
    return digest.hexdigest()


def read_calibration(run: Run | PathLike) -> Calibration | None:
    """The calibration of a run; None if it has none, or one of an earlier state of it.

    Raises:
        InputError: no run; a damaged file.
    """
    run = Run.open(run)
    path = run.folder / FILE
    if not path.exists():
        return None
    try:
        found = Calibration.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(first["msg"], file=path, field=field, found=shown(first.get("input"))) from error
    if found.run != identity(run) or found.classes != run.config.classes:
        return None
    return found


def least_shown(
    run: Run, rate: float | Literal["off"] | None, per: Per = "video"
) -> tuple[float | None, float | None, tuple[str, ...]]:
    """From which score on segments of a run are shown.

    Args:
        run: the run.
        rate: of false alarms that is asked for; None for `RATE` if the run has a calibration that can promise
            it, "off" for none.
        per: what the rate is a share of, see `Calibration.threshold`.

    Returns:
        The least score and the rate it stands for, both None where there is no such threshold; and remarks.

    Raises:
        InputError: a rate is asked for, and the run has no calibration, one of an earlier state of it, or one
            of too few videos.
    """
    if rate == "off":
        return None, None, ()
    calibration = read_calibration(run)
    if calibration is None:
        if rate is not None:
            raise InputError(
                "this run has no calibration"
                if not (run.folder / FILE).exists()
                else "the run was trained on since it was calibrated",
                file=run.folder,
                hint=f"first: weaktal calibrate {run.folder}",
            )
        old = (run.folder / FILE).exists()
        return None, None, ("the calibration is of an earlier state of the run, and not used",) if old else ()
    try:
        return calibration.threshold(RATE if rate is None else rate, per), rate or RATE, ()
    except InputError as error:
        if rate is not None:
            raise error.at(run.folder / FILE) from None
        return None, None, (f"the calibration is not used: {error}",)


def least_words(least: float | None, rate: float | None, per: Per = "video") -> str:
    """What a page says of the least score that it shows, see `least_shown`."""
    if least is None:
        return f"{CLEAR:g} of the best in each video"
    if rate is None:
        return f"{least:.3g}"
    score = "any" if least == -math.inf else f"{least:.3g}"
    of = "videos without a class" if per == "class" else "videos, whatever the class"
    return f"{score}, for false alarms in at most {100 * rate:g} % of the {of}"
