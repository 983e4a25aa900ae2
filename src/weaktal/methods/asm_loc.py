"""ASM-Loc: action-aware segment modelling (He et al., CVPR 2022, arXiv:2203.15187).

A multiple-instance network with foreground and background attention (the base step) finds first segments.
Every refinement step then starts a fresh network that uses the segments of the step before three times: to
sample time more densely where short actions are, for attention within and between segments, and as
snippet-level labels whose weight the network's own uncertainty decides.

B videos, T sampled snippets, L snippets of a video, D features, K classes, N segments of a video.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from weaktal.features.sampling import Warp, at_most_rows, random_positions, sampled
from weaktal.localize.classes import likely_classes
from weaktal.localize.curves import Grid, find_runs, upsample
from weaktal.localize.run_proposals import nms_by_class, scored_runs
from weaktal.methods.label_prior import LabelWarmup, WarmupShare, warmup_loss
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData, snippet_scores
from weaktal.methods.published import class_names, load_published, published_weights, shape_of
from weaktal.nn.dropout import Dropout
from weaktal.nn.labels import among_known
from weaktal.nn.parallel import by_rows
from weaktal.nn.pooling import best_share_mean
from weaktal.nn.segment_attention import attention, segment_attention
from weaktal.nn.temporal_conv import Conv1d

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_COLUMNS = ("video", "start", "end", "label", "score")


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
    input_dropout: bool = Field(False, description="dropout also before the embedding and the heads")
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

    detect_step: int | None = Field(None, ge=0, description="step that gives the detections; None: the last")
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

    label_warmup: WarmupShare = 0.0

    # What the published code does and a clean implementation would not; the published value is the default.
    sample_last: bool = Field(False, description="random sampling may draw the last snippet of a long video")
    normalize_uncovered: bool = Field(True, description="batch statistics include uncovered snippets")
    warp_alignment: Literal["end", "middle"] = Field(
        "end", description="where in its stretch of time a snippet's feature is taken to be, when warping"
    )
    extrapolate_tail: bool = Field(True, description="up-sampled curves go on along their last slope")
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


# --- network -----------------------------------------------------------------------------------------------


class Outputs(NamedTuple):
    """What a network says; of K + 1 classes the last one is the background."""

    fg_cls: Tensor  # (B, K + 1), class probabilities of a video's foreground
    bg_cls: Tensor  # and of its background
    attention: Tensor  # (B, T, 2), probabilities of foreground and background
    cas: Tensor  # (B, T, K + 1), class probabilities of snippets
    fg_cas: Tensor  # with foreground attention
    bg_cas: Tensor  # with background attention
    uncertainty: Tensor | None  # (B, T, 1), log variance of the snippet labels; None in the base network


class Network(nn.Module):
    """Attention and classification of snippets, pooled to videos: the base network.

    One that `refines` the step before has attention within and between segments, and an uncertainty.
    """

    def __init__(self, config: ASMLocConfig, dim: int, classes: int, refines: bool) -> None:
        super().__init__()
        self.config, self.refines = config, refines
        drop = [Dropout(config.dropout)] if config.input_dropout else []
        self.feature_embedding = nn.Sequential(*drop, Conv1d(dim, dim, 3), nn.ReLU())
        self.att_branch = Conv1d(dim, 2, 1)
        self.snippet_cls = nn.Linear(dim, classes + 1)
        self.head_dropout = Dropout(config.dropout if config.input_dropout else 0.0)
        self.dropout = Dropout(config.dropout)
        if refines:
            self.MHSA_Intra = IntraSegmentAttention(dim, config)
            self.MHSA_Inter = InterSegmentAttention(dim, config)
            self.uncertainty_branch = Conv1d(dim, 1, 1, bias=False)
            nn.init.normal_(self.uncertainty_branch.weight, std=1e-4)

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
            boxes: (B, N, 2) first and last snippet of every segment; the base network looks at none. A box
                whose first snippet comes after its last covers nothing, and yet is a segment.
            count: (B,) how many of the boxes of a video are used.
        """
        c = self.config
        e, uncertainty = self.feature_embedding(x), None
        if self.refines:
            assert boxes is not None
            assert count is not None
            used = torch.arange(boxes.shape[1], device=x.device) < count[:, None]
            covers = coverage(boxes, used, x.shape[1])
            e = self.MHSA_Inter(self.MHSA_Intra(e, covers), covers, used)
            uncertainty = self.uncertainty_branch(self.head_dropout(e))
        attended = self.att_branch(self.head_dropout(e)).softmax(-1)
        whole = self.dropout(torch.ones_like(e[..., :1]))  # drops whole snippets
        logits = self.snippet_cls(self.dropout(e * whole))
        fg, bg = logits * attended[..., :1], logits * attended[..., 1:]
        return Outputs(
            best_share_mean(fg, c.topk_foreground, mask).softmax(-1),
            best_share_mean(bg, c.topk_background, mask).softmax(-1),
            attended,
            logits.softmax(-1),
            fg.softmax(-1),
            bg.softmax(-1),
            uncertainty,
        )


def coverage(boxes: Tensor, used: Tensor, length: int) -> Tensor:
    """(B, T, N) bool, true where a box (B, N, 2) that is `used` (B, N) covers one of `length` snippets."""
    t = torch.arange(length, device=boxes.device)[:, None]
    first, last = boxes[:, None].unbind(-1)
    return (t >= first) & (t <= last) & used[:, None]


class SegmentAttention(nn.Module):
    """What both attention blocks share; with the batch norm's scale at 0, a block starts as the identity."""

    def __init__(self, dim: int, config: ASMLocConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_query, self.conv_key, self.conv_value, self.conv_out = (
            Conv1d(dim, dim, 1) for _ in range(4)
        )
        self.bn = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.bn.weight)

    def added(self, e: Tensor, out: Tensor, covered: Tensor) -> Tensor:
        """The block's result: `e` and what its snippets receive, (B, T, D); `covered` (B, T) by segments."""
        if self.config.normalize_uncovered:
            return e + self.normalized(out.flatten(0, 1)).view_as(e)
        rows = self.normalized(out[covered]).to(e.dtype)
        return e + torch.zeros_like(e).masked_scatter(covered[..., None], rows)

    def normalized(self, rows: Tensor) -> Tensor:
        """Batch norm of (M, D); a batch of fewer than two rows has no statistics."""
        enough = len(rows) > 1 or not self.training
        out: Tensor = self.bn(rows) if enough else rows * self.bn.weight + self.bn.bias
        return out


class IntraSegmentAttention(SegmentAttention):
    """Snippets attend to those that share a segment with them; (B, T, D) to (B, T, D)."""

    def forward(self, e: Tensor, covers: Tensor) -> Tensor:
        projections = self.conv_query, self.conv_key, self.conv_value
        out = segment_attention(e, covers, self.config.heads, *projections)
        return self.added(e, self.conv_out(out), covers.any(-1))


class InterSegmentAttention(SegmentAttention):
    """The segments of a video attend to each other; snippets receive the mean of those that cover them."""

    def forward(self, e: Tensor, covers: Tensor, used: Tensor) -> Tensor:
        p = covers.to(e.dtype)
        segments = (p / p.sum(1, keepdim=True).clamp(min=1e-5)).mT @ e  # (B, N, D)
        q, k, v = self.conv_query(segments), self.conv_key(segments), self.conv_value(segments)
        # a slot without a segment sees all of them, so that its softmax is not empty; no snippet reads it
        out = attention(q, k, v, used[:, None, :] | ~used[:, :, None], self.config.heads)
        # the projection is linear, so it may come before the mean; of no segment it leaves its bias
        out = (p / p.sum(2, keepdim=True).clamp(min=1e-5)) @ self.conv_out(out)
        covered, bias = covers.any(-1), self.conv_out.bias
        assert bias is not None
        return self.added(e, torch.where(covered[..., None], out, bias), covered)


# --- losses ------------------------------------------------------------------------------------------------


def losses(
    out: Outputs, labels: Tensor, targets: Tensor, config: ASMLocConfig, known: Tensor | None = None
) -> dict[str, Tensor]:
    """All losses of a batch, scalars; "total" is their weighted sum.

    Multiple-instance losses are "foreground", "background" (towards the background class) and
    "background_action" (background must still carry the video's label, as context does). "instance", of
    refinement, is the cross entropy with labels of snippets, as far as the network is certain.

    Args:
        out: of the network.
        labels: (B, K) of videos; one without labels adds nothing to the losses that need them.
        targets: (B, T, K + 1) labels of snippets, whose rows sum to 1.
        config: of the method.
        known: (B, K) bool, see `Batch`.
    """
    label = F.pad(labels, (0, 1))
    label = label / label.sum(-1, keepdim=True).clamp(min=1)
    background = F.pad(torch.zeros_like(labels), (0, 1), value=1.0)
    parts = {
        "foreground": _cross_entropy(out.fg_cls, label, known).mean(),
        "background": _cross_entropy(out.bg_cls, background, known).mean(),
        "background_action": _cross_entropy(out.bg_cls, label, known).mean(),
    }
    if out.uncertainty is not None:
        u = out.uncertainty[..., 0]
        fit = torch.exp(-u) * _cross_entropy(out.cas, targets, None if known is None else known[:, None])
        parts["instance"] = fit.mean() + config.weight_uncertainty * u.mean()
    weights = {
        "foreground": config.weight_foreground,
        "background": config.weight_background,
        "background_action": config.weight_background_action,
    }
    total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
    return {"total": total, **parts}


def _cross_entropy(p: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
    return -(target * among_known(p.clamp(min=1e-7).log(), known)).sum(-1)


# --- between steps: what pseudo segments say about a video -------------------------------------------------


def _expanded(start: FloatArray, end: FloatArray, expansion: float) -> tuple[FloatArray, FloatArray]:
    middle, reach = (start + end) / 2, (expansion + 0.5) * (end - start)
    return middle - reach, middle + reach


def _rounded(
    start: FloatArray, end: FloatArray, scale: float | np.floating, length: int
) -> tuple[IntArray, IntArray]:
    """First and last of `length` rows, `scale` a second; the last one may come before the first."""
    first, last = np.maximum(np.rint(start * scale), 0), np.minimum(np.rint(end * scale), length - 1)
    return first.astype(np.int64), last.astype(np.int64)


def outermost(segments: Detections) -> IntArray:
    """Rows of the segments that lie in no other of their video, by (video, start).

    Of segments with one start, the one listed last is met first, and stays.
    """
    listed: dict[tuple[int, float, float], int] = {}
    for i, place in enumerate(zip(segments.video, segments.start, segments.end, strict=True)):
        listed.setdefault(place, i)
    kept, before = [], (-1, 0.0)
    for (video, _, end), i in sorted(listed.items(), key=lambda s: (*s[0][:2], -s[1])):
        if video != before[0] or end > before[1]:
            kept.append(i)
            before = video, end
    return np.array(kept, np.int64)


class Refinement:
    """What a step knows about V videos from the segments of the step before; the base step has none.

    Args:
        segments: pseudo segments of the V videos, grouped by video and class, by falling score.
        axes: of the V videos.
        labels: (V, K) video labels; segments of other classes are left out. None: all are used.
        config: of the method.

    Attributes:
        segments: those that are used.
        weights: (L,) sampling weights per video.
        warp: the sampling; None without it, or without any segment.
        rows: (V,) rows of the (warped) videos.
    """

    def __init__(
        self,
        segments: Detections,
        axes: Sequence[TimeAxis],
        labels: NDArray[Any] | None,
        config: ASMLocConfig,
    ) -> None:
        if labels is not None:
            segments = segments[np.asarray(labels)[segments.video, segments.label] > 0]
        self.config, self.segments, self._axes = config, segments, axes
        # as in the published code, time is seconds from the first snippet, with so many snippets a second
        self._length = np.array([a.length for a in axes], np.int64)
        self._offset: FloatArray = np.array([a.start for a in axes])
        # rounded, so that 25 / 16 comes out of a duration as it went in, to the last bit: segment ends often
        # lie halfway between snippets, and the last bit decides to which they are rounded
        self._rate: FloatArray = np.array([round(a.length / (a.end - a.start), 9) for a in axes])
        boxed, videos = outermost(segments), np.arange(1, len(axes))
        self._all = np.split(np.arange(len(segments)), np.searchsorted(segments.video, videos))
        self._boxed = np.split(boxed, np.searchsorted(segments.video[boxed], videos))
        self.weights = [self._sampling_weights(v) for v in range(len(axes))]
        warped = config.warp and len(segments) > 0
        self.warp = Warp(self.weights, at_end=config.warp_alignment == "end") if warped else None
        self.rows = self._length if self.warp is None else self.warp.rows
        self._start, self._end = (self._warped(x) for x in (segments.start, segments.end))

    def _sampling_weights(self, video: int) -> FloatArray:
        """How densely to sample each snippet: more where short segments are (dynamic segment sampling).

        Of every class the best segments take part, as many as there are cumulative scores within
        `config.score_share` of the largest one. Weights are 1 or more; every stretch above 1 sums to an
        integer.
        """
        c, length, own = self.config, self._length[video], self.segments[self._all[video]]
        bound, weights = c.density * (2 * c.expansion + 1), np.ones(length)
        start, end = (x - self._offset[video] for x in (own.start, own.end))
        first, last = _rounded(*_expanded(start, end, c.expansion), self._rate[video], length)
        for label in np.unique(own.label):
            best = np.flatnonzero(own.label == label)
            best = best[np.argsort(-own.score[best], kind="stable")]
            total = np.cumsum(own.score[best])
            for i in best[: np.count_nonzero(total <= c.score_share * total.max())]:
                n = last[i] - first[i] + 1
                if 1 < n <= bound:
                    here = slice(first[i], last[i] + 1)
                    weights[here] = np.maximum(weights[here], min(bound / n, bound))
        dense = find_runs(weights, [1.0], strict=True)
        for a, b in zip(dense.start, dense.end, strict=True):
            weights[a:b] *= np.rint(weights[a:b].sum()) / weights[a:b].sum()
        return weights

    def knots(self, video: int | np.integer) -> FloatArray | None:
        """Cumulative weights of a video, or None if it is not warped."""
        return None if self.warp is None else self.warp.knots[video]

    def axes(self, video: IntArray, length: IntArray) -> tuple[TimeAxis, ...]:
        """The time axes of videos (B,) that are sampled to `length` (B,) rows."""
        each = [(self._axes[v], self.knots(v), int(t)) for v, t in zip(video, length, strict=True)]
        return tuple(a.resampled(t) if knots is None else a.warped(knots, t) for a, knots, t in each)

    def seconds(self, video: int, positions: FloatArray, length: int) -> FloatArray:
        """Seconds of up-sampled positions in a video that was sampled to `length` rows.

        To rounding those of its time axis; in the published order of operations.
        """
        n, rate, knots = self._length[video], self._rate[video], self.knots(video)
        t, duration = positions * (n / (rate * self.config.upsampling * length)), n / rate
        if knots is not None:
            share = piecewise_linear(t / duration, knots / knots[-1], np.arange(n + 1) / n, side="left")
            t = duration * share
        return np.asarray(t + self._offset[video])

    def _warped(self, seconds: FloatArray) -> FloatArray:
        """Seconds of the segments on the warped time line, from the first snippet."""
        out = seconds - self._offset[self.segments.video]
        for v, (own, rate) in enumerate(zip(self._all, self._rate, strict=True)):
            if self.warp is not None and self.warp.knots[v] is not None:
                out[own] = self.warp.warped(v, out[own] * rate) / rate
        return out

    def boxes(self, video: IntArray, length: IntArray) -> tuple[Tensor, Tensor]:
        """Boxes of videos that are sampled to `length` (B,) rows, by falling first row.

        Returns:
            (B, N, 2) first and last row, with N that of the batch and at least 1; and (B,) how many are used.
        """
        found = []
        for v, t in zip(video, length, strict=True):
            of_video = self._boxed[v]
            times = _expanded(self._start[of_video], self._end[of_video], self.config.expansion)
            box = np.stack(_rounded(*times, self._scale(v, t), t), 1)
            found.append(torch.from_numpy(box[np.argsort(-box[:, 0], kind="stable")]))
        boxes = nn.utils.rnn.pad_sequence([*found, torch.zeros(1, 2, dtype=torch.int64)], batch_first=True)
        return boxes[:-1], torch.tensor([len(b) for b in found])

    def targets(self, video: IntArray, length: IntArray, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Snippet labels of videos that are sampled to `length` (B,) rows: (B, T, K + 1), rows sum to 1.

        A snippet has the classes of the segments that it lies in, as far as they are in `labels` (B, K), or
        else the background.
        """
        out = np.zeros((len(video), length.max(), labels.shape[1] + 1), np.float32)
        for row, v, t, wanted in zip(out, video, length, labels, strict=True):
            of_video = self._all[v]
            spans = _rounded(self._start[of_video], self._end[of_video], self._scale(v, t), t)
            for first, last, label in zip(*spans, self.segments.label[of_video], strict=True):
                if wanted[label]:
                    row[first : max(last + 1, 0), label] = 1
        out[..., -1] = ~out.any(-1)
        return np.asarray(out / out.sum(-1, keepdims=True))

    def _scale(self, video: int, length: int) -> np.floating:
        """Rows per second of the warped time line."""
        return np.float64(self._rate[video] * length / self.rows[video])


@dataclass(frozen=True)
class SegmentBatch(Batch):
    """A batch with segments; of the base step, with none."""

    boxes: Tensor  # (B, N, 2) int64, first and last row of the segments
    count: Tensor  # (B,) int64, how many boxes of a video are used
    targets: Tensor  # (B, T, K + 1) float, labels of snippets
    prior: Tensor | None = None  # (B, T), in the warm-up, see `LabelWarmup.prior`


# --- method ------------------------------------------------------------------------------------------------


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
        if config.num_steps and dim % config.heads:
            raise InputError(
                "the attention heads must divide the feature dimension",
                field="heads",
                found=f"{config.heads} heads, {dim} features",
                hint="set heads to a divisor, or num_steps=0 for the base network only",
            )
        self.networks = nn.ModuleList(
            Network(config, dim, len(self.classes), refines=step > 0) for step in range(config.num_steps + 1)
        )
        self.warmup = LabelWarmup(config.label_warmup)
        self.stage = config.num_steps  # the step in training, or the last one with trained weights
        self.missing: tuple[int, ...] = ()  # steps without weights, after `from_published` of a single one
        self.pseudo: list[Detections] = []  # segments of the training videos, by the step that found them
        self._refinement: Refinement | None = None  # of the current stage, made when it is needed

    # training

    @property
    def steps(self) -> list[str]:
        """Their names."""
        return ["base"] + [f"refine{s}" for s in range(1, len(self.networks))]

    def stages(self, data: TrainingData) -> list[Stage]:
        c, epoch = self.config, data.steps_per_epoch(self.config.batch_size)
        epochs = [c.epochs_per_step] * c.num_steps + [c.epochs - c.num_steps * c.epochs_per_step]
        return [Stage(name, n * epoch, epoch) for name, n in zip(self.steps, epochs, strict=True)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        """Predict the segments that a refinement stage starts from."""
        if stage > 0:
            before = self._plan(stage - 1, data)
            self.pseudo[stage - 1 :] = [self.pseudo_segments(stage - 1, data.bank, before)]
        self.stage, self._refinement = stage, None

    def _plan(self, stage: int, data: TrainingData) -> Refinement:
        found = self.pseudo[stage - 1] if stage else Detections.empty(data.bank.names, self.classes)
        return Refinement(found, data.bank.axes, data.weak.multi_hot(), self.config)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        c, parameters = self.config, self.networks[stage].parameters()
        return torch.optim.Adam(parameters, lr=c.learning_rate, weight_decay=c.weight_decay)

    def draw(self, stage: int, step: int, data: TrainingData) -> SegmentBatch:
        c, self.stage = self.config, stage
        if self._refinement is None:
            self._refinement = self._plan(stage, data)
        plan, video = self._refinement, data.shuffled(step, c.batch_size, stage)
        at = random_positions(plan.rows[video], c.snippets, data.rng(stage, step), sample_last=c.sample_last)
        length = np.full(len(video), c.snippets, np.int64)
        batch = data.batch(video, sampled(data.bank, video, at, length, plan.warp))
        batch = replace(batch, axes=plan.axes(video, length))
        prior = None
        if stage == 0:  # later steps begin with the segments of the step before
            row = np.clip(np.rint(at), 0, data.bank.lengths[video][:, None] - 1).astype(np.int64)
            prior = self.warmup.prior(data, step / self.stages(data)[stage].steps, video, row)
        boxes, count = plan.boxes(video, length)
        targets = torch.from_numpy(plan.targets(video, length, data.weak.multi_hot()[video]))
        return SegmentBatch(**vars(batch), boxes=boxes, count=count, targets=targets, prior=prior)

    def training_step(self, batch: SegmentBatch) -> dict[str, Tensor]:
        """Losses "total", "foreground", "background", "background_action", and "instance" in refinement."""
        out = by_rows(self.networks[self.stage], batch.features, None, batch.boxes, batch.count)
        found = losses(out, batch.labels, batch.targets, self.config, batch.known)
        if batch.prior is not None:
            found["warmup"] = warmup_loss(out.attention[..., 0], batch.prior).mean()
            found["total"] = found["total"] + found["warmup"]
        return found

    def training_state(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "missing": list(self.missing),
            "pseudo": [
                {"names": list(p.names), **{c: torch.from_numpy(getattr(p, c)) for c in _COLUMNS}}
                for p in self.pseudo
            ],
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.stage, self.missing, self._refinement = state["stage"], tuple(state["missing"]), None
        self.pseudo = [
            Detections(tuple(p["names"]), self.classes, *(p[c].numpy() for c in _COLUMNS))
            for p in state["pseudo"]
        ]

    def artifacts(self) -> dict[str, Detections]:
        """Pseudo segments of the training videos, by the step that found them."""
        return {f"pseudo_{name}": p for name, p in zip(self.steps, self.pseudo, strict=False)}

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
        offsets = np.cumsum([0, *batch.sizes])
        bank = FeatureBank(batch.names, batch.features[batch.mask], offsets, batch.axes)
        segments = Detections.empty(bank.names, self.classes)
        for step in range(len(self.networks)):
            plan = Refinement(segments, bank.axes, None, self.config)
            scores = self._scores(step, bank, np.arange(len(bank)), plan)
            yield scores
            segments = self._pseudo_segments(scores, plan)

    @torch.no_grad()
    def pseudo_segments(self, step: int, bank: FeatureBank, plan: Refinement) -> Detections:
        """The segments that a step finds in all videos of a bank, for the next step."""
        training = self.training
        self.eval()
        parts = np.array_split(np.arange(len(bank)), -(-len(bank) // 16))
        scores = [s for video in parts for s in self._scores(step, bank, video, plan)]
        self.train(training)
        return self._pseudo_segments(scores, plan)

    def _pseudo_segments(self, scores: Sequence[SnippetScores], plan: Refinement) -> Detections:
        return self._segments(scores, self.config.pseudo_on_cas, self.config.pseudo_on_attention, plan=plan)

    def _scores(self, step: int, bank: FeatureBank, video: IntArray, plan: Refinement) -> list[SnippetScores]:
        device = next(self.parameters()).device
        rows, length = at_most_rows(plan.rows[video], self.config.snippets)
        features = sampled(bank, video, rows.astype(float), length, plan.warp).to(device)
        mask = torch.from_numpy(np.arange(rows.shape[1]) < length[:, None]).to(device)
        segments = (x.to(device) for x in plan.boxes(video, length))
        out: Outputs = self.networks[step](features, mask, *segments)
        return snippet_scores(
            [bank.names[v] for v in video],
            plan.axes(video, length),
            length.tolist(),
            out.fg_cas[..., :-1],
            out.attention[..., 0],
            out.fg_cls[:, :-1],
        )

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
        bonus: float = 0.0,
        plan: Refinement | None = None,
    ) -> Detections:
        """Segments of videos, grouped by video and class, by falling score.

        Their seconds come from the `plan` by which all videos were sampled, or else from the time axes.
        """
        c, found = self.config, []
        heights = [np.empty(0) if grid is None else np.arange(*grid) for grid in (on_cas, on_attention)]
        for v, s in enumerate(scores):
            classes = likely_classes(s.video_scores, c.class_threshold, strict=True)
            curves, foreground = (
                upsample(x, c.upsampling, extrapolate=c.extrapolate_tail)
                for x in (s.cas[:, classes].T, s.foreground)
            )
            runs, contrast = scored_runs(
                curves,
                foreground,
                on_curves=heights[0],
                on_foreground=heights[1],
                margin=c.margin,
                foreground_share=c.attention_share,
                min_length=2,
            )
            label, positions = classes[runs.curve], np.stack([runs.start, runs.end]).astype(np.float64)
            score = contrast + bonus * s.video_scores[label] * (runs.threshold >= len(heights[0]))
            if plan is None:
                start, end = s.axis.seconds_at(positions / c.upsampling)
            else:
                start, end = plan.seconds(v, positions, s.axis.length)
            found.append(Detections.in_video(s.video, self.classes, start, end, label, score))
        every = Detections.concatenate(found, self.classes)
        return nms_by_class(every, c.nms_threshold, plus_one=c.nms_plus_one)

    # official weights

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """The method around one network; see `Method.from_published`.

        A base network gives a method with ``num_steps=0``. A refinement network gives one with
        ``num_steps=1`` whose base network is missing: its network is ``networks[1]``, and `score` refuses to
        work; give all steps to `from_published_folder` for detections. A checkpoint that holds the weights
        as "model_state_dict" will do.
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
            classes, config: as for `from_published`; `num_steps` if not all steps are wanted.

        Raises:
            InputError: the checkpoint of a step is missing, or does not fit.
        """
        given = {PurePath(name).stem: state for name, state in states.items()}
        numbers = [re.fullmatch(r"model_step(\d+)_(?:last|best)_epoch", name) for name in given]
        steps = config.pop("num_steps", max((int(match[1]) for match in numbers if match), default=0))
        names = [f"model_step{step}_last_epoch" for step in range(steps + 1)]
        if (best := f"model_step{steps}_best_epoch") in given:
            names[-1] = best
        if missing := [name for name in names if name not in given]:
            raise InputError(
                "the checkpoint of a step is missing",
                expected=f"{missing[0]}.pth",
                found=", ".join(sorted(states)) or "no files",
                hint="new videos go through the networks of all steps",
            )
        return cls._from_states([given[name] for name in names], classes, config)

    @classmethod
    def _from_states(
        cls, states: Sequence[Mapping[str, Any]], classes: Sequence[str] | None, config: dict[str, Any]
    ) -> Self:
        plain = [published_weights(s.get("model_state_dict", s)) for s in states]
        outputs, dim = shape_of(plain[0], "snippet_cls.weight", 2)
        lone = len(plain) == 1 and any(k.startswith("MHSA_") for k in plain[0])
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
        config.setdefault("input_dropout", "feature_embedding.1.weight" in plain[0])
        if steps:
            config.setdefault("epochs", max(800, 1 + steps * config.get("epochs_per_step", 100)))
        method = cls(ASMLocConfig(**config), dim=dim, classes=class_names(classes, outputs - 1))
        for step, state in enumerate(plain, start=int(lone)):
            load_published(method.networks[step], state)
        method.missing = (0,) if lone else ()
        return method
