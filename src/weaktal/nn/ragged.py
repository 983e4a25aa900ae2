"""Videos of unequal length in one batch: their rows packed one after another, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ragged:
    """The layout of B sequences whose rows are packed one after another.

    Row-wise layers (linear maps, norms, activations) work on the packed rows and never see padding. What
    mixes the rows of a sequence works on the parts that `split` gives, or on a padded `table` of numbers.

    Args:
        lengths: B lengths, 0 allowed.
        device: where index tensors live.

    Attributes:
        lengths, total: as integers, and their sum N.
        sizes: (B,) the lengths, on the device.
        offsets: (B + 1,) first row of each sequence, and N; on the CPU.
        video: (N,) sequence of each row.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = [int(n) for n in lengths]
        self.total = sum(self.lengths)
        self.device = device
        sizes = torch.tensor(self.lengths, dtype=torch.long)
        self.offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        self.sizes = sizes.to(device)
        each = torch.arange(len(self), device=device)
        self.video = each.repeat_interleave(self.sizes, output_size=self.total)

    def __len__(self) -> int:
        return len(self.lengths)

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Packed rows (N, ...) to one tensor (T, ...) per sequence."""
        return rows.split_with_sizes(self.lengths)

    def table(self, values: Tensor, empty: float) -> tuple[Tensor, Tensor, Tensor]:
        """Values (N,) with a row for each sequence.

        Returns:
            (B, T) values, `empty` behind the end of a sequence; (T,) places; (B, T) bool, where values are.
        """
        place = torch.arange(max(self.lengths), device=values.device)
        valid = place < self.sizes[:, None]
        return values.new_full(valid.shape, empty).masked_scatter(valid, values), place, valid

    def sums(self, rows: Tensor) -> Tensor:
        """Sum of each sequence's rows, (B, D)."""
        return rows.new_zeros(len(self), rows.shape[1]).index_add(0, self.video, rows)

    def weighted_sums(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Per sequence, sum over its rows of weight (N, W) times row (N, D): (B, W, D)."""
        pairs = zip(self.split(weights), self.split(rows), strict=True)
        return torch.stack([w.T @ x for w, x in pairs])
