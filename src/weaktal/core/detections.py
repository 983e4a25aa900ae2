"""Scored segments, as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """Whole snippets, on which a method works and between which times in seconds lose their last bits.

    Attributes:
        rate: snippets per second, > 0.
        offset: where a snippet begins, seconds.
    """

    rate: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rate) and self.rate > 0 and np.isfinite(self.offset)):
            raise ValueError(f"a grid needs a rate > 0 and an offset, got {self.rate} and {self.offset}")

    def lies_on(self, rate: float) -> bool:
        """Whether these snippets begin where those of another grid from 0 on do.

        >>> Grid(1.5625).lies_on(25 / 16), Grid(1.5625, 0.32).lies_on(25 / 16)
        (True, False)
        """
        shift = self.offset * rate
        return abs(self.rate / rate - 1) < 1e-9 and abs(shift - round(shift)) < 1e-9


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected action segments of a set of videos.

    Attributes:
        names: video names; a video without detections may be listed.
        classes: class names.
        video: (N,) index into `names`.
        start, end: (N,) seconds.
        label: (N,) index into `classes`.
        score: (N,) confidence, any real number; higher is surer.
        grid: the snippets on which the times lie, where it is known; files of ours carry it.

    The order of rows is kept: it decides between equal scores in an evaluation.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    video: IntArray
    start: FloatArray
    end: FloatArray
    label: IntArray
    score: FloatArray
    grid: Grid | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "names", tuple(self.names))
        set_(self, "classes", tuple(self.classes))
        for name, kind in (
            ("video", np.int64),
            ("start", np.float64),
            ("end", np.float64),
            ("label", np.int64),
            ("score", np.float64),
        ):
            set_(self, name, np.asarray(getattr(self, name), dtype=kind).reshape(-1))
        sizes = {len(self.video), len(self.start), len(self.end), len(self.label), len(self.score)}
        if len(sizes) != 1:
            raise ValueError(f"the columns of detections differ in length: {sorted(sizes)}")
        for column, known in ((self.video, self.names), (self.label, self.classes)):
            if len(column) and not (column.min() >= 0 and column.max() < len(known)):
                raise ValueError("an index of detections is out of range")

    @classmethod
    def empty(cls, names: Sequence[str], classes: Sequence[str]) -> Detections:
        """No detections for these videos."""
        none, index = np.empty(0), np.empty(0, np.int64)
        return cls(tuple(names), tuple(classes), index, none, none, index, none)

    @classmethod
    def in_video(
        cls,
        name: str,
        classes: Sequence[str],
        start: ArrayLike,
        end: ArrayLike,
        label: ArrayLike,
        score: ArrayLike,
    ) -> Detections:
        """The detections in one video, columns (N,)."""
        video = np.zeros(np.size(label), np.int64)
        columns = (np.asarray(x) for x in (start, end, label, score))
        return cls((name,), tuple(classes), video, *columns)

    @classmethod
    def concatenate(cls, parts: Iterable[Detections], classes: Sequence[str]) -> Detections:
        """Join detections of the same classes; a video may occur in several parts."""
        parts, index = list(parts), dict[str, int]()
        for part in parts:
            if part.classes != tuple(classes):
                raise ValueError("detections of different classes cannot be joined")
            for name in part.names:
                index.setdefault(name, len(index))
        video = [np.array([index[n] for n in p.names], np.int64)[p.video] for p in parts if len(p)]
        columns = (
            np.concatenate([np.empty(0), *(getattr(p, c) for p in parts)])
            for c in ("start", "end", "label", "score")
        )
        first = np.concatenate([np.empty(0, np.int64), *video])
        grids = {part.grid for part in parts}
        return cls(
            tuple(index), tuple(classes), first, *columns, grid=grids.pop() if len(grids) == 1 else None
        )

    def __len__(self) -> int:
        return len(self.video)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        mine, its = ((d.names, d.classes, d.grid) for d in (self, other))
        return mine == its and all(
            np.array_equal(getattr(self, c), getattr(other, c))
            for c in ("video", "start", "end", "label", "score")
        )

    def __getitem__(self, rows: ArrayLike | slice) -> Detections:
        """The chosen rows (a mask, indices or a slice); names and classes stay."""
        pick = rows if isinstance(rows, slice) else np.asarray(rows)
        return Detections(
            self.names,
            self.classes,
            *(getattr(self, c)[pick] for c in ("video", "start", "end", "label", "score")),
            grid=self.grid,
        )

    def of(self, name: str) -> Detections:
        """The rows of one video."""
        return self[self.video == self.names.index(name)] if name in self.names else self[:0]

    def relabelled(self, classes: Sequence[str]) -> Detections:
        """The same detections over another class list; rows of classes that it lacks are dropped."""
        place: Mapping[str, int] = {c: i for i, c in enumerate(classes)}
        to = np.array([place.get(c, -1) for c in self.classes] or [-1], np.int64)
        label = to[self.label] if len(self) else self.label
        keep = label >= 0
        return Detections(
            self.names,
            tuple(classes),
            self.video[keep],
            self.start[keep],
            self.end[keep],
            label[keep],
            self.score[keep],
            grid=self.grid,
        )

    def renamed(self, name: Callable[[str], str]) -> Detections:
        """The same detections under other names of the videos; those of videos that meet are joined."""
        index: dict[str, int] = {}
        to = [index.setdefault(name(n), len(index)) for n in self.names]
        if list(index) == list(self.names):
            return self
        video = np.array(to or [-1], np.int64)[self.video] if len(self) else self.video
        return replace(self, names=tuple(index), video=video)

    def columns(self) -> dict[str, list[str] | NDArray[np.float64]]:
        """Columns with names in place of indices: video, start, end, label, score."""
        return {
            "video": [self.names[i] for i in self.video],
            "start": self.start,
            "end": self.end,
            "label": [self.classes[i] for i in self.label],
            "score": self.score,
        }

    def to_pandas(self) -> pd.DataFrame:
        """A pandas table (pandas must be installed)."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def to_polars(self) -> pl.DataFrame:
        """A polars table (polars must be installed)."""
        import polars as pl

        return pl.DataFrame(self.columns())
