"""The features of a set of videos in one tensor, at the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weaktal.core import TimeAxis


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Snippet features of V videos, packed: video ``v`` has the rows ``offsets[v]:offsets[v + 1]``.

    Attributes:
        names: (V,) video names.
        data: (N, D) float; in memory, on a GPU, or memory-mapped.
        offsets: (V + 1,) int64, NumPy.
        axes: a `TimeAxis` per video.
    """

    names: tuple[str, ...]
    data: Tensor
    offsets: NDArray[np.int64]
    axes: tuple[TimeAxis, ...]

    @classmethod
    def of(cls, names: Sequence[str], arrays: Sequence[NDArray[np.float32]], rate: float) -> FeatureBank:
        """From one (L, D) array per video at `rate` snippets per second."""
        lengths = [len(a) for a in arrays]
        return cls(
            tuple(names),
            torch.from_numpy(np.concatenate(arrays).astype(np.float32, copy=False)),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            tuple(TimeAxis.uniform(n, rate) for n in lengths),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dim(self) -> int:
        return self.data.shape[1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Snippets per video, (V,)."""
        return np.diff(self.offsets)

    def to(self, device: torch.device) -> FeatureBank:
        return FeatureBank(self.names, self.data.to(device), self.offsets, self.axes)

    def rows(self, video: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
        """Chosen snippets: `video` (B,) and `rows` (B, S) within each video give (B, S, D)."""
        index = torch.from_numpy(self.offsets[video][:, None] + rows)
        shape = (*rows.shape, self.dim)
        return self.data.index_select(0, index.reshape(-1).to(self.data.device)).reshape(shape)

    def interpolated(self, video: NDArray[np.int64], positions: NDArray[np.float64]) -> Tensor:
        """Linear interpolation between snippets, row ``i`` at position ``i``, continued outside of them.

        Args:
            video: (B,).
            positions: (B, S) real numbers.

        Returns:
            (B, S, D).
        """
        last = np.maximum(self.lengths[video] - 2, 0)[:, None]
        low = np.clip(np.floor(positions), 0, last).astype(np.int64)
        high = np.minimum(low + 1, (self.lengths[video] - 1)[:, None])
        weight = torch.from_numpy(positions - low).to(self.data.device, self.data.dtype)[..., None]
        a, b = self.rows(video, low), self.rows(video, high)
        return a + weight * (b - a)

    def padded(self, video: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Whole videos, zero-padded to the longest: (B, T, D) features and (B,) int64 lengths."""
        parts = [self.data[self.offsets[v] : self.offsets[v + 1]] for v in video]
        lengths = torch.tensor([len(p) for p in parts], device=self.data.device)
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths
