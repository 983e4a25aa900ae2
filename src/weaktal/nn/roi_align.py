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
    # one entry per (segment, bin, sample), in this order
    per_segment = samples * bins
    segment = torch.repeat_interleave(torch.arange(len(start), device=start.device), per_segment)
    place = torch.arange(len(segment), device=start.device) - (per_segment.cumsum(0) - per_segment)[segment]
    count = samples[segment]
    bin_ = place // count
    sample = place - bin_ * count
    y = start[segment] + bin_ * size[segment] + (sample + 0.5) * (size / samples)[segment]
    low = y.floor()
    fraction = y - low
    row = low.long() - (origin[segment] if isinstance(origin, Tensor) else origin)
    both = torch.stack([row, row + 1], 1)
    weight = torch.stack([1 - fraction, fraction], 1) / count[:, None]
    last = length[segment, None] - 1
    weight = weight.masked_fill((both < 0) | (both > last), 0)
    index = first[segment, None] + both.clamp(min=0).minimum(last)
    bags = F.pad(2 * torch.repeat_interleave(samples, bins).cumsum(0), (1, 0))[:-1]
    out = F.embedding_bag(
        index.reshape(-1),
        features,
        bags,
        mode="sum",
        per_sample_weights=weight.reshape(-1).to(features.dtype),
    )
    return out.reshape(len(start), bins, -1)
