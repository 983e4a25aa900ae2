"""Clicks as they stand in files: names of videos and classes beside seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core import Annotations, InputError, Points, did_you_mean


@dataclass(frozen=True, eq=False)
class PointTable:
    """Point labels as columns, in file order.

    Attributes:
        video: (P,) video names.
        time: (P,) seconds.
        label: (P,) class names.
        origin: where they come from, if not from people: simulated clicks say so wherever they go.
    """

    video: tuple[str, ...]
    time: NDArray[np.float64]
    label: tuple[str, ...]
    origin: str | None = None

    def __len__(self) -> int:
        return len(self.video)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PointTable)
            and (self.video, self.label, self.origin) == (other.video, other.label, other.origin)
            and np.array_equal(self.time, other.time)
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that occur, sorted."""
        return tuple(sorted(set(self.label)))

    @property
    def names(self) -> tuple[str, ...]:
        """The videos that occur, in order of first appearance."""
        return tuple(dict.fromkeys(self.video))

    def times(self) -> dict[str, NDArray[np.float64]]:
        """Seconds of the clicks by video."""
        rows: dict[str, list[float]] = {}
        for video, time in zip(self.video, self.time.tolist(), strict=True):
            rows.setdefault(video, []).append(time)
        return {video: np.array(times) for video, times in rows.items()}

    def by_video(self, classes: Sequence[str]) -> dict[str, Points]:
        """Points per video, with class indices.

        Raises:
            InputError: a class that `classes` lacks, with the nearest known one.
        """
        place = {name: i for i, name in enumerate(classes)}
        for video, label in zip(self.video, self.label, strict=True):
            if label not in place:
                raise InputError(
                    "unknown class", field=video, found=repr(label), hint=did_you_mean(label, classes)
                )
        rows: dict[str, list[int]] = {}
        for row, video in enumerate(self.video):
            rows.setdefault(video, []).append(row)
        return {
            video: Points(self.time[pick], np.array([place[self.label[r]] for r in pick]))
            for video, pick in rows.items()
        }

    @classmethod
    def of(cls, annotations: Annotations) -> PointTable:
        """The points of annotated videos, video by video."""
        pairs = [(v.name, v.points) for v in annotations if v.points is not None]
        return cls(
            tuple(name for name, p in pairs for _ in range(len(p))),
            np.concatenate([np.empty(0), *(p.time for _, p in pairs)]),
            tuple(annotations.classes[c] for _, p in pairs for c in p.label),
        )
