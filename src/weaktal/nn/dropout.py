"""Dropout with cheap random numbers: those of torch's are a quarter of a small network's step on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """A dropout mask with the shape, type and device of `like`: 0 with probability `p`, else 1 / (1 - p).

    A random integer of 64 bits decides about four elements, so `p` (below 1) becomes a multiple of 2**-16.
    """
    count = like.numel()
    drawn = torch.randint(-(2**63), 2**63 - 1, (-(-count // 4),), device=like.device).view(torch.int16)
    kept = drawn[:count].ge_(round(p * 2**16) - 2**15)  # in place is five times as fast
    return kept.view(like.shape).to(like.dtype) * (1 / (1 - p))


def dropout_mask_naive(like: Tensor, p: float) -> Tensor:
    """`dropout_mask` as torch draws it."""
    return F.dropout(torch.ones_like(like), p)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`x` with dropout while `training`."""
    return x * dropout_mask(x, p) if training and p > 0 else x


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with the mask of `dropout_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)
