"""HR-Pro: Hierarchical Reliability Propagation for point supervision, Zhang et al., AAAI 2024.

Two methods, one after the other. `HRProSnippets`: one prototype per class, from the clicked snippets, joins
the snippets of a video in two attention blocks; focal losses on clicks and confident background, and a
contrast of action regions with their prototype, train a snippet classifier. `HRPro`: its proposals that fit
the clicks best are reliable; a second network learns from them how complete a proposal is and where its
borders belong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.localize.curves import Grid
from weaktal.localize.nms import soft_nms
from weaktal.localize.run_proposals import class_groups, run_proposals
from weaktal.methods.proposals import (
    Proposals,
    SegmentFeatures,
    batch_proposals,
    head,
    packed_features,
    per_row,
    rows_of,
    training_proposals,
)
from weaktal.methods.protocol import (
    Batch,
    Method,
    MethodConfig,
    SnippetMethod,
    Stage,
    TrainingData,
    snippet_scores,
)
from weaktal.methods.published import class_names, load_published, published_weights, shape_of
from weaktal.nn.clicks import frame_losses, seeds
from weaktal.nn.dropout import Dropout
from weaktal.nn.parallel import by_rows
from weaktal.nn.pooling import (
    mean_of_chosen,
    mean_per_video,
    packed_topk_mean,
    row_table,
    video_of_rows,
)
from weaktal.nn.roi_align import contrast
from weaktal.nn.temporal_conv import Conv1d

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_AT_ONCE = 1024  # segments that go through the network together where no gradient is wanted


class HRProSnippetsConfig(MethodConfig):
    """Published values as defaults (THUMOS14).

    Attributes:
        heads, layers, feedforward: of the attention blocks; `heads` divides the width of the features.
        dropout, attention_dropout: in these blocks, and on their attention weights.
        head_dropout: before the classifier.
        topk: the video score is the mean of the length / `topk` largest scores.
        steps, batch_size, lr, weight_decay: Adam with L2 weight decay.
        momentum: how fast prototypes follow.
        temperature: of the contrast.
        action_seed: snippets around a click whose background score is at most this are action.
        background_seed: snippets with at least this background score are background.
        video_weight, frame_weight, background_weight, contrast_weight: of the losses. Published: no video
            loss, so that nothing pushes the scores of absent classes down where the background score is
            high, and many classes pass `class_threshold`.
        class_threshold: classes with a lower video score are not localized (the best one always is).
        action_thresholds: on class scores; lowest, highest (exclusive), step.
        foreground_thresholds: on one minus the background score; lowest, highest (exclusive), step.
        upsampling: values per snippet in localization.
        margin: outside of a run on each side, as a share of its length.
        video_score_weight: share of the video score in a proposal's score.
        sigma: width of the soft suppression.
        mixed_tokens: quirk: the prototype tokens are the numbers of all prototypes read column by column, so
            that each mixes all classes; false: the prototypes.
        sequential_prototypes: quirk: prototypes follow after each video of a step, and the next video sees
            it, so that videos go through the network one by one; false: after the step, all at once.
        drop_last_snippet: quirk: a region that reaches the end loses its last snippet in the contrast, and
            one that covers the whole video takes no part in it.
        drop_lone_first: quirk: where only the first up-sampled position passes a threshold, it is ignored.
        clamp_scores: keep up-sampled scores in [0, 1]; the published extrapolation may leave it.
        nms_plus_one: quirk: the overlap in the suppression counts one second more.
    """

    heads: int = Field(8, ge=1)
    layers: int = Field(2, ge=1)
    feedforward: int = Field(128, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    head_dropout: float = Field(0.7, ge=0, lt=1)
    topk: int = Field(8, ge=1)
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    momentum: float = Field(0.001, ge=0, le=1)
    temperature: float = Field(0.1, gt=0)
    action_seed: float = 0.1
    background_seed: float = 0.95
    video_weight: float = 0.0
    frame_weight: float = 0.5
    background_weight: float = 1.0
    contrast_weight: float = 1.0
    class_threshold: float = 0.5
    action_thresholds: Grid = (0.0, 0.25, 0.025)
    foreground_thresholds: Grid = (0.5, 0.725, 0.025)
    upsampling: int = Field(2, ge=1)
    margin: float = Field(0.25, ge=0)
    video_score_weight: float = 0.0
    sigma: float = Field(0.3, gt=0)
    mixed_tokens: bool = True
    sequential_prototypes: bool = True
    drop_last_snippet: bool = True
    drop_lone_first: bool = True
    clamp_scores: bool = False
    nms_plus_one: bool = True


class HRProConfig(MethodConfig):
    """Published values as defaults (THUMOS14).

    Attributes:
        roi_size: bins per segment; a sixth on each side is context. At least 6.
        dropout: after the fusion of a segment's features.
        positive_iou: segments that overlap a reliable one by at least this much learn to regress.
        max_proposals: segments of a video that a training step uses, drawn anew each time.
        negative_share: pieces of background for each proposal of a video.
        action_seed, background_seed: see `HRProSnippetsConfig`; they say what background is.
        regression_weight, score_weight: of the losses.
        epochs, batch_size, lr, weight_decay: Adam with L2 weight decay.
        cache_gib: see `SegmentFeatures`.
        sigma: width of the soft suppression.
        class_aware: completeness is learnt for each class, from the reliable segments of that class, and a
            proposal gets that of its own class. Published: one completeness whatever the class, which lifts
            proposals of wrong classes like the right ones.
        labelled_only: of a training video, only proposals of its own classes are used. Published: all.
        clip_refined: moved proposals are cut at the ends of the video and dropped if nothing is left.
            Published: they may leave the video, and end before they start.
        nms_plus_one: quirk: the overlap in the suppression counts one second more.
    """

    roi_size: int = Field(12, ge=6)
    dropout: float = Field(0.7, ge=0, lt=1)
    positive_iou: float = Field(0.3, gt=0, le=1)
    max_proposals: int = Field(1000, ge=1)
    negative_share: float = Field(0.5, ge=0)
    action_seed: float = 0.1
    background_seed: float = 0.95
    regression_weight: float = 1.0
    score_weight: float = 1.0
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(10, ge=1)
    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    cache_gib: float = Field(4.0, ge=0)
    sigma: float = Field(0.3, gt=0)
    class_aware: bool = False
    labelled_only: bool = False
    clip_refined: bool = False
    nms_plus_one: bool = True


# --------------------------------------------------------------------------- the first method: the network


class AttentionBlock(nn.Module):
    """Attention of all tokens to all, whose values are the tokens themselves, then two linear maps."""

    def __init__(self, dim: int, config: HRProSnippetsConfig) -> None:
        super().__init__()
        self.conv_query, self.conv_key = Conv1d(dim, dim, 1), Conv1d(dim, dim, 1)
        self.conv_value = Conv1d(dim, dim, 1)  # of the official weights; never called
        self.self_atten = nn.MultiheadAttention(
            dim, config.heads, dropout=config.attention_dropout, batch_first=True
        )
        self.linear1, self.linear2 = nn.Linear(dim, config.feedforward), nn.Linear(config.feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, empty: Tensor | None) -> Tensor:
        """`tokens` (B, N, D); `empty` (B, N) bool, true at padding."""
        attended, _ = self.self_atten(
            self.conv_query(tokens), self.conv_key(tokens), tokens, key_padding_mask=empty, need_weights=False
        )
        tokens = self.norm1(tokens + self.dropout(attended))
        moved = self.linear2(self.dropout(self.linear1(tokens).relu()))
        out: Tensor = self.norm2(tokens + self.dropout(moved))
        return out


class Encoder(nn.Module):
    """Reliability-aware attention blocks over snippets and prototypes, then a convolution of the snippets."""

    def __init__(self, dim: int, config: HRProSnippetsConfig) -> None:
        super().__init__()
        self.RAB = nn.ModuleList(AttentionBlock(dim, config) for _ in range(config.layers))
        self.feature_embedding = nn.Sequential(Conv1d(dim, dim, 3), nn.ReLU())

    def forward(self, x: Tensor, prototypes: Tensor, mask: Tensor) -> Tensor:
        """Snippets (B, T, D) and prototype tokens (C, D), `mask` (B, T) true at snippets: (B, T, D)."""
        b, t, _ = x.shape
        tokens = torch.cat([x, prototypes.expand(b, -1, -1)], dim=1)
        empty = F.pad(~mask, (0, len(prototypes)))
        for block in self.RAB:
            tokens = block(tokens, empty)
        out: Tensor = self.feature_embedding(tokens[:, :t] * mask[..., None])
        return out


class Memory(nn.Module):
    """One prototype per class."""

    proto_vectors: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("proto_vectors", torch.zeros(classes, 1, dim))


class Output(NamedTuple):
    """What the network says about a padded batch; background is the last column.

    Attributes:
        scores: (B, T, C + 1) sigmoid scores.
        features: (B, T, D) embedding.
    """

    scores: Tensor
    features: Tensor

    @property
    def fused(self) -> Tensor:
        """(B, T, C + 1): action scores times (1 - background); the background stays."""
        background = self.scores[..., -1:]
        return torch.cat([self.scores[..., :-1] * (1 - background), background], dim=-1)


# ------------------------------------------------------------------------------- the first method: losses


@dataclass(frozen=True)
class SnippetBatch(Batch):
    """Whole videos with clicks, of N snippets in all.

    Attributes:
        points: (B, T, C) 0 or 1.
        rows: (N,) where the snippets stand among the B * T places.
        video: (N,) place in the batch.
        table: (B, T) the inverse: which of the snippets a place holds, N behind a video's end.
    """

    points: Tensor
    rows: Tensor
    video: Tensor
    table: Tensor

    @classmethod
    def of(cls, batch: Batch, points: Tensor) -> SnippetBatch:
        """A batch with clicks."""
        mask = batch.mask
        return cls(
            batch.features,
            batch.lengths,
            batch.labels,
            batch.names,
            batch.axes,
            points=points,
            rows=mask.flatten().nonzero()[:, 0],
            video=mask.nonzero()[:, 0],
            table=row_table(batch.lengths),
        )

    def packed(self, x: Tensor) -> Tensor:
        """(B, T, ...) to (N, ...)."""
        return x.flatten(0, 1)[self.rows]

    def padded(self, x: Tensor) -> Tensor:
        """(N, ...) to (B, T, ...), zeros behind a video's end."""
        return torch.cat([x, x.new_zeros(1, *x.shape[1:])])[self.table]

    def alone(self, b: int) -> SnippetBatch:
        """One of the videos, without padding."""
        n, one = self.axes[b].length, slice(b, b + 1)
        place = torch.arange(n, device=self.features.device)
        return SnippetBatch(
            self.features[one, :n],
            self.lengths[one],
            self.labels[one],
            self.names[one],
            self.axes[one],
            points=self.points[one, :n],
            rows=place,
            video=torch.zeros_like(place),
            table=place[None],
        )


def regions(chosen: Tensor, lengths: Tensor, drop_last: bool) -> Tensor:
    """The snippets (B, T, C) 0 or 1 of the regions of a sequence.

    With `drop_last` those that the published code finds: the last snippet of a video is in no region, and a
    sequence of ones alone has none.
    """
    if not drop_last:
        return chosen
    last = torch.arange(chosen.shape[1], device=lengths.device) == lengths[:, None] - 1
    whole = chosen.sum(1, keepdim=True) == lengths[:, None, None]
    return chosen * ~(last[..., None] | whole)


def prototype_contrast(
    features: Tensor,
    prototypes: Tensor,
    action: Tensor,
    background: Tensor,
    labels: Tensor,
    temperature: float,
) -> Tensor:
    """Action regions shall be near their class' prototype, not near others, and nearer than background, (B,).

    Args:
        features: (B, T, D).
        prototypes: (C, D), without gradient; those of classes that nobody clicked are zero and take no part.
        action: (B, T, C) 0 or 1, the regions of each class.
        background: (B, T) 0 or 1; a video without any has no loss.
        labels: (B, C) 0 or 1.
        temperature: of the similarities.
    """
    known = prototypes.abs().sum(1) > 0
    near = F.normalize(features, dim=-1) @ F.normalize(prototypes, dim=-1).T / temperature
    near = near.exp() * known
    size = action.sum(1)
    of_region = (action.mT @ near) / size[..., None].clamp(min=1)  # (B, C regions, C prototypes)
    of_background = (background[..., None] * near).sum(1) / background.sum(1).clamp(min=1)[:, None]
    used = (labels > 0) & (size > 0) & known & (background.sum(1) > 0)[:, None]
    own = torch.where(used, of_region.diagonal(dim1=1, dim2=2), 1)
    every = torch.where(used, of_region.sum(2), 1)
    loss = 0.5 * (every.log() + (own + of_background).log()) - own.log()
    return torch.where(used, loss, 0).sum(1) / labels.sum(1).clamp(min=1)


# --------------------------------------------------------------------------------------- the first method


class HRProSnippets(SnippetMethod):
    """The first stage of HR-Pro; see the module's docstring."""

    name: ClassVar[str] = "hr_pro_snippets"
    supervision: ClassVar[Literal["video", "point"]] = "point"
    Config: ClassVar[type[MethodConfig]] = HRProSnippetsConfig
    config: HRProSnippetsConfig

    def __init__(self, config: HRProSnippetsConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        if dim % config.heads:
            raise InputError(
                "the width of the features is no multiple of the heads",
                field="heads",
                found=f"{config.heads} heads, {dim} values",
            )
        self.memory = Memory(len(self.classes), dim)
        self.encoder = Encoder(dim, config)
        self.classifier = nn.Sequential(
            Dropout(config.head_dropout), Conv1d(dim, len(self.classes) + 1, 1, bias=False)
        )

    @property
    def prototypes(self) -> Tensor:
        """(C, D)."""
        return self.memory.proto_vectors[:, 0]

    def network(self, x: Tensor, mask: Tensor) -> Output:
        """Padded videos (B, T, D), `mask` (B, T) true at snippets."""
        tokens = self.prototypes
        if self.config.mixed_tokens:
            tokens = tokens.reshape(self.dim, len(self.classes)).T
        features = self.encoder(x, tokens, mask)
        return Output(self.classifier(features).sigmoid(), features)

    def forward(self, batch: Batch) -> Output:
        out: Output = by_rows(self.network, batch.features, batch.mask)
        return out

    def training_step(self, batch: SnippetBatch) -> dict[str, Tensor]:
        config = self.config
        parts = [batch.alone(b) for b in range(len(batch))] if config.sequential_prototypes else [batch]
        found = []
        for part in parts:
            output = self.forward(part)
            found.append(self.losses(output, part))
            self.follow(output.features, self.seeds(output, part)[0], part.labels)
        losses = {name: torch.cat([x[name] for x in found]).mean() for name in found[0]}
        losses["total"] = (
            config.video_weight * losses["video"]
            + config.frame_weight * losses["frame"]
            + config.background_weight * losses["background"]
            + config.contrast_weight * losses["contrast"]
        )
        return losses

    def video_scores(self, output: Output, batch: SnippetBatch, labels: Tensor) -> Tensor:
        """Video scores (B, C) from un-fused ones: of classes in `labels` the largest, of others the mean."""
        scores = batch.packed(output.scores)[:, :-1]
        top = packed_topk_mean(scores, batch.lengths, batch.table, self.config.topk)
        return torch.where(labels > 0, top, mean_per_video(scores, batch.video, len(batch)))

    def seeds(self, output: Output, batch: SnippetBatch) -> tuple[Tensor, Tensor]:
        """Snippets that are surely action (B, T, C) or background (B, T), 0 or 1."""
        config, background = self.config, batch.packed(output.scores.detach())[:, -1]
        points, lengths = batch.packed(batch.points), batch.lengths
        action, is_background = seeds(
            background, points, batch.video, lengths, config.action_seed, config.background_seed
        )
        return batch.padded(action), batch.padded(is_background.to(action.dtype))

    def losses(self, output: Output, batch: SnippetBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,) each."""
        scores = self.video_scores(output, batch, batch.labels)
        return self.losses_of(scores, output, output.fused, batch)

    def losses_of(
        self, scores: Tensor, output: Output, fused: Tensor, batch: SnippetBatch
    ) -> dict[str, Tensor]:
        """`losses` from video scores (B, C) and fused scores (B, T, C + 1)."""
        config = self.config
        action, background = self.seeds(output, batch)
        chosen = batch.packed(background) > 0
        frame, on_background = frame_losses(
            batch.packed(fused), batch.packed(batch.points), chosen, batch.video, len(batch)
        )
        drop = config.drop_last_snippet
        return {
            "video": F.binary_cross_entropy(scores, batch.labels, reduction="none").mean(1),
            "frame": frame,
            "background": on_background,
            "contrast": prototype_contrast(
                output.features,
                self.prototypes.clone(),  # they follow before the step's backward pass
                regions(action, batch.lengths, drop),
                regions(background[..., None], batch.lengths, drop)[..., 0],
                batch.labels,
                config.temperature,
            ),
        }

    # between steps: prototypes

    @torch.no_grad()
    def follow(self, features: Tensor, action: Tensor, labels: Tensor) -> None:
        """Let the prototypes of each video's classes follow its action seeds, video after video.

        Args:
            features: (B, T, D).
            action: (B, T, C) action seeds.
            labels: (B, C).
        """
        count = action.sum(1) * labels
        mean = (action.mT @ features.to(action.dtype)) / count[..., None].clamp(min=1)
        share = self.config.momentum * (count > 0)[..., None]
        for b in range(len(features)):
            self.prototypes.add_(share[b] * (mean[b] - self.prototypes))

    @torch.no_grad()
    def make_prototypes(self, data: TrainingData) -> None:
        """Prototypes of the present network: the mean over all clicked snippets of a class.

        While they are made they are zero, and take part as such.
        """
        self.eval()
        self.prototypes.zero_()
        total, count = torch.zeros_like(self.prototypes), self.prototypes.new_zeros(len(self.classes), 1)
        for video in np.array_split(np.arange(len(data)), -(-len(data) // self.config.batch_size)):
            batch = self.batch_of(data, video)
            features = batch.packed(self.network(batch.features, batch.mask).features)
            clicks = batch.packed(batch.points)
            total += clicks.T @ features
            count += clicks.sum(0)[:, None]
        self.prototypes.copy_(total / count.clamp(min=1))
        self.train()

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        batch = self.config.batch_size
        return [Stage("train", self.config.steps, data.steps_per_epoch(batch, drop_last=True))]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        self.make_prototypes(data)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def draw(self, stage: int, step: int, data: TrainingData) -> SnippetBatch:
        return self.batch_of(data, data.shuffled(step, self.config.batch_size, stage, drop_last=True))

    def batch_of(self, data: TrainingData, video: IntArray) -> SnippetBatch:
        """Whole videos with their clicks."""
        batch, clicks = data.whole(video), data.clicks(video)
        points = torch.nn.utils.rnn.pad_sequence(
            list(torch.split(clicks, batch.lengths.tolist())), batch_first=True
        )
        return SnippetBatch.of(batch, points)

    # inference

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        output, every = self.forward(batch), torch.ones_like(batch.labels)
        points = batch.features.new_zeros(*batch.features.shape[:2], len(self.classes))
        video, fused = self.video_scores(output, SnippetBatch.of(batch, points), every), output.fused
        return snippet_scores(
            batch.names, batch.axes, batch.lengths.tolist(), fused[..., :-1], 1 - fused[..., -1], video
        )

    def candidates(self, scores: Sequence[SnippetScores]) -> Detections:
        """Scored runs of all thresholds, nothing suppressed: what the second stage learns from."""
        parts = [run_proposals(s, self.classes, self.config) for s in scores]
        return Detections.concatenate(parts or [Detections.empty([], self.classes)], self.classes)

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        return suppressed(self.candidates(scores), self.config.sigma, self.config.nms_plus_one)

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """From the official checkpoint of stage 1; sizes are read from the shapes, but not the heads.

        Raises:
            InputError: weights are missing, unexpected or of the wrong shape.
        """
        weights = published_weights(state_dict)
        count, dim, _ = shape_of(weights, "classifier.1.weight", 3)
        feedforward, _ = shape_of(weights, "encoder.RAB.0.linear1.weight", 2)
        layers = sum(name.endswith("linear1.weight") for name in weights)
        sizes = {"feedforward": feedforward, "layers": layers, **config}
        method = cls(HRProSnippetsConfig(**sizes), dim=dim, classes=class_names(classes, count - 1))
        load_published(method, weights)
        return method


def suppressed(found: Detections, sigma: float, plus_one: bool) -> Detections:
    """Gaussian soft suppression within each video and class, in seconds."""
    rows, score = soft_nms(
        found.start, found.end, found.score, sigma=sigma, plus_one=plus_one, group=class_groups(found)
    )
    kept = found[rows]
    return Detections(kept.names, kept.classes, kept.video, kept.start, kept.end, kept.label, score)


# -------------------------------------------------------------------- between the methods: what is reliable


def reliable_rows(found: Detections, time: FloatArray, label: IntArray) -> IntArray:
    """For every click of one video, in order of time, the best proposal that fits it; -1 where none does.

    It is of the click's class, holds the click, and has a positive score; of these, those between the
    neighbouring clicks of any class are preferred.

    Args:
        found: proposals of one video.
        time, label: (P,) clicks, in order of time.
    """
    start, end, score = found.start, found.end, found.score
    before, after = np.append(-1.0, time[:-1]), np.append(time[1:], 1e5)
    holds = (start <= time[:, None]) & (time[:, None] <= end) & (found.label == label[:, None]) & (score > 0)
    between = holds & (start > before[:, None]) & (end < after[:, None])
    fits = np.where(between.any(1, keepdims=True), between, holds)
    best = np.where(fits, score, -np.inf).argmax(1) if len(found) else np.zeros(len(time), np.int64)
    return np.where(fits.any(1), best, -1)


def background_pieces(runs: IntArray, count: int, rng: np.random.Generator, tries: int = 1000) -> FloatArray:
    """Random pieces of background runs, (`count`, 2) starts and ends in snippets; none without runs.

    Args:
        runs: (R, 2) first and last snippet.
        count: how many.
        rng: ``integers(low, high)`` and ``uniform(low, high)``.
        tries: draws without a piece, as runs of two snippets give, before a whole run is taken.
    """
    out: list[tuple[int, int]] = []
    failed = 0
    while len(out) < count and len(runs):
        first, last = runs[int(rng.integers(0, len(runs)))].tolist()
        if first == last:
            out.append((first, first + 1))
            continue
        start = int(rng.uniform(first, last))
        end = int(rng.uniform(start, last))
        failed += start >= end
        if failed > tries:
            start, end, failed = first, last, 0
        if start < end:
            out.append((start, end))
            failed = 0
    return np.array(out, np.float64).reshape(-1, 2)


def runs_of(chosen: NDArray[np.bool_]) -> IntArray:
    """(R, 2) first and last position of each run of true."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]])))
    return (change.reshape(-1, 2) - [0, 1]).astype(np.int64)


def background_curve(
    axis: TimeAxis,
    scores: SnippetScores | None,
    start: NDArray[np.floating[Any]],
    end: NDArray[np.floating[Any]],
    score: FloatArray,
) -> NDArray[np.float32]:
    """Background score of each snippet of a video.

    One minus the base locator's foreground; where that is not known, one minus the share of the proposals, by
    score, that cover the snippet.

    Args:
        axis: of the video.
        scores: of the base locator, or None.
        start, end, score: of its proposals, in snippets.
    """
    if scores is not None:
        place = np.floor(scores.axis.positions_at(axis.centers())).astype(np.int64)
        return np.asarray(1 - scores.foreground[place.clip(0, len(scores.foreground) - 1)], np.float32)
    change = np.zeros(axis.length + 1)
    weight = np.maximum(score, 0)
    np.add.at(change, np.floor(start).astype(np.int64).clip(0, axis.length), weight)
    np.add.at(change, np.ceil(end).astype(np.int64).clip(0, axis.length), -weight)
    cover = change[:-1].cumsum()
    return np.asarray(1 - cover / max(cover.max(), 1e-9), np.float32)


# -------------------------------------------------------------------------- the second method: the network


class Refinement(NamedTuple):
    """Of N segments: completeness (N, K), K 1 or C; moves of start and end (N,) in lengths of the segment."""

    completeness: Tensor
    start: Tensor
    end: Tensor


class BoundaryNetwork(nn.Module):
    """Completeness from all of a segment, the move of each border from the context on its side."""

    def __init__(self, dim: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.prop_fusion = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), Dropout(dropout))
        self.prop_completeness = head(dim, outputs)
        self.start_reg_conv, self.end_reg_conv = head(dim, 1), head(dim, 1)

    def forward(self, parts: Tensor) -> Refinement:
        """`parts` (N, 3, D) of segments, see `segment_parts`."""
        left, _, right = parts.unbind(1)
        fused = self.prop_fusion(contrast(parts))
        return Refinement(
            per_row(self.prop_completeness, fused).sigmoid(),
            per_row(self.start_reg_conv, left)[:, 0],
            per_row(self.end_reg_conv, right)[:, 0],
        )


def overlap(start: Tensor, end: Tensor, other: Tensor) -> Tensor:
    """tIoU of segments (N,) with R others each, (N, R, 2), as the published code has it; (N, R)."""
    a, b = other.unbind(-1)
    common = torch.minimum(end[:, None], b) - torch.maximum(start[:, None], a)
    union = (end - start)[:, None] + (b - a) - common
    return (common / (union + 1e-6)).clamp(min=0)


# ------------------------------------------------------------------------------------ the second method


@dataclass(frozen=True)
class SegmentBatch(Batch):
    """Segments of B videos (N in all), and the reliable ones (at most R a video).

    Attributes:
        parts: (N, 3, D), see `segment_parts`.
        video: (N,) place in the batch.
        segment: (N, 2) start and end, in snippets.
        drawn: (N,) uniform random numbers, which decide what negatives take part.
        reliable: (B, R, 2) start and end, in snippets.
        reliable_class: (B, R) int64, -1 in the padding.
    """

    parts: Tensor
    video: Tensor
    segment: Tensor
    drawn: Tensor
    reliable: Tensor
    reliable_class: Tensor


class _Prepared:
    """What a training set gives once: candidates, what they show, and reliable segments, in snippets."""

    def __init__(self, data: TrainingData, config: HRProConfig) -> None:
        self.data = data
        bank, detections = data.bank, data.proposals
        found = training_proposals("HR-Pro", detections, bank, decimals=3)
        assert detections is not None
        rows, _ = rows_of(detections, bank.names)
        segments, self.reliable, self.reliable_class = [], [], []
        rng = data.rng(0x4E50)
        for v, (axis, weak) in enumerate(zip(bank.axes, data.weak.videos, strict=True)):
            of_video = slice(found.offsets[v], found.offsets[v + 1])
            own = detections[rows[of_video]]
            start, end = found.start[of_video], found.end[of_video]
            time, label = np.empty(0), np.empty(0, np.int64)
            if weak.points is not None:
                order = np.argsort(weak.points.time, kind="stable")
                time, label = weak.points.time[order], weak.points.label[order]
            chosen = reliable_rows(own, time, label)
            label, chosen = label[chosen >= 0], chosen[chosen >= 0]
            self.reliable.append(np.stack([start[chosen], end[chosen]], 1))
            self.reliable_class.append(label)
            scores = None if data.scores is None else data.scores.get(weak.name)
            background = background_curve(axis, scores, start, end, own.score)
            runs = self.background_runs(np.array([v]), background, config)
            if config.labelled_only:
                kept = np.isin(own.label, weak.labels)
                start, end = start[kept], end[kept]
            pieces = background_pieces(runs, int(config.negative_share * len(start)), rng)
            segments.append(np.concatenate([np.stack([start, end], 1), pieces]))
        count = [len(s) for s in segments]
        start, end = np.concatenate(segments).T
        self.candidates = Proposals(
            np.repeat(np.arange(len(count)), count), start, end, np.cumsum([0, *count])
        )
        self.parts = SegmentFeatures(bank, self.candidates, config.roi_size, config.cache_gib)

    def background_runs(
        self, video: IntArray, background: NDArray[np.float32], config: HRProConfig
    ) -> IntArray:
        """Runs of background seeds in one video."""
        scores, clicks = torch.from_numpy(background), self.data.clicks(video).cpu()
        length = torch.tensor([len(background)])
        of = video_of_rows([len(background)], clicks)
        return runs_of(
            seeds(scores, clicks, of, length, config.action_seed, config.background_seed)[1].numpy()
        )


class HRPro(Method):
    """The second stage of HR-Pro; see the module's docstring. `data.proposals` are what it learns from."""

    name: ClassVar[str] = "hr_pro"
    supervision: ClassVar[Literal["video", "point"]] = "point"
    Config: ClassVar[type[MethodConfig]] = HRProConfig
    base: ClassVar[str | None] = "hr_pro_snippets"
    config: HRProConfig

    def __init__(self, config: HRProConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        outputs = len(self.classes) if config.class_aware else 1
        self.bcr = BoundaryNetwork(dim, outputs, config.dropout)
        self._prepared: _Prepared | None = None

    def forward(self, parts: Tensor) -> Refinement:
        return self.bcr(parts)  # type: ignore[no-any-return]

    def training_step(self, batch: SegmentBatch) -> dict[str, Tensor]:
        losses = {name: value.mean() for name, value in self.losses(batch).items()}
        losses["total"] = (
            self.config.regression_weight * losses["regression"] + self.config.score_weight * losses["score"]
        )
        return losses

    def losses(self, batch: SegmentBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,); 0 for a video without segments near a reliable one."""
        output: Refinement = by_rows(self.forward, batch.parts)
        video, videos = batch.video, len(batch)
        start, end = batch.segment.unbind(1)
        size = end - start
        reliable, of_class = batch.reliable[video], batch.reliable_class[video]
        before = overlap(start, end, reliable) * (of_class >= 0)
        moved = overlap(start + output.start * size, end + output.end * size, reliable) * (of_class >= 0)
        nearest = before.amax(1)
        positive = nearest >= self.config.positive_iou
        none = size.new_zeros(videos)
        positives, rest = (none.index_add(0, video, x.to(size.dtype)) for x in (positive, ~positive))
        # as many negatives as positives take part, in the mean
        share = (positives / rest.clamp(min=1)).clamp(max=1)
        used = positive | (batch.drawn > 1 - share[video])
        if self.config.class_aware:
            target = nearest.new_zeros(len(size), len(self.classes))
            target = target.scatter_reduce(1, of_class.clamp(min=0), before, "amax")
        else:
            target = nearest[:, None]
        regression = F.smooth_l1_loss(moved.amax(1), torch.ones_like(nearest), reduction="none")
        score = F.smooth_l1_loss(output.completeness.to(target.dtype), target, reduction="none").sum(1)
        return {
            "regression": mean_of_chosen(regression, positive, video, videos),
            "score": mean_of_chosen(score, used, video, videos),
        }

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size, drop_last=True)
        return [Stage("train", self.config.epochs * epoch, epoch)]

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def prepared(self, data: TrainingData) -> _Prepared:
        """Candidates and reliable segments of the training set, made at the first call."""
        if self._prepared is None or self._prepared.data is not data:
            self._prepared = _Prepared(data, self.config)
        return self._prepared

    def draw(self, stage: int, step: int, data: TrainingData) -> SegmentBatch:
        known, most = self.prepared(data), self.config.max_proposals
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        rng = data.rng(0x4852, stage, step)
        offsets = known.candidates.offsets
        ranges = [np.arange(offsets[v], offsets[v + 1]) for v in video]
        ranges = [rng.permutation(r)[:most] if len(r) > most else r for r in ranges]
        count = [len(r) for r in ranges]
        rows = np.concatenate(ranges)
        parts = known.parts(rows)
        segment = np.stack([known.candidates.start[rows], known.candidates.end[rows]], 1)
        return self.batch_of(
            parts,
            [known.reliable[v] for v in video],
            [known.reliable_class[v] for v in video],
            np.repeat(np.arange(len(video)), count),
            segment,
            rng.random(len(rows)),
            data.labels[torch.from_numpy(video)],
            tuple(data.bank.names[v] for v in video),
            tuple(data.bank.axes[v] for v in video),
        )

    def batch_of(
        self,
        parts: Tensor,
        reliable: Sequence[FloatArray],
        reliable_class: Sequence[IntArray],
        video: IntArray,
        segment: FloatArray,
        drawn: FloatArray,
        labels: Tensor,
        names: tuple[str, ...],
        axes: tuple[TimeAxis, ...],
    ) -> SegmentBatch:
        """See `SegmentBatch`; reliable segments come as one array per video."""
        shape = (len(names), max(1, *(len(r) for r in reliable)))
        segments, classes = np.zeros((*shape, 2), np.float32), np.full(shape, -1)
        for b, (own, of_class) in enumerate(zip(reliable, reliable_class, strict=True)):
            segments[b, : len(own)], classes[b, : len(own)] = own, of_class
        tensors = (
            torch.from_numpy(x).to(parts.device)
            for x in (video, segment.astype(np.float32), drawn.astype(np.float32), segments, classes)
        )
        return SegmentBatch(
            parts.new_empty(len(names), 0, parts.shape[2]),
            torch.zeros(len(names), dtype=torch.int64, device=parts.device),
            labels,
            names,
            axes,
            parts,
            *tensors,
        )

    # inference

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """The proposals of a `ProposalBatch` and the same moved, scored and softly suppressed.

        Raises:
            InputError: the batch carries no proposals.
        """
        given = batch_proposals("HR-Pro", batch)
        rows, _ = rows_of(given, batch.names)
        proposals, given = Proposals.of(given, batch.names, batch.axes, decimals=3), given[rows]
        features, first = packed_features(batch)

        def read(of: Proposals) -> list[NDArray[np.float32]]:
            outputs = [
                self.forward(of.parts(features, first, batch.lengths, self.config.roi_size, part.numpy()))
                for part in torch.split(torch.arange(len(of)), _AT_ONCE)
            ]
            return [torch.cat(x).float().cpu().numpy() for x in zip(*outputs, strict=True)]

        completeness, move_start, move_end = read(proposals)
        start, end = proposals.start.astype(np.float32), proposals.end.astype(np.float32)
        size = end - start
        refined = Proposals(
            proposals.video, start + move_start * size, end + move_end * size, proposals.offsets
        )
        again = read(refined)[0]
        own = given.label if self.config.class_aware else np.zeros(len(given), np.int64)
        chosen = np.arange(len(given)), own
        return self.localize(
            batch.names, batch.axes, proposals, refined, given, completeness[chosen], again[chosen]
        )

    def localize(
        self,
        names: Sequence[str],
        axes: Sequence[TimeAxis],
        proposals: Proposals,
        refined: Proposals,
        given: Detections,
        completeness: NDArray[np.float32],
        again: NDArray[np.float32],
    ) -> Detections:
        """Detections from proposals (M), the same moved, and the completeness of both.

        Args:
            names, axes: of the videos.
            proposals, refined: in snippets.
            given: the proposals' classes and scores.
            completeness, again: (M,) of proposals and of moved ones.
        """
        found = self.candidates(names, axes, proposals, refined, given, completeness, again)
        return suppressed(found, self.config.sigma, self.config.nms_plus_one)

    def candidates(
        self,
        names: Sequence[str],
        axes: Sequence[TimeAxis],
        proposals: Proposals,
        refined: Proposals,
        given: Detections,
        completeness: NDArray[np.float32],
        again: NDArray[np.float32],
    ) -> Detections:
        """What `localize` suppresses: per video all proposals, then all moved ones."""
        video = np.concatenate([proposals.video, refined.video])
        snippets = np.stack(
            [
                np.concatenate([getattr(p, c).astype(float) for p in (proposals, refined)])
                for c in ("start", "end")
            ]
        )
        score = np.concatenate([given.score + completeness, given.score + again])
        seconds = np.empty_like(snippets)
        for v, axis in enumerate(axes):
            of_video = video == v
            seconds[:, of_video] = axis.seconds_at(snippets[:, of_video])
            if self.config.clip_refined:
                seconds[:, of_video] = seconds[:, of_video].clip(axis.start, axis.end)
        order = np.argsort(video, kind="stable")
        if self.config.clip_refined:
            order = order[seconds[1, order] > seconds[0, order]]
        return Detections(
            tuple(names),
            self.classes,
            video[order],
            seconds[0, order],
            seconds[1, order],
            np.tile(given.label, 2)[order],
            score[order],
        )

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """From the official checkpoint of stage 2 (``bcr.*``), which does not know of classes.

        Raises:
            InputError: no classes; weights are missing, unexpected or of the wrong shape.
        """
        weights = published_weights(state_dict)
        dim, _ = shape_of(weights, "bcr.prop_fusion.0.weight", 2)
        if classes is None:
            raise InputError(
                "the second stage of HR-Pro does not know its classes", hint="name them, or a data set"
            )
        method = cls(HRProConfig(**config), dim=dim, classes=classes)
        load_published(method, weights)
        return method
