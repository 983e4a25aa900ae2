"""Videos of unequal length in one batch: packed rows for what acts row by row, padding where it must be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class Ragged:
    """The layout of B sequences whose rows are packed one after another.

    Row-wise layers (linear maps, norms, activations) work on the packed rows and never see padding. What
    mixes the rows of a sequence (attention, pooling) works on padded groups of sequences of similar length,
    so that padding costs little however unequal the lengths are.

    Args:
        lengths: B lengths, 0 allowed.
        device: where index tensors live.
        waste: a group is closed before its padded rows exceed this multiple of its real rows.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, *, waste: float = 1.35) -> None:
        self.lengths = [int(n) for n in lengths]
        self.total = sum(self.lengths)
        self.device = device
        self.groups = _groups(self.lengths, waste)
        sizes = torch.tensor(self.lengths)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
        self.sizes = sizes.to(device)
        self.video = torch.repeat_interleave(torch.arange(len(self.lengths)), sizes).to(device)
        # where each sequence stands among the sequences of all groups, one group after another
        self.home = torch.tensor([i for g in self.groups for i in g]).argsort().to(device)

    def __len__(self) -> int:
        return len(self.lengths)

    def padded_index(self, group: Sequence[int]) -> Tensor:
        """(b, T) packed row of each padded place; `total` (one past the last row) where there is none."""
        size = max(max(self.lengths[i] for i in group), 1)
        place = torch.arange(size)
        index = self.offsets[torch.tensor(group)][:, None] + place
        empty = place >= torch.tensor([self.lengths[i] for i in group])[:, None]
        return index.masked_fill(empty, self.total).to(self.device)

    def pad(self, rows: Tensor, group: Sequence[int]) -> Tensor:
        """Packed rows (N, D) to the zero-padded sequences of a group, (b, T, D)."""
        if len(group) == 1 and self.lengths[group[0]]:
            start = int(self.offsets[group[0]])
            return rows[start : start + self.lengths[group[0]]][None]
        return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])[self.padded_index(group)]

    def pack(self, parts: Sequence[Tensor]) -> Tensor:
        """The padded sequences of every group, in the order of `groups`, back to packed rows (N, D)."""
        flat = torch.cat([p.flatten(0, 1) for p in parts])
        home = torch.cat([self.padded_index(g).flatten() for g in self.groups])
        order = home.argsort(stable=True)[: self.total]  # padding has the largest home and falls off
        return flat.index_select(0, order)

    def sums(self, rows: Tensor) -> Tensor:
        """Sum of each sequence's rows, (B, D)."""
        return rows.new_zeros(len(self), rows.shape[1]).index_add(0, self.video, rows)

    def means(self, rows: Tensor) -> Tensor:
        """Mean of each sequence's rows, (B, D); zero for an empty sequence."""
        return self.sums(rows) / self.sizes.clamp(min=1)[:, None]

    def weighted_sums(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Per sequence, sum over its rows of weight (N, W) times row (N, D): (B, W, D)."""
        parts = [self.pad(weights, g).transpose(1, 2) @ self.pad(rows, g) for g in self.groups]
        return torch.cat(parts)[self.home]

    def attend(self, query: Tensor, keys: Tensor, key_layout: Ragged) -> Tensor:
        """softmax(query keys^T) keys within each sequence: unscaled dot-product attention.

        Args:
            query: (N, D) packed rows of this layout.
            keys: (M, D) packed rows of `key_layout`, which are values as well.

        Returns:
            (N, D); zeros for a sequence without keys.
        """
        parts = []
        for group in self.groups:
            q, k = self.pad(query, group), key_layout.pad(keys, group)
            sizes = [key_layout.lengths[i] for i in group]
            mask = None
            if min(sizes) < k.shape[1]:
                # a sequence without keys attends to one padded zero row, whose value is zero
                count = torch.tensor(sizes, device=q.device).clamp(min=1)
                mask = (torch.arange(k.shape[1], device=q.device) < count[:, None])[:, None]
            parts.append(F.scaled_dot_product_attention(q, k, k, attn_mask=mask, scale=1.0))
        return self.pack(parts)


def _groups(lengths: Sequence[int], waste: float) -> list[list[int]]:
    """Indices of sequences of similar length; within a group padded rows <= waste * real rows."""
    groups: list[list[int]] = []
    real = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= waste * (real + lengths[i]):
            groups[-1].append(i)
            real += lengths[i]
        else:
            groups.append([i])
            real = lengths[i]
    return groups
