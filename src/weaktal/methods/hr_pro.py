"""HR-Pro: Hierarchical Reliability Propagation for point supervision, Zhang et al., AAAI 2024.

Two methods, one after the other. `HRProSnippets`: one prototype per class, from the clicked snippets, joins
the snippets of a video in two attention blocks; focal losses on clicks and confident background, and a
contrast of action regions with their prototype, train a snippet classifier. `HRPro`: its proposals that fit
the clicks best are reliable; a second network learns from them how complete a proposal is and where its
borders belong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from weaktal.core import Detections, InputError, Points, SnippetScores, TimeAxis
from weaktal.localize.curves import Grid
from weaktal.localize.run_proposals import run_proposals, soft_nms_by_class
from weaktal.methods.clicked_videos import ClickedVideos, Output, score_packed
from weaktal.methods.proposals import (
    Proposals,
    SegmentFeatures,
    batch_proposals,
    head,
    packed_features,
    per_row,
    rows_of,
    segment_outputs,
    training_proposals,
)
from weaktal.methods.protocol import Batch, Method, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.methods.published import load_published, published_weights, shape_of
from weaktal.nn.clicks import frame_losses, seeds
from weaktal.nn.dropout import Dropout
from weaktal.nn.labels import known_mean
from weaktal.nn.parallel import by_rows, by_videos
from weaktal.nn.pooling import mean_of_chosen, mean_per_video, packed_video_scores, video_of_rows
from weaktal.nn.roi_align import contrast
from weaktal.nn.temporal_conv import Conv1d, convolve_rows

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
        class_aware: completeness is learnt for each class, from the reliable segments of that class and by
            cross-entropy, and a proposal gets that of its own class. Published: one completeness whatever the
            class, by squared error, which lifts proposals of wrong classes like the right ones.
        labelled_only: of a training video with classes, only proposals of these are used. Published: all.
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

    def forward(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        """`tokens` (N, D) of sequences with these lengths."""
        sources = self.conv_query(tokens), self.conv_key(tokens), tokens
        sequences = zip(*(torch.split(x, list(lengths)) for x in sources), strict=True)
        attended = torch.cat([self.self_atten(q, k, v, need_weights=False)[0] for q, k, v in sequences])
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

    def forward(self, rows: Tensor, lengths: Sequence[int], prototypes: Tensor) -> Tensor:
        """Snippets (N, D) of videos with these lengths, and prototype tokens (C, D): (N, D)."""
        tokens = torch.cat([x for video in torch.split(rows, list(lengths)) for x in (video, prototypes)])
        sizes = [n + len(prototypes) for n in lengths]
        for block in self.RAB:
            tokens = block(tokens, sizes)
        rows = torch.cat([x[:n] for x, n in zip(torch.split(tokens, sizes), lengths, strict=True)])
        weight, bias = self.feature_embedding.parameters()
        return convolve_rows(rows, video_of_rows(lengths, rows), weight, bias).relu()


class Memory(nn.Module):
    """One prototype per class."""

    proto_vectors: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("proto_vectors", torch.zeros(classes, 1, dim))


# ------------------------------------------------------------------------------- the first method: losses


def regions(chosen: Tensor, video: Tensor, lengths: Tensor, drop_last: bool) -> Tensor:
    """The snippets (N, C) 0 or 1 of the regions of a sequence.

    With `drop_last` those that the published code finds: the last snippet of a video is in no region, and a
    sequence of ones alone has none.
    """
    if not drop_last:
        return chosen
    part = mean_per_video(chosen, video, len(lengths)) < 1
    return (chosen * part[video]).index_fill(0, lengths.cumsum(0) - 1, 0)


def prototype_contrast(
    features: Tensor,
    prototypes: Tensor,
    action: Tensor,
    background: Tensor,
    batch: ClickedVideos,
    temperature: float,
) -> Tensor:
    """Action regions shall be near their class' prototype, not near others, and nearer than background, (B,).

    Args:
        features: (N, D).
        prototypes: (B, C, D), as each video saw them, without gradient; those of classes that nobody clicked
            are zero and take no part.
        action: (N, C) 0 or 1, the regions of each class.
        background: (N,) 0 or 1; a video without any has no loss.
        batch: for labels and layout.
        temperature: of the similarities.
    """
    known = prototypes.abs().sum(2) > 0
    videos = zip(
        torch.split(F.normalize(features, dim=-1), batch.sizes), F.normalize(prototypes, dim=-1), strict=True
    )
    near = torch.cat([x @ of.T for x, of in videos]).div(temperature).exp() * known[batch.video]
    # means over the regions of each class, and over the background, of the nearness to each prototype
    chosen, near = (
        F.pad(x, (0, 0, 0, 1))[batch.table] for x in (torch.cat([action, background[:, None]], 1), near)
    )
    size = chosen.sum(1)
    mean = chosen.mT @ near / size[..., None].clamp(min=1)  # (B, C + 1, C)
    own, every, behind = mean[:, :-1].diagonal(dim1=1, dim2=2), mean[:, :-1].sum(2), mean[:, -1]
    used = (batch.labels > 0) & (size[:, :-1] > 0) & known & (size[:, -1:] > 0)
    own, every = torch.where(used, own, 1), torch.where(used, every, 1)
    loss = 0.5 * (every.log() + (own + behind).log()) - own.log()
    return torch.where(used, loss, 0).sum(1) / batch.labels.sum(1).clamp(min=1)


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

    def network(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        """Snippets (N, D) of videos with these lengths."""
        tokens = self.prototypes
        if self.config.mixed_tokens:
            tokens = tokens.reshape(self.dim, len(self.classes)).T
        features = self.encoder(rows, lengths, tokens)
        return Output(self.classifier(features).sigmoid(), features)

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        out: Output = by_videos(self.network, rows, lengths)
        return out

    def training_step(self, batch: ClickedVideos) -> dict[str, Tensor]:
        """Videos go through the network one by one, or all at once; what they say is judged together."""
        config = self.config
        sizes = [[n] for n in batch.sizes] if config.sequential_prototypes else [batch.sizes]
        count = [sum(lengths) for lengths in sizes]
        rows, points = torch.split(batch.rows, count), torch.split(batch.points, count)
        labels = torch.split(batch.labels, [len(lengths) for lengths in sizes])
        outputs, prototypes = [], []
        for lengths, x, clicks, own in zip(sizes, rows, points, labels, strict=True):
            output = self.forward(x, lengths)
            outputs.append(output)
            prototypes.append(self.prototypes.clone().expand(len(lengths), -1, -1))
            self.follow(output.features, self.seeds(output.scores, clicks, lengths)[0], own, lengths)
        output = Output(*(torch.cat(x) for x in zip(*outputs, strict=True)))
        found = self.losses(output, torch.cat(prototypes), batch)
        losses = {name: value.mean() for name, value in found.items()}
        losses["total"] = (
            config.video_weight * losses["video"]
            + config.frame_weight * losses["frame"]
            + config.background_weight * losses["background"]
            + config.contrast_weight * losses["contrast"]
        )
        return losses

    def seeds(self, scores: Tensor, points: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Snippets that are surely action (N, C) 0 or 1, or background (N,) bool, by scores (N, C + 1)."""
        sizes, video = torch.tensor(lengths, device=scores.device), video_of_rows(lengths, scores)
        thresholds = self.config.action_seed, self.config.background_seed
        return seeds(scores.detach()[:, -1], points, video, sizes, *thresholds)

    def losses(self, output: Output, prototypes: Tensor, batch: ClickedVideos) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,) each; `prototypes` (B, C, D) as each video saw them."""
        scores = packed_video_scores(
            output.scores[:, :-1], batch.video, batch.lengths, batch.table, batch.labelled, self.config.topk
        )
        return self.losses_of(scores, output.fused, output.features, prototypes, batch)

    def losses_of(
        self, scores: Tensor, fused: Tensor, features: Tensor, prototypes: Tensor, batch: ClickedVideos
    ) -> dict[str, Tensor]:
        """`losses` from video scores (B, C), fused scores (N, C + 1) and the embedding (N, D)."""
        action, background = self.seeds(fused, batch.points, batch.sizes)
        frame, on_background = frame_losses(
            fused,
            batch.points,
            background | batch.empty[batch.video],
            batch.video,
            len(batch),
            batch.known,
        )
        layout = batch.video, batch.lengths, self.config.drop_last_snippet
        return {
            "video": known_mean(F.binary_cross_entropy(scores, batch.labels, reduction="none"), batch.known),
            "frame": frame,
            "background": on_background,
            "contrast": prototype_contrast(
                features,
                prototypes,
                regions(action, *layout),
                regions(background[:, None].to(action.dtype), *layout)[:, 0],
                batch,
                self.config.temperature,
            ),
        }

    # between steps: prototypes

    @torch.no_grad()
    def follow(self, features: Tensor, action: Tensor, labels: Tensor, lengths: Sequence[int]) -> None:
        """Let the prototypes of each video's classes follow its action seeds, video after video.

        Args:
            features: (N, D).
            action: (N, C) action seeds.
            labels: (B, C).
            lengths: of the videos.
        """
        parts = (torch.split(x, list(lengths)) for x in (features, action))
        for x, seeded, own in zip(*parts, labels, strict=True):
            count = seeded.sum(0) * own
            mean = seeded.to(x.dtype).T @ x / count.clamp(min=1)[:, None]
            share = self.config.momentum * (count > 0)[:, None]
            self.prototypes.add_(share * (mean - self.prototypes))

    @torch.no_grad()
    def make_prototypes(self, data: TrainingData) -> None:
        """Prototypes of the present network: the mean over all clicked snippets of a class.

        While they are made they are zero, and take part as such.
        """
        self.eval()
        self.prototypes.zero_()
        total, count = torch.zeros_like(self.prototypes), self.prototypes.new_zeros(len(self.classes), 1)
        for video in np.array_split(np.arange(len(data)), -(-len(data) // self.config.batch_size)):
            batch = ClickedVideos.of(data, video)
            total += batch.points.T @ self.network(batch.rows, batch.sizes).features
            count += batch.points.sum(0)[:, None]
        self.prototypes.copy_(total / count.clamp(min=1))
        self.train()

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size, drop_last=True)
        return [Stage("train", data.lengthened(self.config.steps), epoch)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        self.make_prototypes(data)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def draw(self, stage: int, step: int, data: TrainingData) -> ClickedVideos:
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        return ClickedVideos.of(data, video)

    # inference

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        return score_packed(self.forward, batch, self.config.topk)

    def candidates(self, scores: Sequence[SnippetScores]) -> Detections:
        """Scored runs of all thresholds, nothing suppressed: what the second stage learns from."""
        parts = [run_proposals(s, self.classes, self.config) for s in scores]
        return Detections.concatenate(parts or [Detections.empty([], self.classes)], self.classes)

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        c = self.config
        return soft_nms_by_class(self.candidates(scores), c.sigma, plus_one=c.nms_plus_one)

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        count, dim, _ = shape_of(weights, "classifier.1.weight", 3)
        feedforward, _ = shape_of(weights, "encoder.RAB.0.linear1.weight", 2)
        layers = sum(name.endswith("linear1.weight") for name in weights)
        return dim, count - 1, {"feedforward": feedforward, "layers": layers}


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
    axis: TimeAxis, scores: SnippetScores | None, segment: FloatArray, score: FloatArray
) -> NDArray[np.float32]:
    """Background score of each snippet of a video.

    One minus the base locator's foreground; where that is not known, one minus the share of the proposals, by
    score, that cover the snippet.

    Args:
        axis: of the video.
        scores: of the base locator, or None.
        segment, score: (M, 2) start and end in snippets, and (M,) score of its proposals.
    """
    if scores is not None:
        place = np.floor(scores.axis.positions_at(axis.centers())).astype(np.int64)
        return np.asarray(1 - scores.foreground[place.clip(0, len(scores.foreground) - 1)], np.float32)
    change = np.zeros(axis.length + 1)
    weight, (start, end) = np.maximum(score, 0), segment.T
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
        found = training_proposals("HR-Pro", data.proposals, data.bank, decimals=3)
        assert data.proposals is not None
        proposals = data.proposals[rows_of(data.proposals, data.bank.names)[0]]
        segments, self.reliable, self.reliable_class = [], [], []
        rng = data.rng(0x4E50)
        for v, (axis, weak) in enumerate(zip(data.bank.axes, data.weak.videos, strict=True)):
            of_video = slice(found.offsets[v], found.offsets[v + 1])
            own, segment = proposals[of_video], np.stack([found.start, found.end], 1)[of_video]
            points = weak.points or Points()
            order = np.argsort(points.time, kind="stable")
            chosen = reliable_rows(own, points.time[order], points.label[order])
            fits = chosen >= 0
            self.reliable.append(torch.from_numpy(segment[chosen[fits]].astype(np.float32)))
            self.reliable_class.append(torch.from_numpy(points.label[order][fits]))
            scores = None if data.scores is None else data.scores.get(weak.name)
            background = background_curve(axis, scores, segment, own.score)
            runs = runs_of(self.background(v, background, config))
            if config.labelled_only and weak.labels:
                segment = segment[np.isin(own.label, weak.labels)]
            pieces = background_pieces(runs, int(config.negative_share * len(segment)), rng)
            segments.append(np.concatenate([segment, pieces]))
        count = [len(s) for s in segments]
        video, (start, end) = np.repeat(np.arange(len(count)), count), np.concatenate(segments).T
        self.candidates = Proposals(video, start, end, np.cumsum([0, *count]))
        self.parts = SegmentFeatures(data.bank, self.candidates, config.roi_size, config.cache_gib)

    def background(self, video: int, curve: NDArray[np.float32], config: HRProConfig) -> NDArray[np.bool_]:
        """Where one video's background seeds are, from its background scores."""
        scores, clicks = torch.from_numpy(curve), self.data.clicks(np.array([video])).cpu()
        alone, length = torch.zeros(len(curve), dtype=torch.int64), torch.tensor([len(curve)])
        found = seeds(scores, clicks, alone, length, config.action_seed, config.background_seed)[1]
        return np.asarray(found)


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
        nearest, moved_nearest = (F.pad(x, (0, 1)).amax(1) for x in (before, moved))  # 0 where none is
        positive = nearest >= self.config.positive_iou
        none = size.new_zeros(videos)
        positives, rest = (none.index_add(0, video, x.to(size.dtype)) for x in (positive, ~positive))
        # as many negatives as positives take part, in the mean; all of them where nothing occurs
        share = torch.where(batch.empty, 1, (positives / rest.clamp(min=1)).clamp(max=1))
        used = positive | (batch.drawn > 1 - share[video])
        if self.config.class_aware:
            target = nearest.new_zeros(len(size), len(self.classes))
            target = target.scatter_reduce(1, of_class.clamp(min=0), before, "amax")
        else:
            target = nearest[:, None]
        regression = F.smooth_l1_loss(moved_nearest, torch.ones_like(nearest), reduction="none")
        # where nearly all targets are 0, a squared error would drive the sigmoids to where they learn no more
        error = F.binary_cross_entropy if self.config.class_aware else F.smooth_l1_loss
        score = error(output.completeness.to(target.dtype), target, reduction="none")
        if self.config.class_aware and batch.known is not None:
            score = score * batch.known[video]
        return {
            "regression": mean_of_chosen(regression, positive, video, videos),
            "score": mean_of_chosen(score.sum(1), used, video, videos),
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
        known = self.prepared(data)
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        rng = data.rng(0x4852, stage, step)
        rows, place = known.candidates.drawn(video, self.config.max_proposals, rng)
        segment = np.stack([known.candidates.start[rows], known.candidates.end[rows]], 1).astype(np.float32)
        parts, drawn = known.parts(rows), rng.random(len(rows)).astype(np.float32)
        return SegmentBatch(
            **vars(data.without_features(video)),
            parts=parts,
            video=torch.from_numpy(place).to(parts.device),
            segment=torch.from_numpy(segment).to(parts.device),
            drawn=torch.from_numpy(drawn).to(parts.device),
            reliable=pad_sequence([known.reliable[v] for v in video], True).to(parts.device),
            reliable_class=pad_sequence([known.reliable_class[v] for v in video], True, -1).to(parts.device),
        )

    # inference

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """The proposals of a `ProposalBatch` and the same moved, scored and softly suppressed.

        Raises:
            InputError: the batch carries no proposals.
        """
        given = batch_proposals("HR-Pro", batch)
        proposals = Proposals.of(given, batch.names, batch.axes, decimals=3)
        given = given[rows_of(given, batch.names)[0]]
        given = replace(given, names=batch.names, video=proposals.video)
        packed = *packed_features(batch), batch.lengths, self.config.roi_size

        def read(of: Proposals) -> list[NDArray[np.float32]]:
            outputs = segment_outputs(self.forward, partial(of.parts, *packed), len(of))
            return [x.float().cpu().numpy() for x in outputs]

        completeness, move_start, move_end = read(proposals)
        start, end = proposals.start.astype(np.float32), proposals.end.astype(np.float32)
        size = end - start
        moved = replace(proposals, start=start + move_start * size, end=end + move_end * size)
        own = given.label if self.config.class_aware else np.zeros(len(given), np.int64)
        found = np.stack([completeness, read(moved)[0]])[:, np.arange(len(given)), own]
        every = self.candidates(batch.axes, given, (proposals, moved), found)
        return soft_nms_by_class(every, self.config.sigma, plus_one=self.config.nms_plus_one)

    def candidates(
        self,
        axes: Sequence[TimeAxis],
        given: Detections,
        segments: Sequence[Proposals],
        completeness: NDArray[np.float32],
    ) -> Detections:
        """Detections before suppression: per video all proposals, then all moved ones.

        Args:
            axes: of the videos.
            given: the proposals, video by video, with class and score.
            segments: proposals and moved ones in snippets.
            completeness: (2, M) of both.
        """
        seconds = np.stack([np.stack([x.start, x.end], 1).astype(np.float64) for x in segments])  # (2, M, 2)
        for v, axis in enumerate(axes):
            of_video = given.video == v
            seconds[:, of_video] = axis.seconds_at(seconds[:, of_video])
            if self.config.clip_refined:
                seconds[:, of_video] = seconds[:, of_video].clip(axis.start, axis.end)
        start, end = seconds.reshape(-1, 2).T
        video, label = np.tile(given.video, 2), np.tile(given.label, 2)
        score = (given.score + completeness).reshape(-1)
        order = np.argsort(video, kind="stable")
        if self.config.clip_refined:
            order = order[end[order] > start[order]]
        return Detections(given.names, self.classes, video, start, end, label, score)[order]

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
