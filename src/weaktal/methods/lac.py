"""LAC (LACP): Learning Action Completeness from Points, Lee & Byun, ICCV 2021.

One click per instance. Frame losses on the clicked snippets and on confident background train a small
network; every few steps a search finds, for every video and class, the best alternation of background and
action that agrees with the clicks, and its segments train completeness: their scores shall contrast with
their surroundings, their features with the other kind. Its proposals are the input of TSPNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores
from weaktal.localize.curves import Grid
from weaktal.localize.run_proposals import nms_by_class, run_proposals
from weaktal.localize.sequence_search import ACTION, BACKGROUND, FREE, Segments, search_pairs
from weaktal.methods.clicked_videos import ClickedVideos, Output, score_packed
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.methods.published import shape_of
from weaktal.nn.clicks import frame_losses, seeds
from weaktal.nn.dropout import dropout
from weaktal.nn.labels import known_mean
from weaktal.nn.parallel import by_videos
from weaktal.nn.pooling import mean_per_video, packed_video_scores, video_of_rows
from weaktal.nn.temporal_conv import convolve_rows

IntArray = NDArray[np.int64]


class LACConfig(MethodConfig):
    """Published values as defaults (THUMOS14)."""

    hidden: int = Field(2048, ge=1, description="width of the embedding; published whatever the features")
    dropout: float = Field(0.7, ge=0, lt=1, description="on the embedding, before the classifier")
    topk: int = Field(8, ge=1, description="a video's score is the mean of its length / topk largest scores")
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0, description="L2 term inside Adam")
    search_every: int = Field(10, ge=1, description="optimizer steps between searches")
    budget: int = Field(25, ge=1, description="hypotheses that the search keeps")
    search_min_score: float = Field(0.1, description="the search drops hypotheses below it")
    action_seed: float = Field(0.1, description="clicks grow where the background score is at most this")
    background_seed: float = Field(0.95, description="snippets of this background score are background")
    video_weight: float = 1.0
    frame_weight: float = 0.5
    background_weight: float = 1.0
    score_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = Field(0.1, gt=0, description="of the feature contrast")
    margin: float = Field(0.25, ge=0, description="outside of a segment on each side, by its length")
    class_threshold: float = Field(0.5, description="video score of localized classes, or else the best one")
    action_thresholds: Grid = Field((0.0, 0.25, 0.025), description="on class scores: start, stop, step")
    foreground_thresholds: Grid = Field((0.5, 0.725, 0.025), description="on one minus the background score")
    upsampling: int = Field(24, ge=1, description="values per snippet in localization")
    video_score_weight: float = Field(0.2, description="of the video score in a detection's score")
    nms_threshold: float = Field(0.7, description="of the suppression within a class")

    # quirks of the published code
    drop_last_snippet: bool = Field(
        True, description="segments that reach the end lose a snippet in completeness, lone ones take no part"
    )
    feature_classes: Literal["last", "mean"] = Field(
        "last", description="feature contrast of a video's last class with two or more actions, or of all"
    )
    nms_plus_one: bool = Field(True, description="overlap counts one second more")
    drop_lone_first: bool = Field(True, description="ignore thresholds that only position 0 passes")
    clamp_scores: bool = Field(False, description="keep up-sampled scores in [0, 1]")


# ---------------------------------------------------------------------------------------------- network


class Classifier(nn.Module):
    """One temporal convolution, then a linear map to C + 1 scores per snippet."""

    def __init__(self, dim: int, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Sequential(nn.Conv1d(dim, hidden, 3, padding=1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Conv1d(hidden, classes + 1, 1, bias=False))
        self.dropout = dropout

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        """`rows` (N, D) of videos with these lengths."""
        features = convolve_rows(rows, video_of_rows(lengths, rows), *self.conv_1.parameters()).relu()
        (weight,) = self.classifier.parameters()
        logits = F.linear(dropout(features, self.dropout, self.training), weight[..., 0])
        return Output(logits.sigmoid(), features)


# ----------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class LACBatch(ClickedVideos):
    """Videos with the M segments of the last search (none before the first).

    The feature contrast is one of S segments in G groups, a video and class with two or more actions each.
    """

    segment: Tensor  # (M, 4) int64: video in the batch, class, start, end (exclusive)
    segment_action: Tensor  # (M,) bool, true for action
    contrast_rows: Tensor  # (G, S, 3) int64, of the N rows: three snippets of each segment
    contrast_action: Tensor  # (G, S) bool
    contrast_mask: Tensor  # (G, S) bool, false in the padding
    contrast_video: Tensor  # (G,) int64, the video of each group


def segment_contrast(
    fused: Tensor, segment: Tensor, action: Tensor, margin: float, lengths: Tensor
) -> Tensor:
    """Outer-inner contrast of segments, of p for action and 1 - p for background; differentiable, (M,).

    Args:
        fused: (N, C + 1).
        segment, action: see `LACBatch`.
        margin: outside on each side, as a share of the length.
        lengths: (B,) of the videos.
    """
    video, cls, start, end = segment.unbind(1)
    sums = F.pad(fused.double().cumsum(0), (0, 0, 1, 0))
    length = end - start
    reach = margin * length.double()
    low = (start - reach).clamp(min=0).long()
    high = torch.minimum((end - 1 + reach).long() + 1, lengths[video])
    high = torch.maximum(high, end)
    outside = high - low - length
    first = (lengths.cumsum(0) - lengths)[video]
    before, upto, below, above = sums[torch.stack([start, end, low, high]) + first, cls].unbind(0)
    inner_sum = upto - before
    inner, outer = inner_sum / length, (above - below - inner_sum) / outside.clamp(min=1)
    flipped = (1 - inner) - torch.where(outside > 0, 1 - outer, 0)
    return torch.where(action, inner - outer, flipped).to(fused.dtype)


def feature_contrast(features: Tensor, batch: LACBatch, temperature: float) -> Tensor:
    """Each action segment shall be nearer to the other actions of its group than to background, (G,).

    A segment's vector is the mean of three of its snippets' features (of N, H), scaled to length 1.
    """
    h = F.normalize(features[batch.contrast_rows].mean(2), dim=-1)
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
        self.pairs = np.empty((0, 2), np.int64)  # videos and classes that the last search found segments for
        self.segments: Segments | None = None  # of these pairs; None before the first search

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Output:
        """`rows` (N, D) of videos with these lengths, one after another."""
        out: Output = by_videos(self.cls_module, rows, lengths)
        return out

    def training_step(self, batch: LACBatch) -> dict[str, Tensor]:
        config, output = self.config, self.forward(batch.rows, batch.sizes)
        losses = {name: value.mean() for name, value in self.losses(output, batch).items()}
        losses["total"] = (
            config.video_weight * losses["video"]
            + config.frame_weight * losses["frame"]
            + config.background_weight * losses["background"]
            + config.score_weight * losses["score"]
            + config.feature_weight * losses["feature"]
        )
        return losses

    def losses(self, output: Output, batch: LACBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,) each."""
        scores = packed_video_scores(
            output.scores[:, :-1], batch.video, batch.lengths, batch.table, batch.labelled, self.config.topk
        )
        return self.losses_of(scores, output.fused, output.features, batch)

    def losses_of(
        self, scores: Tensor, fused: Tensor, features: Tensor, batch: LACBatch
    ) -> dict[str, Tensor]:
        """`losses` from video scores (B, C), fused scores (N, C + 1) and the embedding (N, H)."""
        config, videos = self.config, len(batch)
        _, background = seeds(
            fused.detach()[:, -1],
            batch.points,
            batch.video,
            batch.lengths,
            config.action_seed,
            config.background_seed,
        )
        background = background | batch.empty[batch.video]
        frame, on_background = frame_losses(fused, batch.points, background, batch.video, videos, batch.known)
        contrast = segment_contrast(fused, batch.segment, batch.segment_action, config.margin, batch.lengths)
        # videos twice: their action segments, then the rest
        kind = batch.segment[:, 0] + videos * ~batch.segment_action
        score_act, score_bkg = mean_per_video(1 - contrast, kind, 2 * videos).view(2, videos)
        return {
            "video": known_mean(F.binary_cross_entropy(scores, batch.labels, reduction="none"), batch.known),
            "frame": frame,
            "background": on_background,
            "score_action": score_act,
            "score_background": score_bkg,
            "score": (score_act + score_bkg) ** 2,
            "feature": mean_per_video(
                feature_contrast(features, batch, config.temperature), batch.contrast_video, videos
            ),
        }

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size, drop_last=True)
        return [Stage("train", data.lengthened(self.config.steps), epoch)]

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
            lengths = data.bank.lengths[video]
            fused = self.forward(data.bank.packed(video), lengths.tolist()).fused
            labels = data.labels[torch.from_numpy(video)]
            pair, score, mark = self.search_input(fused, data.clicks(video), lengths, labels)
            pairs.append(pair + np.array([low, 0]))
            scores += score
            marks += mark
        self.train()
        self.pairs = np.concatenate(pairs)
        config = self.config
        self.segments, best = search_pairs(
            scores, marks, budget=config.budget, min_score=config.search_min_score, margin=config.margin
        )
        total = np.bincount(self.pairs[:, 0], weights=best, minlength=len(data))
        count = np.bincount(self.pairs[:, 0], minlength=len(data))
        return (total / np.maximum(count, 1)).astype(np.float32)

    def search_input(
        self, fused: Tensor, points: Tensor, lengths: IntArray, labels: Tensor
    ) -> tuple[IntArray, list[NDArray[np.float32]], list[NDArray[np.int8]]]:
        """Seeds of the labelled pairs of a video and a class in B videos, of `lengths` and `labels` (B, C).

        Returns:
            (P, 2) video and class; per pair its action scores (T,), of `fused` (N, C + 1), and its seeds
            (T,), grown from `points` (N, C).
        """
        video, sizes = video_of_rows(lengths.tolist(), fused), torch.from_numpy(lengths).to(fused.device)
        action, background = seeds(
            fused[:, -1], points, video, sizes, self.config.action_seed, self.config.background_seed
        )
        seeded = mean_per_video(action, video, len(lengths)) > 0
        wanted = (seeded & (labels > 0)).nonzero().cpu().numpy()
        own = (action > 0).cpu().numpy()
        other = background.cpu().numpy() | own.any(1)
        curves = fused[:, :-1].float().cpu().numpy()
        mark = np.where(own, ACTION, np.where(other[:, None], BACKGROUND, FREE)).astype(np.int8)
        rows = [slice(b - n, b) for n, b in zip(lengths, np.cumsum(lengths), strict=True)]
        return wanted, [curves[rows[v], c] for v, c in wanted], [mark[rows[v], c] for v, c in wanted]

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

        `segments` are those of `pairs` (P, 2) of a video in the batch and a class, in the order of videos,
        classes and time, or None before a search.
        """
        if segments is None:
            none = np.empty(0, np.int64)
            segments = Segments(none, none, none, np.empty(0, np.bool_))
        lengths = data.bank.lengths[video]
        if self.config.drop_last_snippet:
            alone = np.bincount(segments.pair)[segments.pair] == 1
            end = np.minimum(segments.end, lengths[pairs[segments.pair, 0]] - 1)
            segments = Segments(segments.pair, segments.start, end, segments.action)
            segments = segments[(segments.end > segments.start) & ~alone]
        owner, cls = pairs[segments.pair, 0], pairs[segments.pair, 1]
        first = np.cumsum(lengths) - lengths
        snippets = three_snippets(segments.start, segments.end, rng)
        chosen, group, of_group = self.contrast_groups(segments, owner)
        column = np.arange(len(group)) - np.searchsorted(group, group)  # groups stand one after another
        shape = (len(of_group), int(column.max(initial=-1)) + 1)
        contrast_rows, contrast_action = np.zeros((*shape, 3), np.int64), np.zeros(shape, np.bool_)
        contrast_mask = np.zeros(shape, np.bool_)
        contrast_rows[group, column] = (snippets + first[owner][:, None])[chosen]
        contrast_action[group, column], contrast_mask[group, column] = segments.action[chosen], True
        return LACBatch.of(
            data,
            video,
            segment=torch.from_numpy(np.stack([owner, cls, segments.start, segments.end], 1)),
            segment_action=torch.from_numpy(segments.action),
            contrast_rows=torch.from_numpy(contrast_rows),
            contrast_action=torch.from_numpy(contrast_action),
            contrast_mask=torch.from_numpy(contrast_mask),
            contrast_video=torch.from_numpy(of_group),
        )

    def contrast_groups(self, segments: Segments, video: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """The segments of pairs with two or more actions, and, by the quirk, of a video's last such pair.

        Returns:
            (K,) rows of M `segments` whose `video` is (M,); (K,) their groups; (G,) the video of each group.
        """
        pair, first = np.unique(segments.pair, return_index=True)
        actions = np.bincount(segments.pair[segments.action], minlength=int(pair.max(initial=-1)) + 1)[pair]
        enough = actions >= 2
        pair, owner = pair[enough], video[first[enough]]
        if self.config.feature_classes == "last":
            last = np.append(owner[1:] != owner[:-1], True)[: len(owner)]
            pair, owner = pair[last], owner[last]
        rows = np.nonzero(np.isin(segments.pair, pair))[0]
        return rows, np.searchsorted(pair, segments.pair[rows]), owner

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
        return score_packed(self.forward, batch, self.config.topk)

    def candidates(self, scores: Sequence[SnippetScores]) -> Detections:
        """Scored runs of all thresholds, nothing suppressed: what TSPNet learns from."""
        parts = (run_proposals(s, self.classes, self.config) for s in scores)
        return Detections.concatenate(parts, self.classes)

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        c = self.config
        return nms_by_class(self.candidates(scores), c.nms_threshold, plus_one=c.nms_plus_one)

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        hidden, dim, _ = shape_of(weights, "cls_module.conv_1.0.weight", 3)
        count, _, _ = shape_of(weights, "cls_module.classifier.0.weight", 3)
        return dim, count - 1, {"hidden": hidden}


def three_snippets(start: IntArray, end: IntArray, rng: np.random.Generator) -> IntArray:
    """One random position from each third of each segment [start, end), at least one wide; (M, 3)."""
    step = (end - start)[:, None] / 3
    third = np.arange(3)
    low = (start[:, None] + third * step).astype(np.int64)
    high = np.maximum((start[:, None] + (third + 1) * step).astype(np.int64), low + 1)
    return rng.integers(low, high)
