"""One-dimensional RoI alignment: segments of any length read as a fixed number of bins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS_AT_ONCE = 4096  # of many segments; bounds the memory that their bins take before they are pooled


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
    if not len(start) or not len(features):
        return features.new_zeros(len(start), bins, features.shape[1])
    size = (end - start).clamp(min=1) / bins
    samples = torch.ceil(size).long()
    base = (start[:, None] + torch.arange(bins, device=start.device) * size[:, None]).reshape(-1)
    count = samples.repeat_interleave(bins)
    stops = count.cumsum(0)
    # of every sample, its bin and its segment
    bin_ = torch.repeat_interleave(count)
    segment = torch.div(bin_, bins, rounding_mode="floor")
    sample = torch.arange(len(bin_), device=start.device) - (stops - count)[bin_]
    y = base[bin_] + (sample + 0.5) * (size / samples)[segment]
    low = y.floor()
    fraction, share = y - low, samples.to(y.dtype).reciprocal()[segment]
    # samples are at most a row apart, so the rows of a bin are neighbours, and each is read once
    lowest = low[stops - count]
    rows = (low[stops - 1] - lowest).long() + 2
    begin = rows.cumsum(0) - rows
    of_row = torch.repeat_interleave(rows)
    place = begin[bin_] + (low - lowest[bin_]).long()
    weight = torch.zeros_like(of_row, dtype=y.dtype)
    weight.index_add_(0, place, (1 - fraction) * share).index_add_(0, place + 1, fraction * share)
    # a bin is a weighted sum of rows, with weight 0 outside of the sequence
    of_segment = torch.div(of_row, bins, rounding_mode="floor")
    within = torch.arange(len(of_row), device=start.device) - begin[of_row]
    row = within + (lowest.long() + (first - origin).repeat_interleave(bins))[of_row]
    inside = (row >= first[of_segment]) & (row < (first + length)[of_segment])
    out = F.embedding_bag(
        row.clamp(0, len(features) - 1),
        features,
        begin,
        mode="sum",
        per_sample_weights=(weight * inside).to(features.dtype),
    )
    return out.view(len(start), bins, -1)


def roi_align_naive(
    features: Tensor,
    first: Tensor,
    length: Tensor,
    start: Tensor,
    end: Tensor,
    bins: int,
    origin: Tensor | int = 0,
) -> Tensor:
    """`roi_align`, one segment after the other."""
    out = [features.new_zeros(0, bins, features.shape[1])]
    origin = torch.as_tensor(origin, device=start.device).expand(len(start))
    for m in range(len(start)):
        x = F.pad(features[first[m] : first[m] + length[m]], (0, 0, 1, 1))  # a row of zeros at either end
        size = (end[m] - start[m]).clamp(min=1) / bins
        samples = int(torch.ceil(size))
        base = start[m] + torch.arange(bins).to(start) * size
        y = base[:, None] + (torch.arange(samples).to(start) + 0.5) * (size / samples)
        low = y.floor()
        fraction = (y - low)[..., None].to(x.dtype)
        below, above = (x[(low.long() - origin[m] + i).clamp(0, len(x) - 1)] for i in (1, 2))
        out.append(((1 - fraction) * below + fraction * above).mean(1)[None])
    return torch.cat(out)


def segment_parts(
    features: Tensor,
    first: Tensor,
    length: Tensor,
    longest: Tensor,
    start: Tensor,
    end: Tensor,
    bins: int,
) -> Tensor:
    """Segments and their contexts, each pooled to one vector: what proposal-level methods see.

    A segment is enlarged by a quarter of its length on both sides and read as `bins` bins; the first and the
    last sixth of them are the contexts. P-MIL, TSPNet and HR-Pro all have it.

    Args:
        features, first, length, bins: see `roi_align`; at least 6 bins.
        longest: (M,) length of the longest segment of the same video. The published codes pad a video by a
            quarter of it, which moves the origin and with it float32 rounding.
        start, end: (M,) float32, in snippets.

    Returns:
        (M, 3, D) the largest value in the left context, inside, and in the right context.
    """
    side, at_once = bins // 6, max(1, _BINS_AT_ONCE // bins)
    parts = [features.new_zeros(0, 3, features.shape[1])]
    for rows in torch.split(torch.arange(len(start), device=start.device), at_once):
        aligned = segment_bins(
            features, first[rows], length[rows], longest[rows], start[rows], end[rows], bins
        )
        pieces = torch.split(aligned, [side, 4 * side, bins - 5 * side], dim=1)
        parts.append(torch.stack([piece.amax(1) for piece in pieces], 1))
    return torch.cat(parts)


def segment_bins(
    features: Tensor,
    first: Tensor,
    length: Tensor,
    longest: Tensor,
    start: Tensor,
    end: Tensor,
    bins: int,
) -> Tensor:
    """The bins of enlarged segments, (M, bins, D), before `segment_parts` pools them."""
    padding = torch.ceil(longest * 0.25) + 1
    quarter = (end - start) / 4
    low, high = (start - quarter) + padding - 0.5, (end + quarter) + padding - 0.5
    return roi_align(features, first, length, low, high, bins, padding.long())


def contrast(parts: Tensor) -> Tensor:
    """(M, 3, D) parts to (M, 3 D): inside minus left context, inside, inside minus right context."""
    left, inside, right = parts.unbind(1)
    return torch.cat([inside - left, inside, inside - right], dim=1)
