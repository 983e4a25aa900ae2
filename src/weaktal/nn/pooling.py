"""Pooling over time: the multiple-instance step of nearly every weakly-supervised method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_topk_mean(x: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Mean of the `k` largest values over time, of a padded batch.

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
        return x.topk(max(1, x.shape[1] // divisor), dim=1).values.mean(dim=1)
    return masked_topk_mean(x, (mask.sum(1) // divisor).clamp(min=1), mask)


def packed_video_scores(
    x: Tensor, video: Tensor, lengths: Tensor, table: Tensor, pairs: Tensor, share: int
) -> Tensor:
    """Video-level class scores of packed videos: the mean of the largest values over time.

    Args:
        x: (N, C), the rows of B videos one after another.
        video: (N,) the video of each row.
        lengths: (B,), all at least 1.
        table: (B, T) where the rows stand, see `row_table`.
        pairs: (P, 2) videos and classes whose largest values count; the others get the mean over all rows.
        share: of a video's length 1 / `share` values count, at least one.

    Returns:
        (B, C).
    """
    of, cls = pairs.unbind(1)
    curves = F.pad(x, (0, 0, 0, 1), value=-torch.inf)[table[of], cls[:, None]]
    k = (lengths[of] // share).clamp(min=1)
    top = curves.topk(max(1, table.shape[1] // share), dim=1).values
    use = torch.arange(top.shape[1], device=x.device) < k[:, None]
    best = top.masked_fill(~use, 0).sum(1) / k
    return mean_per_video(x, video, len(lengths)).index_put((of, cls), best)


def packed_topk_mean(x: Tensor, lengths: Tensor, table: Tensor, share: int) -> Tensor:
    """Mean of the largest values of each column of packed videos; 0 for a video without rows.

    Args:
        x: (N, C), the rows of B videos one after another.
        lengths: (B,).
        table: (B, T) where the rows stand, see `row_table`.
        share: of a video's length 1 / `share` values count, at least one.

    Returns:
        (B, C).
    """
    k = torch.minimum((lengths // share).clamp(min=1), lengths)
    best = F.pad(x, (0, 0, 0, 1), value=-torch.inf)[table].topk(max(1, table.shape[1] // share), dim=1).values
    use = torch.arange(best.shape[1], device=x.device)[:, None] < k[:, None, None]
    return best.masked_fill(~use, 0).sum(1) / k.clamp(min=1)[:, None]


def video_of_rows(lengths: Sequence[int], rows: Tensor) -> Tensor:
    """(N,) the video of each of N packed `rows`, from the lengths of the videos."""
    sizes = torch.tensor(lengths, device=rows.device)
    return torch.arange(len(sizes), device=rows.device).repeat_interleave(sizes, output_size=len(rows))


def row_table(lengths: Tensor) -> Tensor:
    """(B, T) where the rows of each of B packed videos stand; N, one past the last, behind a video's end."""
    place = torch.arange(int(lengths.max()), device=lengths.device)
    first = lengths.cumsum(0) - lengths
    return torch.where(place < lengths[:, None], first[:, None] + place, lengths.sum())


def mean_per_video(x: Tensor, video: Tensor, videos: int) -> Tensor:
    """Mean over the rows of each video, 0 where it has none.

    Args:
        x: (N,) or (N, C).
        video: (N,) the video of each row.
        videos: B.

    Returns:
        (B,) or (B, C).
    """
    total = x.new_zeros(videos, *x.shape[1:]).index_add(0, video, x)
    count = x.new_zeros(videos).index_add(0, video, x.new_ones(len(x))).clamp(min=1)
    return total / (count if x.dim() == 1 else count[:, None])


def mean_of_chosen(x: Tensor, chosen: Tensor, video: Tensor, videos: int) -> Tensor:
    """`mean_per_video` over the chosen rows (N,) bool of `x` (N,)."""
    total = x.new_zeros(videos).index_add(0, video, torch.where(chosen, x, 0))
    return total / x.new_zeros(videos).index_add(0, video, chosen.to(x.dtype)).clamp(min=1)
