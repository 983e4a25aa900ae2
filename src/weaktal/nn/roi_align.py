"""One-dimensional RoI alignment: segments of any length read as a fixed number of bins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Reading(NamedTuple):
    """How the bins of some segments are read: as weighted sums of rows.

    Attributes:
        row: (K,) rows of the features, bin after bin.
        weight: (K,) their shares; 0 outside of a sequence.
        begin: (B,) where each bin's rows begin.
    """

    row: Tensor
    weight: Tensor
    begin: Tensor

    def of(self, features: Tensor) -> Tensor:
        """(B, D) of features (N, D), differentiable in these."""
        weight = self.weight.to(features.dtype)
        return F.embedding_bag(self.row, features, self.begin, mode="sum", per_sample_weights=weight)

    def parts(self, bins: int) -> Iterator[Reading]:
        """The same, `bins` at a time."""
        edges = [*self.begin[::bins].tolist(), len(self.row)]
        for i, (low, high) in enumerate(pairwise(edges)):
            begin = self.begin[i * bins : (i + 1) * bins] - low
            yield Reading(self.row[low:high], self.weight[low:high], begin)


def reading(
    first: Tensor, length: Tensor, start: Tensor, end: Tensor, bins: int, origin: Tensor | int = 0
) -> Reading:
    """The bins of M segments, one segment after the other; see `roi_align`, which reads them."""
    size = (end - start).clamp(min=1) / bins
    samples = torch.ceil(size).long()
    base = (start[:, None] + torch.arange(bins, device=start.device) * size[:, None]).reshape(-1)
    count = samples.repeat_interleave(bins)
    stops = count.cumsum(0)
    total = int(stops[-1])
    # of every sample, its bin and its segment
    bin_ = torch.repeat_interleave(count, output_size=total)
    segment = torch.repeat_interleave(samples * bins, output_size=total)
    sample = torch.arange(total, device=start.device) - (stops - count).index_select(0, bin_)
    y = base.index_select(0, bin_) + (sample + 0.5) * (size / samples).index_select(0, segment)
    low = y.floor()
    fraction = y - low
    share = samples.to(y.dtype).reciprocal().index_select(0, segment)
    # samples are at most a row apart, so the rows of a bin are neighbours, and each is read once
    lowest = low.index_select(0, stops - count)
    rows = (low.index_select(0, stops - 1) - lowest).long() + 2
    ends = rows.cumsum(0)
    begin = ends - rows
    of_row = torch.repeat_interleave(rows, output_size=int(ends[-1]))
    within = torch.arange(len(of_row), device=start.device) - begin.index_select(0, of_row)
    place = begin.index_select(0, bin_) + (low - lowest.index_select(0, bin_)).long()
    weight = torch.zeros_like(of_row, dtype=y.dtype)
    weight.index_add_(0, place, (1 - fraction) * share).index_add_(0, place + 1, fraction * share)
    of_segment = torch.div(of_row, bins, rounding_mode="floor")
    row = within + (lowest.long() + (first - origin).repeat_interleave(bins)).index_select(0, of_row)
    inside = row.clamp(first.index_select(0, of_segment), (first + length - 1).index_select(0, of_segment))
    return Reading(inside, weight * (inside == row), begin)


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
    return reading(first, length, start, end, bins, origin).of(features).reshape(len(start), bins, -1)
