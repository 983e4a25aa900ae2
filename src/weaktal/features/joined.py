"""Features of several sources side by side: a network's and one's own columns, on one grid of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, TimeAxis
from weaktal.features.layouts import Shape
from weaktal.features.store import PER_VIDEO, FeatureStore

FloatArray = NDArray[np.float32]


def open_features(options: Mapping[str, Any]) -> FeatureStore:
    """The features that a data set description names.

    Args:
        options: of `FeatureStore.open`; or ``{"sources": [options, ...]}``, see `joined`.
    """
    if "sources" in options:
        return joined([open_features(o) for o in options["sources"]])
    return FeatureStore.open(**options)


def joined(sources: Sequence[FeatureStore]) -> FeatureStore:
    """Several sources as one: every video's streams in the order of the sources, on the first one's grid.

    The others are resampled by their time axes: means over each row where they are finer, linear
    interpolation between the middles of their rows where they are coarser. Videos are those that all have.

    Raises:
        InputError: no video that all have, a source without a rate. When a video is read: a source that ends
            early or begins late.
    """
    first = sources[0]
    for store in sources:
        if store.rate is None:
            store.axis(store.names[0])  # says what is missing
    names = tuple(n for n in first.names if all(n in store for store in sources[1:]))
    if not names:
        other = next(s for s in sources[1:] if not any(n in s for n in first.names))
        raise InputError(
            "no video has features of all sources",
            file=other.path,
            found=repr(other.names[0]),
            expected=f"names such as {first.names[0]!r} of {first.path}",
        )
    layout = JoinedSources(sources, names)
    widths = tuple(width for store in sources for width in store.streams)
    return FeatureStore(first.path, layout, first.rate, first.offset, names, widths)


class JoinedSources:
    """A `Layout` over several stores."""

    kind = "joined"

    def __init__(self, sources: Sequence[FeatureStore], names: Sequence[str]) -> None:
        self.sources, self._names = tuple(sources), tuple(names)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def shapes(self, name: str) -> list[Shape]:
        length = self.sources[0].length(name)
        return [(length, width) for store in self.sources for width in store.streams]

    def read(self, name: str) -> list[np.ndarray]:
        axis = self.sources[0].axis(name)
        out: list[np.ndarray] = []
        for store in self.sources:
            own = store.axis(name)
            _covers(store, name, own, axis)
            rows = resampled(store.load(name), own, axis)
            out += np.split(rows, np.cumsum(store.streams)[:-1], axis=1)
        return out

    def header(self, name: str) -> dict[str, Any]:
        about = {k: v for k, v in self.sources[0].about(name).items() if k in PER_VIDEO}
        return about | {"sources": [store.provenance for store in self.sources]}

    def where(self, name: str) -> str:
        return " and ".join(store.where(name) for store in self.sources)


def _covers(store: FeatureStore, name: str, own: TimeAxis, axis: TimeAxis) -> None:
    length = axis.end - axis.start
    missing = max(0.0, own.start - axis.start) + max(0.0, axis.end - own.end)
    row = max(length / axis.length, (own.end - own.start) / own.length)
    if missing > 2 * row + 0.03 * length:
        raise InputError(
            "a source of features does not cover the video",
            file=store.where(name),
            found=f"{own.start:.2f} to {own.end:.2f} s",
            expected=f"{axis.start:.2f} to {axis.end:.2f} s",
            hint="another rate, another cut of the video, or an offset",
        )


def resampled(rows: FloatArray, source: TimeAxis, target: TimeAxis) -> FloatArray:
    """Rows (L, D) of one time axis on another one, (T, D): the same values at the same seconds.

    Where the source is finer, a row is the mean over what it covers; where it is coarser, it lies on the line
    between the middles of its neighbours. Beyond the ends the outermost rows go on.
    """
    edges = source.positions_at(target.seconds_at(np.arange(target.length + 1)))
    if len(rows) == target.length and np.abs(edges - np.arange(target.length + 1)).max() < 1e-6:
        return rows
    if np.median(np.diff(edges)) < 1:
        at = np.clip(source.positions_at(target.centers()) - 0.5, 0, len(rows) - 1)
        low = np.minimum(at.astype(np.int64), max(len(rows) - 2, 0))
        high = np.minimum(low + 1, len(rows) - 1)
        share = (at - low)[:, None].astype(np.float32)
        return np.asarray(rows[low] * (1 - share) + rows[high] * share, np.float32)
    edges = np.clip(edges, 0, len(rows))
    # the integral of a step function, at any position
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0, dtype=np.float64)])
    whole = np.minimum(edges.astype(np.int64), len(rows) - 1)
    integral = total[whole] + (edges - whole)[:, None] * rows[whole]
    span = np.diff(edges)
    outside = span < 1e-6
    mean = np.diff(integral, axis=0) / np.where(outside, 1, span)[:, None]
    mean[outside] = rows[whole[:-1][outside]]
    return np.asarray(mean, np.float32)
