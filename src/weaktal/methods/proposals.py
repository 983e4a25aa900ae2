"""What proposal-level methods share: the segments of a base locator, what they show, a network on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from weaktal.core import Detections, InputError, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import Batch, ProposalBatch
from weaktal.nn.roi_align import contrast, segment_parts

IntArray = NDArray[np.int64]
_AT_ONCE = 1024  # segments that go through a network together where no gradient is wanted


@dataclass(frozen=True, eq=False)
class Proposals:
    """Segments of V videos in snippets, video by video.

    Attributes:
        video: (M,) which video.
        start, end: (M,) in snippets.
        offsets: (V + 1,) rows of each video.
    """

    video: IntArray
    start: NDArray[np.floating[Any]]
    end: NDArray[np.floating[Any]]
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def of(
        cls,
        detections: Detections,
        names: Sequence[str],
        axes: Sequence[TimeAxis],
        *,
        decimals: int = 2,
        dtype: type[np.floating[Any]] = np.float64,
        drop_empty: bool = False,
    ) -> Proposals:
        """The segments of some videos; classes and scores do not count. A video may have none.

        Args:
            detections: in seconds.
            names, axes: of the V videos.
            decimals: places to which snippets are rounded, as published codes do.
            dtype: in which they are kept.
            drop_empty: leave out segments without length.
        """
        rows, video = rows_of(detections, names)
        offsets = np.searchsorted(video, np.arange(len(names) + 1))
        seconds = np.stack([detections.start[rows], detections.end[rows]])
        snippets = np.empty_like(seconds)
        for axis, a, b in zip(axes, offsets, offsets[1:], strict=False):
            snippets[:, a:b] = axis.positions_at(seconds[:, a:b])
        start, end = np.round(snippets, decimals).astype(dtype)
        if drop_empty:
            keep = end > start
            video, start, end = video[keep], start[keep], end[keep]
            offsets = np.searchsorted(video, np.arange(len(names) + 1))
        return cls(video, start, end, offsets)

    @property
    def longest(self) -> NDArray[np.float32]:
        """(V,) length of each video's longest segment, 0 without any."""
        out = np.zeros(len(self.offsets) - 1, np.float32)
        np.maximum.at(out, self.video, self.end.astype(np.float32) - self.start.astype(np.float32))
        return out

    def drawn(self, video: IntArray, most: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """At most `most` segments of each of some videos: their rows, and the place of each one's video."""
        rows = [np.arange(self.offsets[v], self.offsets[v + 1]) for v in video]
        rows = [rng.permutation(r)[:most] if len(r) > most else r for r in rows]
        return np.concatenate(rows), np.repeat(np.arange(len(video)), [len(r) for r in rows])

    def parts(self, features: Tensor, first: Tensor, length: Tensor, bins: int, rows: IntArray) -> Tensor:
        """`segment_parts` of some of the segments, (len(rows), 3, D).

        Args:
            features: (N, D) rows of all videos.
            first, length: (V,) rows of each video.
            bins: per segment.
            rows: which of the segments.
        """
        of = self.video[rows]
        video, longest, start, end = (
            torch.from_numpy(x).to(features.device)
            for x in (
                of,
                self.longest[of],
                self.start[rows].astype(np.float32),
                self.end[rows].astype(np.float32),
            )
        )
        return segment_parts(features, first[video], length[video], longest, start, end, bins)


def rows_of(detections: Detections, names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """The rows of some videos, video by video, and the place in `names` of each row's video."""
    place = {name: i for i, name in enumerate(names)}
    to = np.array([place.get(n, -1) for n in detections.names] or [-1], np.int64)
    video = to[detections.video] if len(detections) else detections.video
    rows = np.nonzero(video >= 0)[0]
    rows = rows[np.argsort(video[rows], kind="stable")]
    return rows, video[rows]


class SegmentFeatures:
    """The parts of all training segments: computed once if they fit into memory, for every batch if not.

    Equal segments of a video share a row.

    Args:
        bank: features of the videos.
        proposals: segments of these videos.
        bins: per segment.
        cache_gib: what may be kept.
    """

    def __init__(self, bank: FeatureBank, proposals: Proposals, bins: int, cache_gib: float) -> None:
        self.bank, self.proposals, self.bins, self.cache_gib = bank, proposals, bins, cache_gib
        segment = np.stack([proposals.video, proposals.start, proposals.end])
        _, self.first, inverse = np.unique(segment, axis=1, return_index=True, return_inverse=True)
        self.row = inverse.reshape(-1)

    @cached_property
    def table(self) -> Tensor | None:
        """Parts of all different segments, if they fit."""
        size = len(self.first) * 3 * self.bank.dim * self.bank.data.element_size()
        return self._compute(self.first) if size <= self.cache_gib * 2**30 else None

    def _compute(self, rows: IntArray) -> Tensor:
        bank = self.bank
        first, length = (torch.from_numpy(x).to(bank.data.device) for x in (bank.offsets[:-1], bank.lengths))
        return self.proposals.parts(bank.data, first, length, self.bins, rows)

    def __call__(self, rows: IntArray) -> Tensor:
        """(len(rows), 3, D)."""
        if self.table is None:
            return self._compute(rows)
        return self.table[torch.from_numpy(self.row[rows]).to(self.table.device)]


def training_proposals(
    name: str, detections: Detections | None, bank: FeatureBank, **options: Any
) -> Proposals:
    """`Proposals.of` the training videos.

    Raises:
        InputError: there are none.
    """
    if detections is None or not len(detections):
        raise InputError(
            f"{name} learns from the segments of a base locator, and there are none",
            hint="name a detections file with --proposals",
        )
    found = Proposals.of(detections, bank.names, bank.axes, **options)
    if not len(found):
        raise InputError(
            "no proposal belongs to a training video",
            found=", ".join(detections.names[:3]),
            expected=", ".join(bank.names[:3]),
        )
    return found


def batch_proposals(name: str, batch: Batch) -> Detections:
    """The proposals of a batch of whole videos.

    Raises:
        InputError: it carries none.
    """
    if not isinstance(batch, ProposalBatch):
        raise InputError(
            f"{name} re-scores the segments of a base locator, and there are none",
            hint="name a detections file with --proposals",
        )
    return batch.proposals


def packed_features(batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows of a padded batch, one video after another, and where each video begins."""
    width = batch.features.shape[1]
    first = torch.arange(len(batch), device=batch.features.device) * width
    return batch.features.flatten(0, 1), first


def segment_outputs(
    network: Callable[[Tensor], tuple[Tensor, ...]], parts: Callable[[IntArray], Tensor], count: int
) -> list[Tensor]:
    """What a network says of segments, tensor by tensor, (count, ...); for where no gradient is wanted.

    Args:
        network: of the parts (n, 3, D) of some segments.
        parts: the parts of some of the segments; they are made for a thousand at a time.
        count: of the segments.
    """
    outputs = [network(parts(rows.numpy())) for rows in torch.split(torch.arange(count), _AT_ONCE)]
    return [torch.cat(x) for x in zip(*outputs, strict=True)]


class ProposalOutput(NamedTuple):
    """Of N segments: class logits (N, C + 1) with background last, attention (N,) and quality (N,) logits.

    The quality is TSPNet's centre score and P-MIL's completeness.
    """

    classes: Tensor
    attention: Tensor
    quality: Tensor


class ProposalNetwork(nn.Module):
    """Fusion of what a segment shows, then three small heads; P-MIL has two, TSPNet one."""

    def __init__(self, dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.prop_fusion = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), nn.Dropout(dropout))
        self.prop_classifier = head(dim, classes + 1)
        self.prop_attention = head(dim, 1)
        self.prop_completeness = head(dim, 1)

    def forward(self, parts: Tensor) -> ProposalOutput:
        """`parts` (N, 3, D) of segments, see `segment_parts`."""
        fused = self.prop_fusion(contrast(parts))
        return ProposalOutput(
            per_row(self.prop_classifier, fused),
            per_row(self.prop_attention, fused)[:, 0],
            per_row(self.prop_completeness, fused)[:, 0],
        )


def head(dim: int, outputs: int) -> nn.Sequential:
    """Two convolutions of width 1, as the official weights name them."""
    return nn.Sequential(nn.Conv1d(dim, dim // 2, 1), nn.ReLU(), nn.Conv1d(dim // 2, outputs, 1))


def per_row(head: nn.Sequential, x: Tensor) -> Tensor:
    """A `head` as linear maps of rows (N, D): the same, and no rows are no error."""
    weight_in, bias_in, weight_out, bias_out = head.parameters()
    hidden = F.linear(x, weight_in[..., 0], bias_in).relu()
    return F.linear(hidden, weight_out[..., 0], bias_out)
