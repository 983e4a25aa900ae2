"""A user's own backbone, as the documentation shows it, and ones that go wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from weaktal.features.extract.backbone import Description, windows


class Brightness:
    """Mean and deviation of 4 frames.

    `sleep` makes it slow, and so does `SLEEPING` in the environment, which is no setting; frames brighter
    than `deadly` kill the process, with a `mark` (a file) only once.
    A process says that it is at work by a file named by its number in the folder `EXTRACTING`.
    """

    def __init__(self, sleep: float = 0.0, deadly: float = 1e9, mark: str = "") -> None:
        self.sleep, self.deadly, self.mark = sleep, deadly, mark

    def describe(self) -> Description:
        return Description("brightness", fps=10, window=4, stride=4, dims={"rgb": 2})

    def extract(self, frames: Iterator[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        if folder := os.environ.get("EXTRACTING"):
            Path(folder, str(os.getpid())).touch()
        for clip in windows(frames, 4, 4):
            time.sleep(float(os.environ.get("SLEEPING", self.sleep)))
            if clip.mean() > self.deadly and not (self.mark and Path(self.mark).exists()):
                if self.mark:
                    Path(self.mark).touch()
                os._exit(9)
            yield {"rgb": np.array([[clip.mean(), clip.std()]], np.float32)}


class Liar(Brightness):
    def extract(self, frames: Iterator[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        yield {"flow": np.zeros((1, 2), np.float32)}
