"""Dropout whose mask can be seen, and whose random numbers are cheap on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """A dropout mask: 1 / (1 - p) with probability 1 - p, else 0.

    On a CPU one 64-bit random number decides about four elements, so `p` is rounded to a multiple of 2**-16;
    torch's own dropout draws a number per element there, which is most of the time of a small network.

    Args:
        like: gives shape, type and device.
        p: probability of a zero, 0 <= p < 1.
    """
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)
    count = like.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[:count].float().ge_(round(p * 2**16) - 2**15).mul_(1 / (1 - p))
    # laid out in memory like the tensor that it will be multiplied with
    return kept.to(like.dtype).as_strided(like.shape, torch.empty_like(like, device="meta").stride())


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`x` with dropout while `training`."""
    return x * dropout_mask(x, p) if training and p > 0 else x


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with the mask of `dropout_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)
