"""Dropout whose mask can be seen, and whose random numbers are cheap on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BITS = torch.tensor([[1 << i] for i in range(8)], dtype=torch.uint8)  # of a byte


def kept(like: Tensor, p: float) -> Tensor:
    """What dropout keeps: 1 with probability 1 - p, else 0.

    On a CPU one 64-bit random number decides about four elements, so `p` is rounded to a multiple of 2**-16;
    with `p` one half it decides about 64. torch's own dropout draws a number per element there, which is most
    of the time of a small network.

    Args:
        like: gives shape, type and device.
        p: probability of a zero, 0 <= p < 1.
    """
    if like.device.type != "cpu":
        return torch.empty_like(like).bernoulli_(1 - p)
    count = like.numel()
    if p == 0.5:
        drawn = (_random_bits(count) & _BITS).view(-1)[:count].clamp_(max=1)
    else:
        drawn = torch.empty(count)
        torch.ge(_random_bits(16 * count).view(torch.int16)[:count], round(p * 2**16) - 2**15, out=drawn)
    out = drawn.to(like.dtype)
    if like.is_contiguous():
        return out.view(like.shape)
    # laid out in memory like the tensor that it will be multiplied with
    return out.as_strided(like.shape, torch.empty_like(like, device="meta").stride())


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """A dropout mask: what is `kept`, as 1 / (1 - p)."""
    return kept(like, p).mul_(1 / (1 - p))


def _random_bits(count: int) -> Tensor:
    """At least `count` random bits, as bytes."""
    return torch.empty(-(-count // 64), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`x` with dropout while `training`."""
    return x * dropout_mask(x, p) if training and p > 0 else x


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with the mask of `dropout_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)
