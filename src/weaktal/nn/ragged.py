"""Videos of unequal length in one batch: packed rows for what acts row by row, padding where it must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weaktal.nn.precision import apply_whole


class Ragged:
    """The layout of B sequences whose rows are packed one after another.

    Row-wise layers (linear maps, norms, activations) work on the packed rows and never see padding. What
    mixes the rows of a sequence (attention, pooling) works on padded groups of sequences of similar length.
    On a CPU a group holds only sequences of one length: its matrix products are large enough alone, and
    padding would be paid for. On a GPU few large groups are faster.

    Args:
        lengths: B lengths, 0 allowed.
        device: where index tensors live.
        waste: a group is closed before its padded rows exceed this multiple of its real rows; default 1 on a
            CPU and 1.5 elsewhere.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, *, waste: float | None = None) -> None:
        self.lengths = [int(n) for n in lengths]
        self.total = sum(self.lengths)
        self.device = device
        self.waste = waste or (1.0 if device.type == "cpu" else 1.5)
        self.one_by_one = self.waste == 1.0
        """Whether sequences are worked on one after another, not in padded groups."""
        sizes = torch.tensor(self.lengths)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
        self.sizes = sizes.to(device)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def groups(self) -> list[list[int]]:
        """Sequences of similar length."""
        return _groups(self.lengths, self.waste)

    @property
    def alone(self) -> bool:
        """Whether every sequence is its own group, so that nothing is padded."""
        return len(self.groups) == len(self.lengths)

    @cached_property
    def video(self) -> Tensor:
        """(N,) sequence of each row."""
        return torch.from_numpy(np.repeat(np.arange(len(self)), self.lengths)).to(self.device)

    @cached_property
    def home(self) -> Tensor:
        """(B,) where each sequence stands among those of all groups, one group after another."""
        return torch.tensor([i for g in self.groups for i in g]).argsort().to(self.device)

    def padded_index(self, group: Sequence[int]) -> Tensor:
        """(b, T) packed row of each padded place; `total` (one past the last row) where there is none."""
        size = max(max(self.lengths[i] for i in group), 1)
        place = torch.arange(size)
        index = self.offsets[torch.tensor(group)][:, None] + place
        empty = place >= torch.tensor([self.lengths[i] for i in group])[:, None]
        return index.masked_fill(empty, self.total).to(self.device)

    def padded(self, rows: Tensor, groups: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        """Packed rows (N, D) to zero-padded sequences (b, T, D), one tensor per group."""
        if groups is None and self.alone:
            parts = rows.split_with_sizes(self.lengths)
            return [parts[i][None] for (i,) in self.groups]
        table = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        return [table[self.padded_index(g)] for g in (self.groups if groups is None else groups)]

    def table(self, values: Tensor, empty: float) -> tuple[Tensor, Tensor, Tensor]:
        """Values (N,) with a row for each sequence.

        Returns:
            (B, T) values, `empty` behind the end of a sequence; (T,) places; (B, T) bool, where values are.
        """
        place = torch.arange(max(self.lengths), device=values.device)
        valid = place < self.sizes[:, None]
        return values.new_full(valid.shape, empty).masked_scatter(valid, values), place, valid

    def pack(self, parts: Sequence[Tensor]) -> Tensor:
        """The padded sequences of every group, in the order of `groups`, back to packed rows (N, D)."""
        if self.alone:
            return torch.cat([parts[i][0] for i in self.home.tolist()])
        flat = torch.cat([p.flatten(0, 1) for p in parts])
        home = torch.cat([self.padded_index(g).flatten() for g in self.groups])
        order = home.argsort(stable=True)[: self.total]  # padding has the largest home and falls off
        return flat.index_select(0, order)

    def sums(self, rows: Tensor) -> Tensor:
        """Sum of each sequence's rows, (B, D)."""
        if self.one_by_one and not (torch.is_grad_enabled() and rows.requires_grad):
            # a sum each beats one scatter, but would be a node each of the graph
            return torch.stack([x.sum(dim=0) for x in self.split(rows)])
        return rows.new_zeros(len(self), rows.shape[1]).index_add(0, self.video, rows)

    def means(self, rows: Tensor) -> Tensor:
        """Mean of each sequence's rows, (B, D); zero for an empty sequence."""
        return self.sums(rows) / self.sizes.clamp(min=1)[:, None]

    def weighted_sums(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Per sequence, sum over its rows of weight (N, W) times row (N, D): (B, W, D)."""
        if self.one_by_one:
            return torch.stack([w @ x for w, x in zip(self.turned(weights), self.split(rows), strict=True)])
        pairs = zip(self.padded(weights), self.padded(rows), strict=True)
        return torch.cat([w.transpose(1, 2) @ x for w, x in pairs])[self.home]

    def add_products(self, out: Tensor, rows: Tensor, matrices: Tensor) -> None:
        """Add each row times its sequence's matrix, in place and without gradients.

        Args:
            out: (N, D), added to.
            rows: (N, K).
            matrices: (B, K, D).
        """
        if self.one_by_one:
            for o, x, m in zip(self.split(out), self.split(rows), matrices.unbind(), strict=True):
                o.addmm_(x, m)
        else:
            parts = self.padded(rows)
            out += self.pack([x @ matrices[list(g)] for g, x in zip(self.groups, parts, strict=True)])

    def attend(self, query: Tensor, keys: Tensor, key_layout: Ragged) -> Tensor:
        """softmax(query keys^T) keys within each sequence: unscaled dot-product attention.

        Args:
            query: (N, D) packed rows of this layout.
            keys: (M, D) packed rows of `key_layout`, which are values as well.

        Returns:
            (N, D); zeros for a sequence without keys.
        """
        return self.blend(query, [(keys, key_layout, 1.0)])

    def blend(self, query: Tensor, sets: Sequence[tuple[Tensor, Ragged, float]]) -> Tensor:
        """Sum over sets of keys of the share of each set times `attend`.

        Args:
            query: (N, D) packed rows of this layout.
            sets: keys (M, D), their layout, and the share of each set.
        """
        if self.one_by_one:
            keys, layouts, shares = zip(*sets, strict=True)
            out: Tensor = apply_whole(_Attention, query, self, layouts, shares, *keys)
            return out
        return self.pack(
            [sum(parts) for parts in zip(*(self._padded_attend(query, *s) for s in sets), strict=True)]
        )

    def _padded_attend(self, query: Tensor, keys: Tensor, key_layout: Ragged, share: float) -> list[Tensor]:
        """Share times `attend`, a padded tensor per group."""
        parts = []
        groups = zip(self.groups, self.padded(query), key_layout.padded(keys, self.groups), strict=True)
        for group, q, k in groups:
            # a sequence without keys attends to one padded zero row, whose value is zero
            count = torch.tensor([key_layout.lengths[i] for i in group], device=q.device).clamp(min=1)
            empty = torch.arange(k.shape[1], device=q.device) >= count[:, None]
            logits = (q @ k.transpose(1, 2)).masked_fill(empty[:, None], -torch.inf)
            parts.append(share * (logits.softmax(dim=2) @ k))
        return parts

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Packed rows (N, D) to one (T, D) tensor per sequence."""
        return tuple(rows.split_with_sizes(self.lengths))

    def turned(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The transposes (D, T) of `split`, which cost a call each if made one by one."""
        return tuple(rows.T.split_with_sizes(self.lengths, dim=1))


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


def partition(rows: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (N, D) that are chosen, by a mask (N,), and the others, each in order."""
    parts: tuple[Tensor, Tensor] = _Partition.apply(rows, chosen)  # type: ignore[no-untyped-call]
    return parts


class _Partition(torch.autograd.Function):
    """Every row goes to one place, so gradients are copied back, where those of an index are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        one, other = chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
        ctx.save_for_backward(one, other)
        return rows.index_select(0, one), rows.index_select(0, other)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        one, other = ctx.saved_tensors
        rows = grads[0].new_empty(len(one) + len(other), *grads[0].shape[1:])
        return rows.index_copy_(0, one, grads[0]).index_copy_(0, other, grads[1]), None


def _of_videos(
    layouts: Sequence[Ragged], keys: Sequence[Tensor]
) -> Iterator[tuple[tuple[Tensor, Tensor], ...]]:
    """Of every video, the keys of each set, and the same transposed."""
    sets = (zip(of.split(k), of.turned(k), strict=True) for of, k in zip(layouts, keys, strict=True))
    return zip(*sets, strict=True)


class _Attention(torch.autograd.Function):
    """`Ragged.blend` without groups: every result is written where it belongs."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        layout: Ragged,
        layouts: Sequence[Ragged],
        shares: Sequence[float],
        *keys: Tensor,
    ) -> Tensor:
        out = torch.empty_like(query)
        weights = []
        key_parts = _of_videos(layouts, keys)
        for q, o, of_video in zip(layout.split(query), layout.split(out), key_parts, strict=True):
            for i, ((k, turned), share) in enumerate(zip(of_video, shares, strict=True)):
                logits = torch.mm(q, turned)
                weights.append(torch.softmax(logits, dim=1, out=logits))
                o.addmm_(weights[-1], k, beta=i > 0, alpha=share)
        ctx.save_for_backward(query, *keys, *weights)
        ctx.settings = layout, layouts, shares
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        layout, layouts, shares = ctx.settings
        query, *others = ctx.saved_tensors
        keys, weights = others[: len(shares)], iter(others[len(shares) :])
        to_query = torch.empty_like(query)
        to_keys = [
            torch.empty_like(k) if n else None for k, n in zip(keys, ctx.needs_input_grad[4:], strict=True)
        ]
        key_parts = _of_videos(layouts, keys)
        to_key_parts = zip(
            *(of.split(k if t is None else t) for of, k, t in zip(layouts, keys, to_keys, strict=True)),
            strict=True,
        )
        queries = zip(*(layout.split(x) for x in (query, grad, to_query)), strict=True)
        for (q, g, to_q), of_video, to_video in zip(queries, key_parts, to_key_parts, strict=True):
            for i, ((k, turned), to_k, share) in enumerate(zip(of_video, to_video, shares, strict=True)):
                w = next(weights)
                to_logits = torch.mm(g, turned)
                torch._softmax_backward_data(to_logits, w, 1, w.dtype, grad_input=to_logits)
                to_q.addmm_(to_logits, k, beta=i > 0, alpha=share)
                if to_keys[i] is not None:
                    to_k.addmm_(w.T, g, beta=0, alpha=share).addmm_(to_logits.T, q, alpha=share)
        return to_query, None, None, None, *to_keys
