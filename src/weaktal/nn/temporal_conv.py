"""Temporal convolutions that keep the length: of padded videos, and of videos packed one after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` of an odd number of taps that keeps the length, for (B, T, C) in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size[0] == 1:
            return F.linear(input, self.weight[..., 0], self.bias)
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def convolve_rows(rows: Tensor, video: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of three taps within each of B videos whose rows stand one after another.

    Three products of all rows at once, the outer two shifted by a row: nothing is padded, whatever the
    lengths.

    Args:
        rows: (N, C).
        video: (N,) the video of each row; outside of a video there are zeros.
        weight: (O, C, 3).
        bias: (O,) or None.

    Returns:
        (N, O).
    """
    before, here, after = weight.unbind(2)
    outside = (video[1:] != video[:-1])[:, None]
    from_before = F.linear(rows[:-1], before).masked_fill(outside, 0)
    from_after = F.linear(rows[1:], after).masked_fill(outside, 0)
    return F.linear(rows, here, bias) + F.pad(from_before, (0, 0, 1, 0)) + F.pad(from_after, (0, 0, 0, 1))


def convolve_rows_naive(rows: Tensor, lengths: Sequence[int], weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve_rows`, one video after the other, from their lengths."""
    parts = [
        F.conv1d(x.T[None], weight, bias, padding=1)[0].T for x in torch.split(rows, list(lengths)) if len(x)
    ]
    return torch.cat(parts)
