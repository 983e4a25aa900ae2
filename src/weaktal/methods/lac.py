"""LAC (LACP): Learning Action Completeness from Points, Lee & Byun, ICCV 2021.

One click per instance. Frame losses on the clicked snippets and on confident background train a small
network; every few steps a search finds, for every video and class, the best alternation of background and
action that agrees with the clicks, and its segments train completeness: their scores shall contrast with
their surroundings, their features with the other kind. Its proposals are the input of TSPNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores
from weaktal.localize.curves import find_runs, outer_inner_contrast, upsample
from weaktal.localize.nms import nms
from weaktal.localize.sequence_search import (
    ACTION,
    BACKGROUND,
    FREE,
    Segments,
    alternating_segments,
    search_sequences,
)
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.methods.published import class_names, load_published, published_weights, shape_of
from weaktal.nn.dropout import dropout
from weaktal.nn.parallel import by_videos
from weaktal.nn.ragged import Ragged
from weaktal.nn.temporal_conv import convolve_rows

IntArray = NDArray[np.int64]


class LACConfig(MethodConfig):
    """Published values as defaults (THUMOS14).

    Attributes:
        hidden: width of the embedding; the published code has 2048 whatever the input.
        dropout: on the embedding, before the classifier.
        topk: the video score is the mean of the length / `topk` largest scores.
        steps, batch_size, lr, weight_decay: Adam with L2 weight decay.
        search_every: optimizer steps between searches.
        budget: hypotheses that the search keeps.
        search_min_score: hypotheses below it are dropped.
        action_seed: snippets around a click whose background score is at most this are action.
        background_seed: snippets with at least this background score are background.
        video_weight, frame_weight, background_weight, score_weight, feature_weight: of the losses.
        temperature: of the feature contrast.
        margin: outside of a segment on each side, as a share of its length (losses, search, localization).
        class_threshold: classes with a lower video score are not localized (the best one always is).
        action_thresholds: on class scores; lowest, highest (exclusive), step.
        foreground_thresholds: on one minus the background score; lowest, highest (exclusive), step.
        upsampling: values per snippet in localization.
        video_score_weight: share of the video score in a detection's score.
        nms_threshold: of the suppression within a class.
        drop_last_snippet: quirk: a segment that reaches the end loses its last snippet in the completeness
            losses, and a video that is all action or all background takes no part in them.
        feature_classes: quirk: "last" keeps the feature contrast of a video's last class with two or more
            actions, in place of the mean over such classes.
        nms_plus_one: quirk: the overlap counts one second more, so that short neighbours suppress each other.
        drop_lone_first: quirk: where only the first up-sampled position passes a threshold, it is ignored.
        clamp_scores: keep up-sampled scores in [0, 1]; the published extrapolation may leave it.
    """

    hidden: int = Field(2048, ge=1)
    dropout: float = Field(0.7, ge=0, lt=1)
    topk: int = Field(8, ge=1)
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    search_every: int = Field(10, ge=1)
    budget: int = Field(25, ge=1)
    search_min_score: float = 0.1
    action_seed: float = 0.1
    background_seed: float = 0.95
    video_weight: float = 1.0
    frame_weight: float = 0.5
    background_weight: float = 1.0
    score_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = Field(0.1, gt=0)
    margin: float = Field(0.25, ge=0)
    class_threshold: float = 0.5
    action_thresholds: tuple[float, float, float] = (0.0, 0.25, 0.025)
    foreground_thresholds: tuple[float, float, float] = (0.5, 0.725, 0.025)
    upsampling: int = Field(24, ge=1)
    video_score_weight: float = 0.2
    nms_threshold: float = 0.7
    drop_last_snippet: bool = True
    feature_classes: Literal["last", "mean"] = "last"
    nms_plus_one: bool = True
    drop_lone_first: bool = True
    clamp_scores: bool = False


# ---------------------------------------------------------------------------------------------- network


class Output(NamedTuple):
    """What the network says about videos, one after another (N snippets); background is the last column.

    Attributes:
        scores: (N, C + 1) sigmoid scores.
        features: (N, H) embedding.
    """

    scores: Tensor
    features: Tensor

    @property
    def fused(self) -> Tensor:
        """(N, C + 1): action scores times (1 - background); the background stays."""
        background = self.scores[:, -1:]
        return torch.cat([self.scores[:, :-1] * (1 - background), background], dim=-1)


class Classifier(nn.Module):
    """One temporal convolution, then a linear map to C + 1 scores per snippet."""

    def __init__(self, dim: int, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Sequential(nn.Conv1d(dim, hidden, 3, padding=1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Conv1d(hidden, classes + 1, 1, bias=False))
        self.dropout = dropout

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        """`rows` (N, D) of videos with these lengths."""
        weight, bias = self.conv_1.parameters()
        features = convolve_rows(rows, lengths, weight, bias).relu()
        (out,) = self.classifier.parameters()
        logits = F.linear(dropout(features, self.dropout, self.training), out[..., 0])
        return Output(logits.sigmoid(), features)


def video_scores(scores: Tensor, layout: Ragged, topk: int, labels: Tensor | None = None) -> Tensor:
    """Video-level class scores from un-fused snippet scores.

    Args:
        scores: (N, C + 1); the last column is left out.
        layout: of the N rows, B videos.
        topk: the mean of the length / `topk` (at least one) largest.
        labels: (B, C); with them, classes that do not occur get the mean over all snippets instead.

    Returns:
        (B, C).
    """
    actions = scores[:, :-1]
    wanted = torch.ones_like(actions[: len(layout)]) if labels is None else labels
    video, cls = wanted.nonzero(as_tuple=True)
    # the snippets of each wanted pair of video and class in a row
    place = torch.arange(max(layout.lengths), device=scores.device)
    size = layout.sizes[video]
    inside = place < size[:, None]
    row = (layout.offsets.to(scores.device)[video][:, None] + place).clamp(max=layout.total - 1)
    curve = actions[row, cls[:, None]].masked_fill(~inside, -torch.inf)
    k = (size // topk).clamp(min=1)
    best = curve.topk(max(1, max(layout.lengths) // topk), dim=1).values
    use = torch.arange(best.shape[1], device=scores.device) < k[:, None]
    top = best.masked_fill(~use, 0).sum(1) / k
    if labels is None:
        return top.view(wanted.shape)
    return layout.means(actions).index_put((video, cls), top)


# ------------------------------------------------------------------------------------------------ seeds


def seeds(
    background: Tensor,
    points: Tensor,
    layout: Ragged,
    action_threshold: float,
    background_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Snippets that are surely action or background, grown from the clicks.

    Between neighbouring clicks everything between the first and the last confident background snippet is
    background, or else the most confident one; before the first click and after the last one everything
    beyond the nearest confident one. Action grows from each click to both sides while the background score is
    low.

    Args:
        background: (N,) background scores, detached.
        points: (N, C) 0 or 1.
        layout: of the N rows.

    Returns:
        action: (N, C) 0 or 1, rows of the clicks copied to their surroundings.
        is_background: (N,) bool. A video without clicks has no seeds.
    """
    video, rows = layout.video, len(background)
    begin = layout.offsets[:-1].to(background.device)[video]
    end = begin + layout.sizes[video]
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
        table = value.new_full((rows + len(layout),), empty)
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


# ----------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class LACBatch(Batch):
    """Whole videos with clicks, and the segments of the last search (M of them, none before the first).

    Attributes:
        rows: (N, D) the features of all videos, one after another; `features` is empty.
        points: (N, C) 0 or 1.
        segment: (M, 4) int64: video in the batch, class, start, end (exclusive).
        segment_action: (M,) bool, true for action.
        contrast_rows: (G, S, 3) int64, of the N rows: three snippets of each segment of G groups, a group
            being a video and class.
        contrast_action: (G, S) bool.
        contrast_mask: (G, S) bool, false in the padding.
        contrast_video: (G,) int64, the video of each group.
    """

    rows: Tensor
    points: Tensor
    segment: Tensor
    segment_action: Tensor
    contrast_rows: Tensor
    contrast_action: Tensor
    contrast_mask: Tensor
    contrast_video: Tensor

    @cached_property
    def layout(self) -> Ragged:
        return Ragged([axis.length for axis in self.axes], self.rows.device)


def frame_loss(fused: Tensor, target: Tensor, chosen: Tensor, layout: Ragged) -> Tensor:
    """Focal binary cross-entropy over the chosen snippets of each video, per chosen snippet (B,).

    Args:
        fused: (N, C + 1).
        target: (N, C + 1) or (C + 1,), 0 or 1.
        chosen: (N,) bool.
        layout: of the N rows.
    """
    at = chosen.nonzero()[:, 0]
    p, y = fused.index_select(0, at), target.expand_as(fused).index_select(0, at)
    weight = torch.where(y > 0, 1 - p, p) ** 2
    loss = (weight * F.binary_cross_entropy(p, y, reduction="none")).sum(1)
    return mean_per_video(loss, layout.video[at], len(layout))


def segment_contrast(fused: Tensor, segment: Tensor, action: Tensor, margin: float, layout: Ragged) -> Tensor:
    """Outer-inner contrast of segments, of p for action and 1 - p for background; differentiable, (M,).

    Args:
        fused: (N, C + 1).
        segment, action: see `LACBatch`.
        margin: outside on each side, as a share of the length.
        layout: of the N rows.
    """
    video, cls, start, end = segment.unbind(1)
    sums = F.pad(fused.double().cumsum(0), (0, 0, 1, 0))
    length = end - start
    reach = margin * length.double()
    low = (start - reach).clamp(min=0).long()
    high = torch.minimum((end - 1 + reach).long() + 1, layout.sizes[video])
    high = torch.maximum(high, end)
    outside = high - low - length
    # all four sums in one look-up, whose gradient is one addition
    first = layout.offsets.to(fused.device)[video]
    at = torch.stack([start, end, low, high]) + first
    before, upto, below, above = sums[at, cls].unbind(0)
    inner_sum = upto - before
    inner, outer = inner_sum / length, (above - below - inner_sum) / outside.clamp(min=1)
    flipped = (1 - inner) - torch.where(outside > 0, 1 - outer, 0)
    return torch.where(action, inner - outer, flipped).to(fused.dtype)


def mean_per_video(value: Tensor, video: Tensor, videos: int) -> Tensor:
    """Mean of M values over the rows of each video, 0 where it has none, (B,)."""
    zero = value.new_zeros(videos)
    count = zero.index_add(0, video, torch.ones_like(value))
    return zero.index_add(0, video, value) / count.clamp(min=1)


def feature_contrast(features: Tensor, batch: LACBatch, temperature: float) -> Tensor:
    """Each action segment shall be nearer to the other actions than to background, per group (G,).

    A segment's vector is the mean of three of its snippets' features (of N, H), scaled to length 1.
    """
    at = batch.contrast_rows
    h = features.index_select(0, at.flatten()).view(*at.shape, features.shape[1]).mean(2)
    h = F.normalize(h, dim=-1)
    mask, action = batch.contrast_mask, batch.contrast_action
    other = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    # finite in place of -infinity: a padded column has nothing to sum over
    similarity = (h @ h.transpose(1, 2)) / temperature
    lowest = torch.finfo(similarity.dtype).min
    to_all = similarity.masked_fill(~(other & mask[:, :, None]), lowest).logsumexp(1)
    to_action = similarity.masked_fill(~(other & action[:, :, None]), lowest).logsumexp(1)
    loss = (to_all - to_action).masked_fill(~action, 0)
    return loss.sum(1) / action.sum(1).clamp(min=1)


# ------------------------------------------------------------------------------------------- the method


class LAC(SnippetMethod):
    """LAC; see the module's docstring."""

    name: ClassVar[str] = "lac"
    supervision: ClassVar[Literal["video", "point"]] = "point"
    Config: ClassVar[type[MethodConfig]] = LACConfig
    config: LACConfig

    def __init__(self, config: LACConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.cls_module = Classifier(dim, len(self.classes), config.hidden, config.dropout)
        self.pairs = np.empty((0, 2), np.int64)
        self.segments: Segments | None = None

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        """`rows` (N, D) of videos with these lengths, one after another."""
        out: Output = by_videos(self.cls_module, rows, lengths)
        return out

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        batch = self.config.batch_size
        return [Stage("train", self.config.steps, data.steps_per_epoch(batch, drop_last=True))]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        self.segments = None

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def before_step(self, stage: int, step: int, data: TrainingData) -> None:
        if step and step % self.config.search_every == 0:
            self.search(data)

    @torch.no_grad()
    def search(self, data: TrainingData) -> NDArray[np.float32]:
        """Find every training video's segments with the present network.

        Returns:
            (V,) the score of the found sequences, mean over a video's classes; 0 without any.
        """
        self.eval()
        scores, marks, pairs = [], [], []
        for low in range(0, len(data), self.config.batch_size):
            video = np.arange(low, min(low + self.config.batch_size, len(data)))
            lengths = data.bank.lengths[video].tolist()
            fused = self.forward(data.bank.packed(video), lengths).fused
            pair, score, mark = self.search_input(
                fused,
                self.points_of(data, video),
                Ragged(lengths, fused.device),
                data.labels[torch.from_numpy(video)],
            )
            pairs.append(pair + np.array([low, 0]))
            scores += score
            marks += mark
        self.train()
        self.pairs = np.concatenate(pairs)
        self.segments, best = self.search_pairs(scores, marks)
        total = np.bincount(self.pairs[:, 0], weights=best, minlength=len(data))
        count = np.bincount(self.pairs[:, 0], minlength=len(data))
        return (total / np.maximum(count, 1)).astype(np.float32)

    def search_input(
        self, fused: Tensor, points: Tensor, layout: Ragged, labels: Tensor
    ) -> tuple[IntArray, list[NDArray[np.float32]], list[NDArray[np.int8]]]:
        """Seeds of the labelled (video, class) pairs of B videos.

        Args:
            fused: (N, C + 1).
            points: (N, C).
            layout: of the N rows.
            labels: (B, C).

        Returns:
            (P, 2) video and class; per pair its action scores (T,) and its seeds (T,).
        """
        action, background = seeds(
            fused[:, -1], points, layout, self.config.action_seed, self.config.background_seed
        )
        wanted = ((layout.sums(action) > 0) & (labels > 0)).nonzero().cpu().numpy()
        own = (action > 0).cpu().numpy()
        other = background.cpu().numpy() | own.any(1)
        curves = fused[:, :-1].float().cpu().numpy()
        offsets = layout.offsets.numpy()
        scores, marks = [], []
        for video, cls in wanted:
            rows = slice(offsets[video], offsets[video + 1])
            scores.append(curves[rows, cls])
            mark = np.where(own[rows, cls], ACTION, np.where(other[rows], BACKGROUND, FREE))
            marks.append(mark.astype(np.int8))
        return wanted, scores, marks

    def search_pairs(
        self, scores: list[NDArray[np.float32]], marks: list[NDArray[np.int8]]
    ) -> tuple[Segments, NDArray[np.float32]]:
        """The best segments of each pair, and their scores (P,)."""
        lengths = np.array([len(s) for s in scores], np.int64)
        shape = (len(scores), int(lengths.max(initial=1)))
        score, mark = np.zeros(shape, np.float32), np.full(shape, FREE, np.int8)
        inside = np.arange(shape[1]) < lengths[:, None]
        score[inside] = np.concatenate([np.empty(0, np.float32), *scores])
        mark[inside] = np.concatenate([np.empty(0, np.int8), *marks])
        labels, best = search_sequences(
            score,
            mark,
            lengths,
            budget=self.config.budget,
            min_score=self.config.search_min_score,
            margin=self.config.margin,
        )
        return alternating_segments(labels, lengths), best

    def points_of(self, data: TrainingData, video: IntArray) -> Tensor:
        """Clicks as (N, C) 0 or 1; a click's snippet is its position rounded down."""
        lengths = data.bank.lengths[video]
        out = torch.zeros(int(lengths.sum()), len(self.classes))
        for v, n, first in zip(video, lengths, np.cumsum(lengths) - lengths, strict=True):
            points = data.weak.videos[v].points
            if points is not None and len(points):
                # half a microsecond keeps a click on a snippet's first frame there after conversions
                at = np.floor(data.bank.axes[v].positions_at(points.time + 5e-7)).astype(np.int64)
                out[first + np.clip(at, 0, n - 1), points.label] = 1
        return out.to(data.bank.data.device)

    def draw(self, stage: int, step: int, data: TrainingData) -> LACBatch:
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        segments, pairs = self.segments, self.pairs
        if segments is not None:
            place = np.full(len(data), -1)
            place[video] = np.arange(len(video))
            chosen = np.nonzero(place[pairs[:, 0]] >= 0)[0]
            chosen = chosen[np.argsort(place[pairs[chosen, 0]], kind="stable")]
            segments, pairs = segments.of(chosen), np.stack([place[pairs[chosen, 0]], pairs[chosen, 1]], 1)
        return self.batch_of(data, video, segments, pairs, data.rng(0x1AC, stage, step))

    def batch_of(
        self,
        data: TrainingData,
        video: IntArray,
        segments: Segments | None,
        pairs: IntArray,
        rng: np.random.Generator,
    ) -> LACBatch:
        """Videos with their clicks and segments, and random snippets of these for the feature contrast.

        Args:
            segments: of pairs, ordered by (video in the batch, class, start), or None before a search.
            pairs: (P, 2) video in the batch and class of each pair.
        """
        none = np.empty(0, np.int64)
        if segments is None:
            segments = Segments(none, none, none, np.empty(0, np.bool_))
        lengths = data.bank.lengths[video]
        if self.config.drop_last_snippet:
            alone = np.bincount(segments.pair)[segments.pair] == 1
            end = np.minimum(segments.end, lengths[pairs[segments.pair, 0]] - 1)
            segments = Segments(segments.pair, segments.start, end, segments.action)
            segments = segments[(segments.end > segments.start) & ~alone]
        owner, cls = pairs[segments.pair, 0], pairs[segments.pair, 1]
        snippets = three_snippets(segments.start, segments.end, rng)
        rows, action, mask, group_video = self.contrast_groups(segments, snippets, owner)
        first = np.cumsum(lengths) - lengths
        batch, features = data.packed(video)

        def at_device(x: NDArray[Any]) -> Tensor:
            return torch.from_numpy(x).to(features.device)

        return LACBatch(
            **vars(batch),
            rows=features,
            points=self.points_of(data, video),
            segment=at_device(np.stack([owner, cls, segments.start, segments.end], 1)),
            segment_action=at_device(segments.action),
            contrast_rows=at_device(rows + first[group_video][:, None, None]),
            contrast_action=at_device(action),
            contrast_mask=at_device(mask),
            contrast_video=at_device(group_video),
        )

    def contrast_groups(
        self, segments: Segments, snippets: IntArray, video: IntArray
    ) -> tuple[IntArray, NDArray[np.bool_], NDArray[np.bool_], IntArray]:
        """Pairs with two or more actions, as padded groups of segments; see `LACBatch`."""
        owner = np.zeros(int(segments.pair.max(initial=-1)) + 1, np.int64)
        owner[segments.pair] = video
        actions = np.bincount(segments.pair[segments.action], minlength=len(owner))
        chosen = np.nonzero(actions >= 2)[0]
        if self.config.feature_classes == "last":
            last = np.append(owner[chosen][1:] != owner[chosen][:-1], True)[: len(chosen)]
            chosen = chosen[last]
        place = np.full(len(owner), -1)
        place[chosen] = np.arange(len(chosen))
        grouped = place[segments.pair] >= 0
        segments, snippets = segments[grouped], snippets[grouped]
        group = place[segments.pair]
        count = np.bincount(group, minlength=len(chosen))
        column = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
        shape = (len(chosen), int(count.max(initial=0)))
        rows = np.zeros((*shape, 3), np.int64)
        action, mask = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        rows[group, column] = snippets
        action[group, column], mask[group, column] = segments.action, True
        return rows, action, mask, owner[chosen]

    def losses(self, output: Output, batch: LACBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,) each."""
        scores = video_scores(output.scores, batch.layout, self.config.topk, batch.labels)
        return self.losses_of(scores, output.fused, output.features, batch)

    def losses_of(
        self, scores: Tensor, fused: Tensor, features: Tensor, batch: LACBatch
    ) -> dict[str, Tensor]:
        """`losses` from video scores (B, C), fused scores (N, C + 1) and the embedding (N, H)."""
        config, layout, videos = self.config, batch.layout, len(batch)
        _, background = seeds(
            fused.detach()[:, -1], batch.points, layout, config.action_seed, config.background_seed
        )
        click = F.pad(batch.points, (0, 1))
        is_background = click.new_zeros(click.shape[1])
        is_background[-1] = 1
        contrast = segment_contrast(fused, batch.segment, batch.segment_action, config.margin, layout)
        # videos twice: their action segments, then the rest
        kind = batch.segment[:, 0] + videos * ~batch.segment_action
        score_act, score_bkg = mean_per_video(1 - contrast, kind, 2 * videos).view(2, videos)
        return {
            "video": F.binary_cross_entropy(scores, batch.labels, reduction="none").mean(1),
            "frame": frame_loss(fused, click, batch.points.amax(-1) > 0, layout),
            "background": frame_loss(fused, is_background, background, layout),
            "score_action": score_act,
            "score_background": score_bkg,
            "score": (score_act + score_bkg) ** 2,
            "feature": mean_per_video(
                feature_contrast(features, batch, config.temperature), batch.contrast_video, videos
            ),
        }

    def training_step(self, batch: LACBatch) -> dict[str, Tensor]:
        output = self.forward(batch.rows, batch.layout.lengths)
        losses = {name: value.mean() for name, value in self.losses(output, batch).items()}
        config = self.config
        losses["total"] = (
            config.video_weight * losses["video"]
            + config.frame_weight * losses["frame"]
            + config.background_weight * losses["background"]
            + config.score_weight * losses["score"]
            + config.feature_weight * losses["feature"]
        )
        return losses

    def training_state(self) -> dict[str, Any]:
        if self.segments is None:
            return {}
        s = self.segments
        table = np.stack([s.pair, s.start, s.end, s.action.astype(np.int64)], 1)
        return {"pairs": torch.from_numpy(self.pairs), "segments": torch.from_numpy(table)}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        if not state:
            self.segments = None
            return
        self.pairs = state["pairs"].cpu().numpy()
        pair, start, end, action = state["segments"].cpu().numpy().T
        self.segments = Segments(pair, start, end, action.astype(np.bool_))

    # inference

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        layout = Ragged(batch.lengths.tolist(), batch.features.device)
        output = self.forward(batch.features[batch.mask], layout.lengths)
        videos = video_scores(output.scores, layout, self.config.topk).float().cpu().numpy()
        fused = layout.split(output.fused.float().cpu())
        return [
            SnippetScores(name, curves[:, :-1].numpy(), 1 - curves[:, -1].numpy(), video, axis)
            for name, curves, video, axis in zip(batch.names, fused, videos, batch.axes, strict=True)
        ]

    def proposals(self, scores: Sequence[SnippetScores]) -> Detections:
        """Scored runs of all thresholds, nothing suppressed: what TSPNet learns from."""
        parts = [self._proposals(s) for s in scores]
        return Detections.concatenate(parts or [Detections.empty([], self.classes)], self.classes)

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        found = self.proposals(scores)
        # classes come in the order in which they first produce a proposal
        group = found.video * len(self.classes) + found.label
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        kept = nms(
            found.start,
            found.end,
            found.score,
            self.config.nms_threshold,
            plus_one=self.config.nms_plus_one,
            group=rank[inverse],
        )
        return found[kept]

    def _proposals(self, scores: SnippetScores) -> Detections:
        config, length = self.config, len(scores.cas)
        classes = np.nonzero(scores.video_scores >= config.class_threshold)[0]
        if not len(classes):
            classes = np.array([int(np.argmax(scores.video_scores))])
        curves = upsample(scores.cas[:, classes].T, config.upsampling)
        foreground = upsample(scores.foreground, config.upsampling)[None]
        if config.clamp_scores:
            curves, foreground = curves.clip(0, 1), foreground.clip(0, 1)
        # a position at a threshold passes, one at 0 never does
        on_class = np.maximum(np.arange(*config.action_thresholds), np.nextafter(0, 1))
        on_foreground = np.maximum(np.arange(*config.foreground_thresholds), np.nextafter(0, 1))
        runs = find_runs(curves, on_class, drop_lone_first=config.drop_lone_first)
        above = np.where(curves[:, None] >= on_class[:, None], curves[:, None], 0)
        contrast = outer_inner_contrast(above, runs, config.margin)
        agnostic = find_runs(foreground, on_foreground, drop_lone_first=config.drop_lone_first)
        times = len(classes)
        agnostic_all = type(agnostic)(
            np.repeat(np.arange(times), len(agnostic)),
            np.tile(agnostic.threshold + len(on_class), times),
            np.tile(agnostic.start, times),
            np.tile(agnostic.end, times),
        )
        contrast = np.concatenate([contrast, outer_inner_contrast(curves, agnostic_all, config.margin)])
        curve = np.concatenate([runs.curve, agnostic_all.curve])
        threshold = np.concatenate([runs.threshold, agnostic_all.threshold])
        start = np.concatenate([runs.start, agnostic_all.start])
        end = np.concatenate([runs.end, agnostic_all.end])
        first = np.full(times, len(on_class) + len(on_foreground))
        np.minimum.at(first, curve, threshold)
        order = np.lexsort((start, threshold, curve, first[curve]))
        axis = scores.axis.resampled(length * config.upsampling)
        label = classes[curve[order]]
        return Detections(
            (scores.video,),
            self.classes,
            np.zeros(len(order), np.int64),
            axis.seconds_at(start[order]),
            axis.seconds_at(end[order]),
            label,
            contrast[order] + config.video_score_weight * scores.video_scores[label],
        )

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """From the official checkpoint (``cls_module.*``); sizes are read from the shapes.

        Raises:
            InputError: weights are missing, unexpected or of the wrong shape.
        """
        weights = published_weights(state_dict)
        hidden, dim, _ = shape_of(weights, "cls_module.conv_1.0.weight", 3)
        count, _, _ = shape_of(weights, "cls_module.classifier.0.weight", 3)
        method = cls(
            LACConfig(**{"hidden": hidden, **config}), dim=dim, classes=class_names(classes, count - 1)
        )
        load_published(method, weights)
        return method


def three_snippets(start: IntArray, end: IntArray, rng: np.random.Generator) -> IntArray:
    """One random position from each third of each segment [start, end), at least one wide; (M, 3)."""
    step = (end - start)[:, None] / 3
    third = np.arange(3)
    low = (start[:, None] + third * step).astype(np.int64)
    high = np.maximum((start[:, None] + (third + 1) * step).astype(np.int64), low + 1)
    return rng.integers(low, high)
