"""What point-supervised methods make of clicks: seeds that grow from them, and focal losses on snippets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weaktal.nn.pooling import mean_of_chosen


def seeds(
    background: Tensor,
    points: Tensor,
    video: Tensor,
    lengths: Tensor,
    action_threshold: float,
    background_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Snippets that are surely action or background, grown from the clicks (Lee and Byun 2021).

    Between neighbouring clicks everything between the first and the last confident background snippet is
    background, or else the most confident one; before the first click and after the last one everything
    beyond the nearest confident one. Action grows from each click to both sides while the background score is
    low.

    Args:
        background: (N,) background scores of packed videos, detached.
        points: (N, C) 0 or 1.
        video: (N,) the video of each row.
        lengths: (B,).
        action_threshold: snippets with at most this background score may be action.
        background_threshold: those with at least this one are confident.

    Returns:
        action: (N, C) 0 or 1, rows of the clicks copied to their surroundings.
        is_background: (N,) bool. A video without clicks has no seeds.
    """
    rows = len(background)
    end = lengths.cumsum(0)[video]
    begin = end - lengths[video]
    place = torch.arange(rows, device=background.device)
    clicked = points.amax(-1) > 0
    so_far = F.pad(clicked.long().cumsum(0), (1, 0))
    first_gap, last_gap = so_far[begin], so_far[end]
    # gap g lies after g clicks, those of the videos before included; each video begins with one of its own
    clicks = so_far[1:]
    gap = clicks + video
    open_ = ~clicked & (last_gap > first_gap)
    sure = open_ & (background >= background_threshold)

    def reduced(value: Tensor, where: Tensor, how: str, empty: float) -> Tensor:
        """Per gap the reduction of `value` over `where`, brought back to every snippet."""
        table = value.new_full((rows + len(lengths),), empty)
        return table.scatter_reduce(0, gap, value.masked_fill(~where, empty), how)[gap]

    peak = open_ & (background == reduced(background, open_, "amax", -1.0))
    peak_place = reduced(place, peak, "amin", rows)  # the first of equals
    some = reduced(sure.long(), sure, "amax", 0) > 0
    first = torch.where(some, reduced(place, sure, "amin", rows), peak_place)
    last = torch.where(some, reduced(place, sure, "amax", -1), peak_place)
    # a lone confident snippet of an inner gap is its peak
    after = (clicks == first_gap) | (place >= first)
    before = (clicks == last_gap) | (place <= last)
    is_background = open_ & after & before

    passable = open_ & ~is_background & (background <= action_threshold)
    stop_left = torch.where(passable, -1, place).cummax(0).values
    stop_right = torch.where(passable, rows, place).flip(0).cummin(0).values.flip(0)
    action = torch.zeros_like(points)
    for stop, reached in ((stop_left, stop_left >= begin), (stop_right, stop_right < end)):
        at = stop.clamp(0, rows - 1)
        from_click = reached & clicked[at]
        action = torch.maximum(action, points[at] * from_click[:, None])
    return action, is_background


def frame_losses(
    fused: Tensor,
    points: Tensor,
    background: Tensor,
    video: Tensor,
    videos: int,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Focal losses (exponent 2, Lin et al. 2017) on the clicked snippets and on the background seeds.

    Args:
        fused: (N, C + 1) scores, background last.
        points: (N, C) 0 or 1.
        background: (N,) bool, false at clicks.
        video: (N,) the video of each row.
        videos: B.
        known: (B, C) bool, the classes that take part in a video; None: all.

    Returns:
        Two losses (B,): binary cross-entropy summed over classes, per click and per seed; 0 without any.
    """
    target = torch.cat([points, background[:, None].to(points.dtype)], dim=1)
    weight = torch.where(target > 0, 1 - fused, fused) ** 2
    each = weight * F.binary_cross_entropy(fused, target, reduction="none")
    if known is not None:
        each = each * F.pad(known, (0, 1), value=True)[video]
    loss = each.sum(1)
    clicked = points.amax(1) > 0
    return mean_of_chosen(loss, clicked, video, videos), mean_of_chosen(loss, background, video, videos)
