"""The features of a set of videos in one tensor, at the device."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
        mapping: what `data` is memory-mapped from; None when it is in memory.
    """

    names: tuple[str, ...]
    data: Tensor
    offsets: NDArray[np.int64]
    axes: tuple[TimeAxis, ...]
    mapping: mmap.mmap | None = None

    @classmethod
    def mapped(
        cls,
        names: Sequence[str],
        path: str | Path,
        offsets: NDArray[np.int64],
        axes: Sequence[TimeAxis],
        dim: int,
    ) -> FeatureBank:
        """From a file of float32 rows that stays on disk; only the snippets in use are in memory."""
        with Path(path).open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if hasattr(mmap, "MADV_RANDOM"):
            mapping.madvise(mmap.MADV_RANDOM)
        rows = np.frombuffer(mapping, np.float32, int(offsets[-1]) * dim).reshape(-1, dim)
        return cls(tuple(names), torch.from_numpy(rows), offsets, tuple(axes), mapping)

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
        """A copy in the memory of a device."""
        return FeatureBank(self.names, self.data.to(device), self.offsets, self.axes)

    def rows(self, video: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
        """Chosen snippets: `video` (B,) and `rows` (B, S) within each video give (B, S, D)."""
        index = torch.from_numpy(self.offsets[video][:, None] + rows)
        shape = (*rows.shape, self.dim)
        chosen = self.data.index_select(0, index.reshape(-1).to(self.data.device)).reshape(shape)
        self._release()
        return chosen

    def _release(self) -> None:
        """Let go of the mapped pages: they stay in the system's cache, not in this process' memory."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

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
        return torch.lerp(a, b, weight)

    def packed(self, video: NDArray[np.int64]) -> Tensor:
        """Whole videos one after another, (N, D)."""
        rows = torch.cat([self.data[self.offsets[v] : self.offsets[v + 1]] for v in video])
        self._release()
        return rows

    def padded(self, video: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Whole videos, zero-padded to the longest: (B, T, D) features and (B,) int64 lengths."""
        parts = [self.data[self.offsets[v] : self.offsets[v + 1]] for v in video]
        lengths = torch.tensor([len(p) for p in parts], device=self.data.device)
        batch = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        self._release()
        return batch, lengths
