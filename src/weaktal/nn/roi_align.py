"""One-dimensional RoI alignment: segments of any length read as a fixed number of bins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def roi_align(
    features: Tensor,
    first: Tensor,
    length: Tensor,
    start: Tensor,
    end: Tensor,
    bins: int,
    origin: Tensor | int = 0,
) -> Tensor:
    """RoI-align (He et al. 2017) along time, for many segments of many sequences at once.

    A bin's value is the mean over evenly spaced samples, about one per snippet, each a linear interpolation
    between the two nearest rows; outside of a sequence there are zeros. It is what the two-dimensional
    operation with adaptive sampling and ``aligned=False`` gives on a map of width 1 with enough zero padding.

    Args:
        features: (N, D) rows of all sequences, one after the other.
        first, length: (M,) integers; segment ``m`` lies in the rows ``first[m] : first[m] + length[m]``.
        start, end: (M,) in rows; a segment shorter than one row is extended to one, towards the end.
        bins: values per segment.
        origin: where row 0 of the sequence lies on the axis of `start` and `end`. A number of samples depends
            on ``end - start`` next to integers, so rounding, and with it the origin, can matter.

    Returns:
        (M, bins, D), differentiable in `features`.
    """
    if not len(start):
        return features.new_zeros(0, bins, features.shape[1])
    extent = (end - start).clamp(min=1)
    size = extent / bins
    samples = torch.ceil(size).long()
    # bins of all segments, one after the other, then the samples of all bins
    base = (start[:, None] + torch.arange(bins, device=start.device) * size[:, None]).reshape(-1)
    count = samples.repeat_interleave(bins)
    stops = count.cumsum(0)
    bin_ = torch.repeat_interleave(torch.arange(len(base), device=start.device), count)
    sample = torch.arange(len(bin_), device=start.device) - (stops - count)[bin_]
    y = base[bin_] + (sample + 0.5) * (size / samples).repeat_interleave(bins)[bin_]
    low = y.floor()
    fraction = y - low
    # from here on rows of `features`
    row = low.long() + (first - origin).repeat_interleave(bins)[bin_]
    lowest = first.repeat_interleave(bins)[bin_]
    highest = (first + length - 1).repeat_interleave(bins)[bin_]
    share = count.to(y.dtype).reciprocal()[bin_]
    index = torch.empty(len(bin_), 2, dtype=torch.int64, device=start.device)
    weight = torch.empty(len(bin_), 2, dtype=y.dtype, device=start.device)
    for side, at, part in ((0, row, 1 - fraction), (1, row + 1, fraction)):
        index[:, side] = at.clamp(lowest, highest)
        weight[:, side] = part * share * (index[:, side] == at)
    bags = 2 * (stops - count)
    out = F.embedding_bag(
        index.reshape(-1),
        features,
        bags,
        mode="sum",
        per_sample_weights=weight.reshape(-1).to(features.dtype),
    )
    return out.reshape(len(start), bins, -1)
