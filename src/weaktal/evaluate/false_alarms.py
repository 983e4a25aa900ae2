"""False alarms by video: classes shown where they do not occur, and the threshold that keeps them rare.

Needs no instance: a pair of a video and a class whose labels say that the class does not occur in the video,
and in which a detection of the class is shown all the same, is a false alarm. The *rate* is the mean over
classes of the share of the videos without the class that show it. The rate *of videos* is the share of those
that show any class which does not occur in them; every class adds to it, so it is the higher one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core import Detections

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def top_scores(detections: Detections, videos: Sequence[str]) -> FloatArray:
    """The highest score of every class in every video, (V, C); -inf where the class was not found.

    Args:
        detections: of these videos, or of more.
        videos: names, in the order of the rows.
    """
    row = {name: i for i, name in enumerate(videos)}
    of = np.array([row.get(name, -1) for name in detections.names], np.int64)
    top = np.full((len(videos), len(detections.classes)), -np.inf)
    if len(detections):
        known = of[detections.video] >= 0
        at = (of[detections.video][known], detections.label[known])
        np.maximum.at(top, at, detections.score[known])
    return top


def false_alarm_rate(top: ArrayLike, absent: ArrayLike, threshold: float) -> float:
    """Mean over classes of the share of videos without the class that show it.

    Args:
        top: (V, C) highest scores, see `top_scores`.
        absent: (V, C) whether the class is known not to occur in the video.
        threshold: a class is shown from this score on.

    Returns:
        In [0, 1], over the classes that some video is without; NaN if there is none.

    >>> false_alarm_rate([[0.9, 0.2], [0.4, 0.8]], [[False, True], [True, True]], 0.5)
    0.25
    """
    weights = _weights(np.asarray(absent, bool))
    return float((_shown(top, threshold) * weights).sum()) if np.any(absent) else float("nan")


def wrong_videos(top: ArrayLike, absent: ArrayLike, threshold: float) -> float:
    """The share of the videos that show any class which is known not to occur; higher than the rate.

    Args:
        top, absent, threshold: see `false_alarm_rate`.

    Returns:
        In [0, 1], of the videos that are known to be without some class; NaN if there is none.
    """
    return false_alarm_rate(*any_class(top, absent), threshold)


def any_class(top: ArrayLike, absent: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """The classes that do not occur, taken as one: of them `threshold_for` promises a rate of videos.

    Args:
        top, absent: (V, C), see `false_alarm_rate`.

    Returns:
        The highest score of a class that is known not to occur in a video, (V, 1), and whether there is one.

    >>> any_class([[0.9, 0.2], [0.4, 0.8]], [[False, True], [True, True]])[0].tolist()
    [[0.2], [0.8]]
    """
    known = np.asarray(absent, bool)
    wrong = np.where(known, np.asarray(top, np.float64), -np.inf)
    return wrong.max(axis=1, keepdims=True, initial=-np.inf), np.asarray(known.any(axis=1, keepdims=True))


def pair_recall(top: ArrayLike, present: ArrayLike, threshold: float) -> float:
    """The share of the pairs of a video and a class that occurs in it of which the class is shown.

    Args:
        top, threshold: see `false_alarm_rate`.
        present: (V, C) whether the class occurs.

    Returns:
        In [0, 1]; NaN without any pair.
    """
    found = _shown(top, threshold)[np.asarray(present, bool)]
    return float(found.mean()) if len(found) else float("nan")


def least_rate(absent: ArrayLike) -> float:
    """The rate from which on `threshold_for` can promise anything, by the number of videos alone.

    Args:
        absent: see `false_alarm_rate`.

    >>> round(least_rate(np.ones((19, 3))), 9)
    0.05
    """
    weights = _weights(np.asarray(absent, bool))
    videos = int((weights.sum(axis=1) > 0).sum())
    return videos * float(weights.sum(axis=1).max(initial=0.0)) / (videos + 1) if videos else float("inf")


def threshold_for(top: ArrayLike, absent: ArrayLike, rate: float) -> float | None:
    """The lowest threshold at which the expected rate of false alarms in a further video is at most `rate`.

    Conformal risk control (Angelopoulos et al., ICLR 2024, theorem 1): the loss of a video is its part in the
    rate; with n videos, R(t) their mean loss at threshold t and B the largest loss that a video can have, the
    expected loss of a further one is at most the rate where n R(t) + B <= (n + 1) rate. Videos, not pairs,
    are what is exchangeable: classes of one video are found and missed together.

    Args:
        top, absent: of videos that the scores were not fitted to, see `false_alarm_rate`.
        rate: above 0 and below 1.

    Returns:
        A threshold for ``score >= threshold``; -inf where everything can be shown; None where so few videos
        can promise nothing, see `least_rate`.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate lies between 0 and 1, got {rate}")
    weights = _weights(np.asarray(absent, bool))
    of_video = weights.sum(axis=1)
    videos = int((of_video > 0).sum())
    if not videos:
        return None
    allowed = ((videos + 1) * rate - videos * float(of_video.max())) / videos
    if allowed < -1e-12:
        return None
    scores = np.asarray(top, np.float64)
    wrong = (weights > 0) & (scores > -np.inf)
    value, place = np.unique(-scores[wrong], return_inverse=True)  # the highest first
    so_far = np.cumsum(np.bincount(place.reshape(-1), weights[wrong], len(value)))
    too_many = np.flatnonzero(so_far > allowed + 1e-12)
    return float(np.nextafter(-value[too_many[0]], np.inf)) if len(too_many) else -float("inf")


def _shown(top: ArrayLike, threshold: float) -> BoolArray:
    """Which classes are shown; one that was not found never is."""
    scores = np.asarray(top, np.float64)
    return np.asarray((scores >= threshold) & (scores > -np.inf))


def _weights(absent: BoolArray) -> FloatArray:
    """What each pair has to do with the rate: one over the videos without the class, and over the classes."""
    count = absent.sum(axis=0)
    classes = max(1, int((count > 0).sum()))
    return np.asarray(absent / np.maximum(count, 1) / classes)
