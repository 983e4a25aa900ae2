"""ASM-Loc: action-aware segment modelling (He et al., CVPR 2022, arXiv:2203.15187).

A multiple-instance network with foreground and background attention (the base step) finds first segments.
Every refinement step then starts a fresh network that uses the segments of the step before three times: to
sample time more densely where short actions are, for attention within and between segments, and as
snippet-level labels whose weight the network's own uncertainty decides.

B videos, T sampled snippets, L snippets of a video, D features, K classes, N segments of a video.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from weaktal.core import Detections, InputError, SnippetScores, TimeAxis, piecewise_linear
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import (
    AnyGenerator,
    at_most_rows,
    bin_edges,
    draw_rows,
    linear_positions,
    warp,
)
from weaktal.localize.curves import Runs, find_runs, outer_inner_contrast, upsample
from weaktal.localize.nms import nms
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.methods.published import class_names, load_published, published_weights, shape_of
from weaktal.nn.dropout import Dropout, dropout, dropout_mask
from weaktal.nn.parallel import by_rows
from weaktal.nn.pooling import masked_topk_mean, topk_mean
from weaktal.nn.ragged import Ragged

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Grid = tuple[float, float, float]  # start, stop, step of numpy.arange


class ASMLocConfig(MethodConfig):
    """Hyper-parameters; the defaults are the published ones for THUMOS14."""

    epochs: int = Field(800, ge=1, description="passes over the training videos, all steps together")
    epochs_per_step: int = Field(100, ge=1, description="passes of every step but the last")
    num_steps: int = Field(3, ge=0, description="refinement steps after the base step; 0 = base network only")
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-5, ge=0, description="L2 term inside Adam")

    snippets: int = Field(750, ge=2, description="snippets sampled from a video")
    heads: int = Field(8, ge=1, description="attention heads of the refinement networks; must divide D")
    dropout: float = Field(0.7, ge=0, lt=1)
    input_dropout: bool = Field(
        False, description="dropout also before the embedding and the attention heads"
    )
    topk_foreground: int = Field(8, ge=1, description="a video's score is the mean of its T // this best")
    topk_background: int = Field(3, ge=1)
    weight_foreground: float = Field(1.0, ge=0)
    weight_background: float = Field(0.5, ge=0)
    weight_background_action: float = Field(0.5, ge=0)
    weight_uncertainty: float = Field(0.2, ge=0, description="beta: price of uncertainty")

    warp: bool = Field(True, description="sample time more densely where short pseudo segments are")
    expansion: float = Field(0.5, ge=0, description="delta: a box exceeds its segment by this on each side")
    score_share: float = Field(0.7, ge=0, le=1, description="alpha: segments that hold this share of a class")
    density: float = Field(6.0, gt=0, description="gamma: upper bound of sampling weights / (2 delta + 1)")

    detect_step: int | None = Field(
        None, ge=0, description="step whose network gives the detections; default: the last"
    )
    class_threshold: float = Field(0.25, ge=0, lt=1, description="a video has the classes above this")
    upsampling: int = Field(20, ge=1)
    detect_on_cas: Grid | None = Field((0.15, 0.25, 0.05), description="thresholds: start, stop, step")
    detect_on_attention: Grid | None = (0.1, 0.925, 0.025)
    pseudo_on_cas: Grid | None = None
    pseudo_on_attention: Grid | None = (0.4, 0.925, 0.025)
    margin: float = Field(0.2, ge=0, description="width of the outer region over that of the segment")
    attention_share: float = Field(0.0, ge=0, le=1, description="of attention in the curve that gives scores")
    video_score_bonus: float = Field(0.0, ge=0, description="video score added on attention segments")
    nms_threshold: float = Field(0.45, gt=0, le=1)

    # What the published code does and a clean implementation would not; the published value is the default.
    sample_last: bool = Field(False, description="random sampling may draw the last snippet of a long video")
    normalize_uncovered: bool = Field(
        True, description="batch statistics include snippets outside all segments"
    )
    warp_alignment: Literal["end", "middle"] = Field(
        "end", description="where in its stretch of time a snippet's feature is taken to be, when warping"
    )
    extrapolate_tail: bool = Field(
        True, description="up-sampled curves go on with their last slope after the last snippet"
    )
    nms_plus_one: bool = Field(True, description="segments count as one second longer in NMS")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs <= self.num_steps * self.epochs_per_step:
            raise ValueError(
                f"epochs = {self.epochs} leaves none for the last step: "
                f"num_steps * epochs_per_step = {self.num_steps * self.epochs_per_step}"
            )
        if self.detect_step is not None and self.detect_step > self.num_steps:
            raise ValueError(f"detect_step = {self.detect_step} is beyond num_steps = {self.num_steps}")
        if self.detect_on_cas is None and self.detect_on_attention is None:
            raise ValueError("detection needs detect_on_cas or detect_on_attention")
        if self.num_steps and self.pseudo_on_cas is None and self.pseudo_on_attention is None:
            raise ValueError("refinement needs pseudo_on_cas or pseudo_on_attention")
        return self


# --------------------------------------------------------------------------------------------- network


class Outputs(NamedTuple):
    """What a network says.

    Attributes:
        fg_cls, bg_cls: (B, K + 1) class probabilities of the foreground and the background of a video; the
            last class is the background.
        attention: (B, T, 2) probabilities of foreground and background.
        cas, fg_cas, bg_cas: (B, T, K + 1) class probabilities of snippets: without attention, with
            foreground attention, with background attention.
        uncertainty: (B, T, 1) log variance of the snippet labels, or None (base network).
    """

    fg_cls: Tensor
    bg_cls: Tensor
    attention: Tensor
    cas: Tensor
    fg_cas: Tensor
    bg_cas: Tensor
    uncertainty: Tensor | None


class BaseNetwork(nn.Module):
    """Attention and classification of snippets, pooled to videos."""

    def __init__(self, config: ASMLocConfig, dim: int, classes: int) -> None:
        super().__init__()
        self.config = config
        drop = [Dropout(config.dropout)] if config.input_dropout else []
        self.feature_embedding = nn.Sequential(*drop, nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU())
        self.att_branch = nn.Conv1d(dim, 2, 1)
        self.snippet_cls = nn.Linear(dim, classes + 1)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        boxes: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Outputs:
        """
        Args:
            x: (B, T, D).
            mask: (B, T) bool, true at valid snippets, zeros elsewhere in `x`; None: all are valid.
            boxes, count: for the refinement networks.
        """
        e = self.feature_embedding(x.transpose(1, 2)).transpose(1, 2)
        return self.heads(e, mask, None)

    def heads(self, e: Tensor, mask: Tensor | None, uncertainty: Tensor | None) -> Outputs:
        """From embedded snippets (B, T, D)."""
        c = self.config
        attention = _pointwise(self.att_branch, self.head_input(e)).softmax(-1)
        if self.training and c.dropout:  # whole snippets are dropped, and single values of the others
            e = e * dropout_mask(e, c.dropout).mul_(dropout_mask(e[..., :1], c.dropout))
        logits = self.snippet_cls(e)
        fg, bg = logits * attention[..., :1], logits * attention[..., 1:]
        return Outputs(
            _pool(fg, c.topk_foreground, mask).softmax(-1),
            _pool(bg, c.topk_background, mask).softmax(-1),
            attention,
            logits.softmax(-1),
            fg.softmax(-1),
            bg.softmax(-1),
            uncertainty,
        )

    def head_input(self, e: Tensor) -> Tensor:
        return dropout(e, self.config.dropout, self.training and self.config.input_dropout)


class RefinementNetwork(BaseNetwork):
    """The base network with attention within and between segments, and an uncertainty."""

    def __init__(self, config: ASMLocConfig, dim: int, classes: int) -> None:
        super().__init__(config, dim, classes)
        if dim % config.heads:
            raise InputError(
                "the attention heads must divide the feature dimension",
                field="heads",
                found=f"{config.heads} heads, {dim} features",
                hint="set heads to a divisor, or num_steps=0 for the base network only",
            )
        self.MHSA_Intra = IntraSegmentAttention(dim, config)
        self.MHSA_Inter = InterSegmentAttention(dim, config)
        self.uncertainty_branch = nn.Conv1d(dim, 1, 1, bias=False)
        nn.init.normal_(self.uncertainty_branch.weight, std=1e-4)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        boxes: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Outputs:
        """As the base network.

        Args:
            boxes: (B, N, 2) first and last snippet of every segment. A box whose first snippet comes after
                its last covers nothing, and yet is a segment.
            count: (B,) how many of the boxes of a video are used.
        """
        assert boxes is not None
        assert count is not None
        e = self.feature_embedding(x.transpose(1, 2)).transpose(1, 2)
        masks = SegmentMasks(boxes, count, e.shape[1])
        e = self.MHSA_Inter(self.MHSA_Intra(e, masks), masks)
        return self.heads(e, mask, _pointwise(self.uncertainty_branch, self.head_input(e)))


class SegmentMasks:
    """Which snippets and segments of a batch attend to each other.

    Snippets do if they share a segment. So attention does not leave an *island*, a stretch of snippets each
    of which shares a segment with the next one, and islands of similar length are attended to together.

    Args:
        boxes: (B, N, 2) first and last snippet of the segments.
        count: (B,) how many are used.
        length: T.

    Attributes:
        used: (B, N) bool, true at segments.
        covers: (B, T, N) bool, true where a segment covers a snippet.
        rows: (M,) ascending numbers b T + t of the snippets in segments.
        islands: the M rows by island.
        groups: per group of `islands`, which of the M rows its islands have, (I, S) with any row in padding,
            and which of them attend to which, (I, S, S) bool.
    """

    def __init__(self, boxes: Tensor, count: Tensor, length: int) -> None:
        device = boxes.device
        t = torch.arange(length, device=device)[:, None]
        self.used = torch.arange(boxes.shape[1], device=device) < count[:, None]
        self.covers = (t >= boxes[:, None, :, 0]) & (t <= boxes[:, None, :, 1]) & self.used[:, None]
        covered = self.covers.any(-1)
        self.rows = covered.flatten().nonzero()[:, 0]
        begins = covered.clone()
        begins[:, 1:] &= ~(self.covers[:, 1:] & self.covers[:, :-1]).any(-1)
        island = begins.flatten().index_select(0, self.rows).cumsum(0) - 1
        self.islands = Ragged(torch.bincount(island).tolist(), device) if len(island) else None
        self.groups: list[tuple[Tensor, Tensor]] = []
        if self.islands is None:
            return
        member = self.covers.flatten(0, 1).index_select(0, self.rows).float()
        for group in self.islands.groups:
            row = self.islands.padded_index(group).clamp(max=len(member) - 1)
            real = torch.arange(row.shape[1], device=device) < self.islands.sizes[group, None]
            shares = torch.bmm(member[row], member[row].transpose(1, 2)) > 0
            # padding is no key; as a query, whose result is not read, it may see anything but nothing
            self.groups.append((row, (shares & real[:, None]) | ~real[..., None]))


class SegmentAttention(nn.Module):
    """What both attention blocks share; with the batch norm's scale at 0, a block starts as the identity."""

    def __init__(self, dim: int, config: ASMLocConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_query, self.conv_key, self.conv_value, self.conv_out = (
            nn.Conv1d(dim, dim, 1) for _ in range(4)
        )
        self.bn = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.bn.weight)

    def project(self, rows: Tensor) -> list[Tensor]:
        """Queries, keys and values of rows (..., D)."""
        return [_pointwise(conv, rows) for conv in (self.conv_query, self.conv_key, self.conv_value)]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, allowed: Tensor) -> Tensor:
        """Multi-head attention of (B, M, D); every row of `allowed` (B, M, M) needs a true entry."""
        b, m, d = q.shape
        heads = self.config.heads
        q, k, v = (x.view(b, m, heads, d // heads).transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed[:, None])
        return out.transpose(1, 2).flatten(2)

    def added(self, e: Tensor, out: Tensor, rows: Tensor) -> Tensor:
        """The block's result.

        Args:
            e: (B, T, D), what goes into the block.
            out: (M, D), what the snippets in segments receive, before the bias of the output projection.
            rows: (M,) their numbers; the others receive nothing.
        """
        flat, bias = e.flatten(0, 1), self.conv_out.bias
        assert bias is not None
        out = out + bias
        if self.config.normalize_uncovered:
            everywhere = bias.to(out.dtype).expand_as(flat).index_copy(0, rows, out)
            return e + self.normalized(everywhere).view_as(e)
        return flat.index_add(0, rows, self.normalized(out).to(flat.dtype)).view_as(e)

    def normalized(self, rows: Tensor) -> Tensor:
        """Batch norm of (M, D); a batch of fewer than two rows has no statistics."""
        enough = len(rows) > 1 or not self.training
        out: Tensor = self.bn(rows) if enough else rows * self.bn.weight + self.bn.bias
        return out


class IntraSegmentAttention(SegmentAttention):
    """Snippets attend to those that share a segment with them; (B, T, D) to (B, T, D)."""

    def forward(self, e: Tensor, masks: SegmentMasks) -> Tensor:
        projected = self.project(e.flatten(0, 1).index_select(0, masks.rows))
        if masks.islands is None:
            out = torch.stack(projected).sum(0)  # as empty as they are; the gradients are zeros, not missing
        else:
            every = torch.cat([row.flatten() for row, _ in masks.groups])
            sizes = [row.numel() for row, _ in masks.groups]
            grouped = zip(*(torch.split(x.index_select(0, every), sizes) for x in projected), strict=True)
            parts = [
                self.attend(*(x.view(*row.shape, -1) for x in qkv), allowed=allowed)
                for (row, allowed), qkv in zip(masks.groups, grouped, strict=True)
            ]
            out = masks.islands.pack(parts)
        return self.added(e, F.linear(out, self.conv_out.weight[..., 0]), masks.rows)


class InterSegmentAttention(SegmentAttention):
    """The segments of a video attend to each other; snippets receive the mean of those that cover them."""

    def forward(self, e: Tensor, masks: SegmentMasks) -> Tensor:
        p, used = masks.covers.to(e.dtype), masks.used
        segments = torch.bmm(p.transpose(1, 2), e) / p.sum(1).clamp(min=1e-5)[..., None]
        out = self.attend(*self.project(segments), allowed=used[:, None, :] | ~used[:, :, None])
        # the output projection is linear, so it comes before the spreading from N segments to T snippets
        out = F.linear(out, self.conv_out.weight[..., 0])
        share = p / p.sum(-1, keepdim=True).clamp(min=1e-5)
        spread = torch.bmm(share, out).flatten(0, 1)
        return self.added(e, spread.index_select(0, masks.rows), masks.rows)


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 on (..., D)."""
    return F.linear(x, conv.weight[..., 0], conv.bias)


def _pool(logits: Tensor, divisor: int, mask: Tensor | None) -> Tensor:
    """Mean of the max(1, T // divisor) largest logits of each class: (B, T, C) to (B, C)."""
    if mask is None:
        return topk_mean(logits, max(1, logits.shape[1] // divisor))
    return masked_topk_mean(logits, (mask.sum(1) // divisor).clamp(min=1), mask)


# ---------------------------------------------------------------------------------------------- losses


def video_losses(out: Outputs, labels: Tensor, config: ASMLocConfig) -> dict[str, Tensor]:
    """Multiple-instance losses.

    Args:
        out: of the network.
        labels: (B, K), 0 or 1; a video without any adds nothing to the losses that need labels.

    Returns:
        "foreground", "background" (towards the background class), "background_action" (background must still
        carry the video's label, as context does) and their weighted sum "total"; scalars.
    """
    label = F.pad(labels, (0, 1))
    label = label / label.sum(-1, keepdim=True).clamp(min=1)
    background = torch.zeros_like(label)
    background[:, -1] = 1
    losses = {
        "foreground": _cross_entropy(out.fg_cls, label).mean(),
        "background": _cross_entropy(out.bg_cls, background).mean(),
        "background_action": _cross_entropy(out.bg_cls, label).mean(),
    }
    weights = config.weight_foreground, config.weight_background, config.weight_background_action
    total = torch.stack([w * x for w, x in zip(weights, losses.values(), strict=True)]).sum()
    return {"total": total, **losses}


def instance_loss(out: Outputs, targets: Tensor, beta: float) -> Tensor:
    """Pseudo instance-level loss: cross entropy with labels of snippets, weighted by exp(-uncertainty).

    Args:
        out: of a refinement network.
        targets: (B, T, K + 1), rows sum to 1.
        beta: price of uncertainty.
    """
    assert out.uncertainty is not None
    u = out.uncertainty[..., 0]
    return (torch.exp(-u) * _cross_entropy(out.cas, targets)).mean() + beta * u.mean()


def _cross_entropy(p: Tensor, target: Tensor) -> Tensor:
    return -(target * p.clamp(min=1e-7).log()).sum(-1)


# ------------------------------------------------------------- what pseudo segments say about a video


@dataclass(frozen=True, eq=False)
class Clock:
    """Lengths and times of V videos, (V,) each: `length` snippets, `rate` snippets a second, `offset`.

    The published code measures time in seconds from the first snippet with 25 / 16 snippets a second.
    """

    length: IntArray
    rate: FloatArray
    offset: FloatArray

    @classmethod
    def of(cls, axes: Sequence[TimeAxis]) -> Self:
        length = np.array([a.length for a in axes], np.int64)
        offset = np.array([a.start for a in axes])
        # rounded, so that 25 / 16 comes out of a duration as it went in, to the last bit: segment ends often
        # lie halfway between snippets, and the last bit decides to which they are rounded
        rate = np.array([round(a.length / (a.end - a.start), 9) for a in axes])
        return cls(length, rate, offset)


def time_weights(
    segments: Detections, clock: Clock, *, score_share: float, expansion: float, density: float
) -> list[FloatArray]:
    """How densely to sample each snippet: more where short segments are (dynamic segment sampling).

    Of every class in a video, the best segments take part, as many as there are cumulative scores within
    `score_share` of the largest one.

    Args:
        segments: of V videos, grouped by video.
        clock: of the V videos.
        score_share, expansion, density: alpha, delta and gamma.

    Returns:
        (L,) weights >= 1 per video; every maximal stretch above 1 sums to an integer.
    """
    offsets = np.concatenate([[0], np.cumsum(clock.length)])
    w = np.ones(offsets[-1])
    if len(segments):
        group = segments.video * len(segments.classes) + segments.label
        order = np.lexsort((-segments.score, group))
        row, rank = _ranks(group[order])
        cumulative = np.cumsum(_table(row, rank, segments.score[order], 0.0), axis=1)
        real = _table(row, rank, np.ones(len(order)), 0.0) > 0
        top = np.where(real, cumulative, -np.inf).max(1, keepdims=True)
        count = ((cumulative <= score_share * top) & real).sum(1)
        best = order[rank < count[row]]

        video = segments.video[best]
        rate, last = clock.rate[video], clock.length[video] - 1
        low, high = _expanded(
            segments.start[best] - clock.offset[video], segments.end[best] - clock.offset[video], expansion
        )
        i0 = np.maximum(np.rint(low * rate), 0).astype(np.int64)
        i1 = np.minimum(np.rint(high * rate), last).astype(np.int64)
        n = i1 - i0 + 1
        bound = density * (2 * expansion + 1)
        use = (i0 < i1) & (n <= bound)
        n, start = n[use], (offsets[video] + i0)[use]
        np.maximum.at(w, _spans(start, n), np.repeat(np.minimum(bound / n, bound), n))

        dense = w > 1
        begins = dense & ~np.concatenate([[False], dense[:-1]])
        begins[offsets[:-1]] = dense[offsets[:-1]]
        run = np.cumsum(begins)[dense] - 1
        total = np.bincount(run, weights=w[dense])
        w[dense] *= (np.rint(total) / total)[run]
    return np.split(w, offsets[1:-1])


def outermost(segments: Detections) -> IntArray:
    """Rows of the segments that lie in no other of their video, by (video, start).

    Of segments with one start, the one listed last is met first, and stays.
    """
    listed = np.arange(len(segments))
    order = np.lexsort((listed, segments.end, segments.start, segments.video))
    columns = np.stack([segments.video, segments.start, segments.end])[:, order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (columns[:, 1:] != columns[:, :-1]).any(0)
    order = order[fresh]
    order = order[np.lexsort((-listed[order], segments.start[order], segments.video[order]))]
    if not len(order):
        return order
    row, rank = _ranks(segments.video[order])
    ends = _table(row, rank, segments.end[order], -np.inf)
    before = np.full_like(ends, -np.inf)
    np.maximum.accumulate(ends[:, :-1], axis=1, out=before[:, 1:])
    return order[segments.end[order] > before[row, rank]]


class Warp:
    """Non-uniform sampling of V videos.

    Args:
        weights: (L,) per video, how densely to sample each snippet. A video of one snippet stays as it is.
        alignment: `ASMLocConfig.warp_alignment`.

    Attributes:
        rows: (V,) how many rows the warped videos have.
        knots: per video (L + 1,) the cumulative weights from 0 on, or None where there is nothing to warp.
    """

    def __init__(self, weights: Sequence[FloatArray], alignment: str) -> None:
        self.at_end = alignment == "end"
        pairs = [warp(w) if len(w) > 1 else (np.zeros(1), None) for w in weights]
        self.knots = [c for _, c in pairs]
        if self.at_end:
            source = [x for x, _ in pairs]
        else:
            source = [
                x
                if c is None
                else piecewise_linear(np.arange(len(x)) + 0.5, c, np.arange(len(c), dtype=np.float64)) - 0.5
                for x, c in pairs
            ]
        self.rows = np.array([len(x) for x in source], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.rows)])
        self.source = np.concatenate(source)

    def positions(self, video: IntArray, rows: IntArray) -> FloatArray:
        """Where rows (B, S) of the warped videos (B,) lie among the snippets."""
        return self.source[self.offsets[video][:, None] + rows]

    def warped(self, video: int | np.integer, position: FloatArray) -> FloatArray:
        """Positions on the time line of a video, in snippets, on the warped one, in rows."""
        c = self.knots[video]
        if c is None:
            return position
        shift = 1.0 if self.at_end else 0.0
        return piecewise_linear(position + shift, np.arange(len(c), dtype=np.float64), c, side="left") - shift


class Refinement:
    """What a refinement step knows about V videos from the segments of the step before.

    Args:
        segments: pseudo segments of the V videos, grouped by video and class, by falling score.
        clock: of the V videos.
        labels: (V, K) video labels; segments of other classes are left out. None: all are used.
        config: of the method.

    Attributes:
        segments: those that are used.
        boxed: rows of the segments that become boxes.
        weights: (L,) sampling weights per video.
        warp: the sampling, or None without it.
        rows: (V,) rows of the (warped) videos.
    """

    def __init__(
        self, segments: Detections, clock: Clock, labels: NDArray[Any] | None, config: ASMLocConfig
    ) -> None:
        self.config, self.clock = config, clock
        if labels is not None:
            segments = segments[np.asarray(labels)[segments.video, segments.label] > 0]
        self.segments, self.boxed = segments, outermost(segments)
        self.weights = time_weights(
            segments,
            clock,
            score_share=config.score_share,
            expansion=config.expansion,
            density=config.density,
        )
        self.warp = Warp(self.weights, config.warp_alignment) if config.warp else None
        self.rows = clock.length if self.warp is None else self.warp.rows
        self.start, self.end = (self._warped(x) for x in (segments.start, segments.end))

    def knots(self, video: int | np.integer) -> FloatArray | None:
        """Cumulative weights of a video, or None if it is not warped."""
        return None if self.warp is None else self.warp.knots[video]

    def _warped(self, seconds: FloatArray) -> FloatArray:
        """Seconds of the segments on the warped time line, from the first snippet."""
        out = seconds - self.clock.offset[self.segments.video]
        if self.warp is not None:
            bounds = np.searchsorted(self.segments.video, np.arange(len(self.rows) + 1))
            for v in np.flatnonzero(np.diff(bounds)):
                here, rate = slice(bounds[v], bounds[v + 1]), self.clock.rate[v]
                if self.warp.knots[v] is not None:
                    out[here] = self.warp.warped(v, out[here] * rate) / rate
        return out

    def boxes(self, video: IntArray, length: IntArray) -> tuple[Tensor, Tensor]:
        """Boxes of videos that are sampled to `length` (B,) rows, by falling first row.

        Returns:
            (B, N, 2) first and last row, with N that of the batch and at least 1; and (B,) how many are used.
        """
        count = np.bincount(self.segments.video[self.boxed], minlength=len(self.rows))
        n = count[video]
        row = np.repeat(np.arange(len(video)), n)
        at = self.boxed[_spans((np.cumsum(count) - count)[video], n)]
        low, high = _expanded(self.start[at], self.end[at], self.config.expansion)
        scale = self._scale(video, length)[row]
        first = np.maximum(np.rint(low * scale), 0)
        last = np.minimum(np.rint(high * scale), length[row] - 1)
        order = np.lexsort((-first, row))
        out = np.zeros((len(video), max(1, n.max(initial=0)), 2), np.int64)
        out[row, _spans(np.zeros_like(n), n)] = np.stack([first, last], 1)[order]
        return torch.from_numpy(out), torch.from_numpy(n)

    def targets(self, video: IntArray, length: IntArray, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Snippet labels of videos that are sampled to `length` (B,) rows: (B, T, K + 1), rows sum to 1.

        A snippet has the classes of the segments that it lies in, as far as they are in `labels` (B, K), or
        else the background.
        """
        bounds = np.searchsorted(self.segments.video, np.stack([video, video + 1]))
        n = bounds[1] - bounds[0]
        row, at = np.repeat(np.arange(len(video)), n), _spans(bounds[0], n)
        keep = np.asarray(labels)[row, self.segments.label[at]] > 0
        row, at = row[keep], at[keep]
        scale = self._scale(video, length)[row]
        low = np.maximum(np.rint(self.start[at] * scale), 0).astype(np.int64)
        high = np.minimum(np.rint(self.end[at] * scale), length[row] - 1).astype(np.int64)
        inside = low <= high
        row, at, low, high = row[inside], at[inside], low[inside], high[inside]
        steps = np.zeros((len(video), int(length.max()) + 1, len(self.segments.classes)), np.int32)
        np.add.at(steps, (row, low, self.segments.label[at]), 1)
        np.add.at(steps, (row, high + 1, self.segments.label[at]), -1)
        on = np.cumsum(steps, axis=1)[:, :-1] > 0
        out = np.concatenate([on, ~on.any(-1, keepdims=True)], axis=-1).astype(np.float32)
        return np.asarray(out / out.sum(-1, keepdims=True))

    def _scale(self, video: IntArray, length: IntArray) -> FloatArray:
        """Rows per second of the warped time line."""
        return self.clock.rate[video] * length / self.rows[video]


def _expanded(start: FloatArray, end: FloatArray, expansion: float) -> tuple[FloatArray, FloatArray]:
    middle, reach = (start + end) / 2, (expansion + 0.5) * (end - start)
    return middle - reach, middle + reach


def _spans(start: IntArray, length: IntArray) -> IntArray:
    """start[0], start[0] + 1, ... for `length[0]` numbers, and so on."""
    return np.arange(length.sum()) + np.repeat(start - np.cumsum(length) + length, length)


def _ranks(group: IntArray) -> tuple[IntArray, IntArray]:
    """Of sorted groups, for all rows: the group's number and the place in it."""
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    row = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(group))))
    return row, np.arange(len(group)) - first[row]


def _table(row: IntArray, rank: IntArray, values: FloatArray, fill: float) -> FloatArray:
    out = np.full((row[-1] + 1, rank.max() + 1), fill)
    out[row, rank] = values
    return out


# -------------------------------------------------------------------------------------------- sampling


def random_positions(
    rows: IntArray, size: int, rng: AnyGenerator, *, sample_last: bool = False
) -> FloatArray:
    """One random row from each of `size` bins, or interpolated positions in a video of too few: (B, `size`).

    Args:
        rows: (B,) rows of the videos.
        size: positions to take.
        rng: source of the draws.
        sample_last: the bins cover the last row too.
    """
    out = linear_positions(rows, size)
    many = rows > size
    if many.any():
        out[many] = draw_rows(*bin_edges(rows[many] + sample_last, size), rng)
    return out


def _mixture(position: FloatArray, rows: IntArray) -> tuple[IntArray, FloatArray]:
    """Linear interpolation: (B, S) positions among `rows` (B,) as two row numbers and weights (B, S, 2).

    Continued linearly outside.
    """
    last = rows[:, None] - 1
    low = np.clip(np.floor(position), 0, np.maximum(last - 1, 0)).astype(np.int64)
    weight = np.where(last > 0, position - low, 0.0)
    return np.stack([low, np.minimum(low + 1, last)], -1), np.stack([1 - weight, weight], -1)


def sampled(
    bank: FeatureBank, video: IntArray, rows: FloatArray, length: IntArray, warped: Warp | None = None
) -> Tensor:
    """Features of videos (B,) at the (fractional) `rows` (B, T), the first `length` (B,): (B, T, D).

    With `warped`, rows of the warped video, which are interpolated between snippets themselves.
    """
    snippets = bank.lengths[video]
    if warped is None:
        index, weight = _mixture(rows, snippets)
    else:
        outer, outer_weight = _mixture(rows, warped.rows[video])
        b, t, _ = outer.shape
        inner, weight = _mixture(warped.positions(video, outer.reshape(b, -1)), snippets)
        index = inner.reshape(b, t, 4)
        weight = weight.reshape(b, t, 4) * np.repeat(outer_weight, 2, axis=-1)
    weight *= (np.arange(rows.shape[1]) < length[:, None])[..., None]
    if not weight[..., 1:].any():
        index, weight = index[..., :1], weight[..., :1]
    return bank.mixed(video, index, weight)


@dataclass(frozen=True)
class SegmentBatch(Batch):
    """A batch of a refinement step.

    Attributes:
        boxes: (B, N, 2) int64, first and last row of the segments.
        count: (B,) int64, how many boxes of a video are used.
        targets: (B, T, K + 1) float, labels of snippets.
    """

    boxes: Tensor
    count: Tensor
    targets: Tensor


# ---------------------------------------------------------------------------------------------- method


class ASMLoc(SnippetMethod):
    """ASM-Loc, from video-level labels.

    The networks of all steps are part of the module, as a new video has to go through all of them: each one
    finds the segments that the next one needs.
    """

    name = "asm_loc"
    supervision = "video"
    Config = ASMLocConfig
    config: ASMLocConfig

    def __init__(self, config: ASMLocConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        kinds = [BaseNetwork] + [RefinementNetwork] * config.num_steps
        self.networks = nn.ModuleList(kind(config, dim, len(self.classes)) for kind in kinds)
        self.stage = config.num_steps  # the step in training, or the last one with trained weights
        self.missing: tuple[int, ...] = ()  # steps without weights, after `from_published` of a single one
        self.pseudo: list[Detections] = []  # segments of the training videos, by the step that found them
        self._refinement: Refinement | None = None  # of the current stage, made when it is needed

    # training

    def stages(self, data: TrainingData) -> list[Stage]:
        c, epoch = self.config, data.steps_per_epoch(self.config.batch_size)
        epochs = [c.epochs_per_step] * c.num_steps + [c.epochs - c.num_steps * c.epochs_per_step]
        names = ["base"] + [f"refine{s}" for s in range(1, c.num_steps + 1)]
        return [Stage(name, n * epoch, epoch) for name, n in zip(names, epochs, strict=True)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        """Predict the segments that a refinement stage starts from."""
        if stage > 0:
            before = self._plan(stage - 1, data)
            self.pseudo[stage - 1 :] = [self.pseudo_segments(stage - 1, data.bank, before)]
        self.stage, self._refinement = stage, None

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.networks[stage].parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )

    def draw(self, stage: int, step: int, data: TrainingData) -> Batch:
        c, device = self.config, data.bank.data.device
        self.stage = stage
        video = data.shuffled(step, c.batch_size, stage)
        if self._refinement is None:
            self._refinement = self._plan(stage, data)
        plan = self._refinement
        rows = data.bank.lengths[video] if plan is None else plan.rows[video]
        at = random_positions(rows, c.snippets, data.rng(stage, step), sample_last=c.sample_last)
        length = np.full(len(video), c.snippets, np.int64)
        axes = [_axis(data.bank.axes[v], c.snippets, plan.knots(v) if plan else None) for v in video]
        labels = data.weak.multi_hot()[video]
        batch = Batch(
            sampled(data.bank, video, at, length, plan.warp if plan else None),
            torch.from_numpy(length).to(device),
            torch.from_numpy(labels).to(device),
            tuple(data.bank.names[v] for v in video),
            tuple(axes),
        )
        if plan is None:
            return batch
        boxes, count = plan.boxes(video, length)
        return SegmentBatch(
            **vars(batch),
            boxes=boxes.to(device),
            count=count.to(device),
            targets=torch.from_numpy(plan.targets(video, length, labels)).to(device),
        )

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Losses "total", "foreground", "background", "background_action", and "instance" in refinement."""
        segments = (batch.boxes, batch.count) if isinstance(batch, SegmentBatch) else (None, None)
        out = by_rows(self.networks[self.stage], batch.features, None, *segments)
        losses = video_losses(out, batch.labels, self.config)
        if isinstance(batch, SegmentBatch):
            losses["instance"] = instance_loss(out, batch.targets, self.config.weight_uncertainty)
            losses["total"] = losses["total"] + losses["instance"]
        return losses

    def training_state(self) -> dict[str, Any]:
        columns = ("video", "start", "end", "label", "score")
        return {
            "stage": self.stage,
            "missing": list(self.missing),
            "pseudo": [
                {"names": list(p.names), **{c: torch.from_numpy(getattr(p, c)) for c in columns}}
                for p in self.pseudo
            ],
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.stage, self.missing, self._refinement = state["stage"], tuple(state["missing"]), None
        self.pseudo = [
            Detections(
                tuple(p["names"]),
                self.classes,
                *(p[c].numpy() for c in ("video", "start", "end", "label", "score")),
            )
            for p in state["pseudo"]
        ]

    def artifacts(self) -> dict[str, Detections]:
        """Pseudo segments of the training videos, by the step that found them."""
        names = ["base"] + [f"refine{s}" for s in range(1, len(self.networks))]
        return {f"pseudo_{name}": p for name, p in zip(names, self.pseudo, strict=False)}

    def _plan(self, stage: int, data: TrainingData) -> Refinement | None:
        if stage == 0:
            return None
        clock = Clock.of(data.bank.axes)
        return Refinement(self.pseudo[stage - 1], clock, data.weak.multi_hot(), self.config)

    # published weights

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """The method around one network of the official release.

        A base network gives a method with ``num_steps=0``. A refinement network gives one with
        ``num_steps=1`` whose base network is missing: its network is ``networks[1]``, and `score` refuses to
        work; give all steps to `from_published_folder` for detections.

        Args:
            state_dict: parameters by their official names, with or without a leading "module."; or a
                checkpoint that holds them as "model_state_dict".
            classes: class names; default "class 0", ...
            config: fields of `ASMLocConfig`.

        Raises:
            InputError: a parameter is missing, unexpected or of the wrong shape.
        """
        return cls._from_states([state_dict], classes, config)

    @classmethod
    def from_published_folder(
        cls, states: Mapping[str, Mapping[str, Any]], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """The method with the networks of all steps, as the official release writes them.

        Args:
            states: checkpoints by file name: "model_step0_last_epoch.pth", ...; of the last step
                "model_stepN_best_epoch.pth" is preferred, as the official test does.
            classes: class names; default "class 0", ...
            config: fields of `ASMLocConfig`; `num_steps` if not all steps are wanted.

        Raises:
            InputError: the checkpoint of a step is missing, or does not fit.
        """
        found: dict[int, dict[str, Mapping[str, Any]]] = {}
        for name, state in states.items():
            if match := re.fullmatch(r"model_step(\d+)_(last|best)_epoch(\.\w+)?", PurePath(name).name):
                found.setdefault(int(match[1]), {})[match[2]] = state
        steps = config.pop("num_steps", max(found, default=0))
        ordered = []
        for step in range(steps + 1):
            kinds = ("best", "last") if step == steps else ("last",)
            here = [found[step][k] for k in kinds if k in found.get(step, {})]
            if not here:
                raise InputError(
                    "the checkpoint of a step is missing",
                    expected=f"model_step{step}_{kinds[0]}_epoch.pth",
                    found=", ".join(sorted(states)) or "no files",
                    hint="new videos go through the networks of all steps",
                )
            ordered.append(here[0])
        return cls._from_states(ordered, classes, config)

    @classmethod
    def _from_states(
        cls, states: Sequence[Mapping[str, Any]], classes: Sequence[str] | None, config: dict[str, Any]
    ) -> Self:
        plain = [published_weights(s.get("model_state_dict", s)) for s in states]
        first = plain[0]
        outputs, dim = shape_of(first, "snippet_cls.weight", 2)
        classes = class_names(classes, outputs - 1)
        lone = len(plain) == 1 and any(k.startswith("MHSA_") for k in first)
        steps = 1 if lone else len(plain) - 1
        if config.setdefault("num_steps", steps) != steps:
            raise InputError(
                "the number of steps does not fit the checkpoints",
                field="num_steps",
                found=config["num_steps"],
                expected=steps,
                hint=f"set num_steps={steps}, or give the folder with the checkpoints of all steps",
            )
        # the ActivityNet networks have a dropout layer before the convolution
        config.setdefault("input_dropout", "feature_embedding.1.weight" in first)
        if config["num_steps"]:
            config.setdefault("epochs", max(800, 1 + steps * config.get("epochs_per_step", 100)))
        method = cls(ASMLocConfig(**config), dim=dim, classes=classes)
        for step, state in enumerate(plain, start=int(lone)):
            load_published(method.networks[step], state)
        method.missing = (0,) if lone else ()
        return method

    # scoring

    def score(self, batch: Batch) -> list[SnippetScores]:
        """Scores of whole videos by the last step, or that of `ASMLocConfig.detect_step`.

        While training, the last step is the one that is trained: later networks know nothing yet.
        """
        last = self.stage if self.config.detect_step is None else min(self.config.detect_step, self.stage)
        return next(islice(self.score_steps(batch), last, None))

    @torch.no_grad()
    def score_steps(self, batch: Batch) -> Iterator[list[SnippetScores]]:
        """Scores of whole videos by every step, from the base step on."""
        if self.missing:
            raise InputError(
                "a refinement network alone cannot find segments",
                hint="load the checkpoints of all steps with from_published_folder",
            )
        lengths = batch.lengths.cpu().numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        bank = FeatureBank(batch.names, batch.features[batch.mask], offsets, batch.axes)
        plan = None
        for step in range(len(self.networks)):
            if step:
                segments = self.pseudo_segments(step - 1, bank, plan)
                plan = Refinement(segments, Clock.of(bank.axes), None, self.config)
            yield self._scores(step, bank, np.arange(len(bank)), plan)

    @torch.no_grad()
    def pseudo_segments(self, step: int, bank: FeatureBank, plan: Refinement | None) -> Detections:
        """The segments that a step finds in all videos of a bank, for the next step."""
        training = self.training
        self.eval()
        parts = np.array_split(np.arange(len(bank)), -(-len(bank) // 16))
        scores = [s for video in parts for s in self._scores(step, bank, video, plan)]
        self.train(training)
        clock = Clock.of(bank.axes)

        def seconds(v: int, positions: FloatArray) -> FloatArray:
            # the published order of operations, see `Clock.of`
            n, rate = clock.length[v], clock.rate[v]
            t = positions * (n / (rate * self.config.upsampling * scores[v].axis.length))
            knots = None if plan is None else plan.knots(v)
            if knots is not None:
                duration = n / rate
                t = duration * piecewise_linear(
                    t / duration, knots / knots[-1], np.arange(n + 1) / n, side="left"
                )
            return np.asarray(t + clock.offset[v])

        c = self.config
        return self._segments(scores, c.pseudo_on_cas, c.pseudo_on_attention, 0.0, seconds)

    def _scores(
        self, step: int, bank: FeatureBank, video: IntArray, plan: Refinement | None
    ) -> list[SnippetScores]:
        network = self.networks[step]
        device = next(network.parameters()).device
        rows, length = at_most_rows(
            bank.lengths[video] if plan is None else plan.rows[video], self.config.snippets
        )
        features = sampled(bank, video, rows.astype(float), length, plan.warp if plan else None).to(device)
        mask = torch.from_numpy(np.arange(rows.shape[1]) < length[:, None]).to(device)
        segments = () if plan is None else (x.to(device) for x in plan.boxes(video, length))
        out = network(features, mask, *segments)
        cas, attention, cls = (y.float().cpu().numpy() for y in (out.fg_cas, out.attention, out.fg_cls))
        return [
            SnippetScores(
                bank.names[v],
                cas[i, :t, :-1],
                attention[i, :t, 0],
                cls[i, :-1],
                _axis(bank.axes[v], int(t), plan.knots(v) if plan else None),
            )
            for i, (v, t) in enumerate(zip(video, length, strict=True))
        ]

    # localization

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """Segments above many thresholds of class activation and attention, after NMS."""
        c = self.config

        return self._segments(scores, c.detect_on_cas, c.detect_on_attention, c.video_score_bonus)

    def _segments(
        self,
        scores: Sequence[SnippetScores],
        on_cas: Grid | None,
        on_attention: Grid | None,
        bonus: float,
        seconds: Callable[[int, FloatArray], FloatArray] | None = None,
    ) -> Detections:
        """Segments of videos, grouped by video and class, by falling score.

        `seconds` of a video's up-sampled positions come from its axis if not said otherwise.
        """
        if seconds is None:

            def seconds(v: int, positions: FloatArray) -> FloatArray:
                return scores[v].axis.seconds_at(positions / self.config.upsampling)

        names = tuple(s.video for s in scores)
        found = [self._candidates(s, on_cas, on_attention, bonus) for s in scores]
        times = [seconds(v, np.stack(c[1:3]).astype(np.float64)) for v, c in enumerate(found)]
        if not found:
            return Detections.empty(names, self.classes)
        video = np.repeat(np.arange(len(found)), [len(c[0]) for c in found])
        start, end = np.concatenate(times, axis=1)
        label, value = np.concatenate([c[0] for c in found]), np.concatenate([c[3] for c in found])
        keep = nms(
            start,
            end,
            value,
            self.config.nms_threshold,
            plus_one=self.config.nms_plus_one,
            group=video * len(self.classes) + label,
        )
        return Detections(names, self.classes, video[keep], start[keep], end[keep], label[keep], value[keep])

    def _candidates(
        self, score: SnippetScores, on_cas: Grid | None, on_attention: Grid | None, bonus: float
    ) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Class, start, end (up-sampled positions) and score of a video's segments, before NMS."""
        c, share = self.config, self.config.attention_share
        classes = np.flatnonzero(score.video_scores > c.class_threshold)
        if not len(classes):
            classes = np.array([np.argmax(score.video_scores)])
        cas, attention = (self._upsampled(x) for x in (score.cas[:, classes].T, score.foreground))
        found = []
        if on_cas is not None:
            h = np.arange(*on_cas)
            runs = find_runs(cas, h, min_length=2)
            # the thresholded curve is 0 below its threshold, the other one is whole
            above = np.where(cas[:, None] >= h[:, None], cas[:, None], 0.0)
            values = (1 - share) * above + share * attention
            found.append((runs, outer_inner_contrast(values, runs, c.margin)))
        if on_attention is not None:
            h = np.arange(*on_attention)
            runs = find_runs(attention[None], h, min_length=2)
            k, n = len(classes), len(runs)
            runs = Runs(
                np.repeat(np.arange(k), n), *(np.tile(x, k) for x in (runs.threshold, runs.start, runs.end))
            )
            values = cas
            if share:
                above = np.where(attention >= h[:, None], attention, 0.0)
                values = (1 - share) * cas[:, None] + share * above
            contrast = outer_inner_contrast(values, runs, c.margin)
            found.append((runs, contrast + bonus * score.video_scores[classes][runs.curve]))
        label, start, end = (
            np.concatenate([getattr(runs, x) for runs, _ in found]) for x in ("curve", "start", "end")
        )
        return classes[label], start, end, np.concatenate([value for _, value in found])

    def _upsampled(self, curves: NDArray[np.float32]) -> FloatArray:
        c = self.config
        if c.extrapolate_tail:
            return upsample(curves, c.upsampling)
        held = upsample(np.concatenate([curves, curves[..., -1:]], axis=-1), c.upsampling)
        return held[..., : -c.upsampling]


def _axis(axis: TimeAxis, length: int, knots: FloatArray | None) -> TimeAxis:
    return axis.resampled(length) if knots is None else axis.warped(knots, length)
