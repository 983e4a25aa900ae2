"""What a snippet-level method says about one video; all that localization needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core.time_axis import TimeAxis


@dataclass(frozen=True, eq=False)
class SnippetScores:
    """Scores of one video on its sampled snippets.

    Attributes:
        video: the video's name.
        cas: (T, C) class activation sequence over the action classes.
        foreground: (T,) actionness (class-agnostic attention).
        video_scores: (C,) video-level class scores.
        axis: when each of the T snippets is.
    """

    video: str
    cas: NDArray[np.float32]
    foreground: NDArray[np.float32]
    video_scores: NDArray[np.float32]
    axis: TimeAxis

    def __post_init__(self) -> None:
        t, c = self.cas.shape
        shapes = (self.foreground.shape, self.video_scores.shape, self.axis.length)
        if shapes != ((t,), (c,), t):
            raise ValueError(f"scores of {self.video!r} do not fit together: cas {self.cas.shape}, {shapes}")
