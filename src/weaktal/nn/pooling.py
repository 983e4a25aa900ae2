"""Temporal top-k pooling, the multiple-instance step of nearly every weakly-supervised method."""

from __future__ import annotations

import torch
from torch import Tensor


def topk_mean(x: Tensor, k: int) -> Tensor:
    """Mean of the `k` largest values over time.

    Args:
        x: (B, T, C).
        k: 1 <= k <= T.

    Returns:
        (B, C).
    """
    return x.topk(k, dim=1).values.mean(dim=1)


def masked_topk_mean(x: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """`topk_mean` with a number of snippets of its own for every video of a padded batch.

    Args:
        x: (B, T, C).
        k: (B,) integers, 1 <= k <= number of valid snippets.
        mask: (B, T) bool, true at valid snippets.

    Returns:
        (B, C); padding has neither value nor gradient in it.
    """
    top = x.masked_fill(~mask[..., None], -torch.inf).topk(int(k.max()), dim=1).values
    use = torch.arange(top.shape[1], device=x.device)[None, :, None] < k[:, None, None]
    return top.masked_fill(~use, 0).sum(dim=1) / k[:, None]


def best_share_mean(x: Tensor, divisor: int, mask: Tensor | None = None) -> Tensor:
    """Mean of the max(1, L // `divisor`) largest values over the L valid snippets of every video.

    Args:
        x: (B, T, C).
        divisor: at least 1.
        mask: (B, T) bool, true at valid snippets; None: all are.

    Returns:
        (B, C).
    """
    if mask is None:
        return topk_mean(x, max(1, x.shape[1] // divisor))
    return masked_topk_mean(x, (mask.sum(1) // divisor).clamp(min=1), mask)
