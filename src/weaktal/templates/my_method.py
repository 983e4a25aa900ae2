"""MyMethod: a small weakly-supervised localizer to start from.

The base of most methods: snippets are embedded and classified, the best of them stand for the video (top-k
pooling), and an attention says which snippets are action at all. Its one idea is background suppression (Lee
et al., "Background Suppression Network for Weakly-supervised Temporal Action Localization", AAAI 2020): one
more class is background, present in every video as it is, and absent from the video weighted by attention.
Replace it by yours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores
from weaktal.localize.curves import Grid
from weaktal.localize.run_proposals import nms_by_class, run_proposals
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.nn.pooling import best_share_mean


class MyMethodConfig(MethodConfig):
    """Hyper-parameters of MyMethod.

    Attributes:
        hidden: width of the embedding.
        dropout: probability, after the embedding.
        topk_divisor: a class is represented by a video's T // this best snippets.
        attention_weight: of the loss that keeps attention small.

        lr, weight_decay: of Adam.
        batch_size: videos a step.
        epochs: passes over the training videos.

        class_threshold: classes with at least this video score are localized; without any, the best one.
        action_thresholds, foreground_thresholds: at which class scores and attention are cut.
        upsampling: values per snippet of these curves.
        margin: what lies around a segment, as a share of its length, for its contrast.
        video_score_weight: share of the video score in a segment's score.
        nms_threshold: tIoU from which a worse segment of the same class goes.
    """

    hidden: int = Field(64, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    topk_divisor: int = Field(8, ge=1)
    attention_weight: float = Field(0.1, ge=0)

    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    batch_size: int = Field(16, ge=1)
    epochs: int = Field(60, ge=1)

    class_threshold: float = Field(0.2, ge=0, le=1)
    action_thresholds: Grid = (0.1, 0.9, 0.05)
    foreground_thresholds: Grid = (0.1, 0.9, 0.05)
    upsampling: int = Field(4, ge=1)
    margin: float = Field(0.25, ge=0)
    video_score_weight: float = Field(0.2, ge=0)
    nms_threshold: float = Field(0.4, ge=0, le=1)
    drop_lone_first: bool = False
    clamp_scores: bool = True


class MyMethod(SnippetMethod):
    """See the module's docstring.

    Args:
        config: hyper-parameters.
        dim: width D of the features.
        classes: C names.
    """

    name: ClassVar[str] = "my_method"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config = MyMethodConfig
    config: MyMethodConfig

    def __init__(self, config: MyMethodConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.embed = nn.Conv1d(dim, config.hidden, 3, padding=1)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.hidden, len(self.classes) + 1)  # the last class is background
        self.attend = nn.Linear(config.hidden, 1)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (B, T, C + 1), unbounded, and attention (B, T) in [0, 1].

        Args:
            features: (B, T, D), zero where there is padding.
            mask: (B, T) bool, true at snippets.
        """
        x = F.relu(self.embed(features.transpose(1, 2))).transpose(1, 2)
        cas: Tensor = self.classify(self.dropout(x))
        attention = torch.sigmoid(self.attend(x)).squeeze(-1) * mask
        return cas, attention

    def video_scores(self, cas: Tensor, mask: Tensor) -> Tensor:
        """(B, C + 1) probabilities: softmax of the mean of each class's best snippets."""
        return best_share_mean(cas, self.config.topk_divisor, mask).softmax(dim=1)

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size)
        return [Stage("train", self.config.epochs * epoch, epoch)]

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.lr, weight_decay=self.config.weight_decay)

    def draw(self, stage: int, step: int, data: TrainingData) -> Batch:
        return data.whole(data.shuffled(step, self.config.batch_size))

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        cas, attention = self(batch.features, batch.mask)
        as_it_is = self.video_scores(cas, batch.mask)
        suppressed = self.video_scores(cas * attention[..., None], batch.mask)
        one, zero = batch.labels.new_ones(len(batch), 1), batch.labels.new_zeros(len(batch), 1)
        parts = {
            "base": video_loss(as_it_is, torch.cat([batch.labels, one], dim=1)),
            "suppressed": video_loss(suppressed, torch.cat([batch.labels, zero], dim=1)),
            "attention": attention.sum() / batch.mask.sum(),
        }
        weighted = self.config.attention_weight * parts["attention"]
        return {"total": parts["base"] + parts["suppressed"] + weighted, **parts}

    # inference

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        cas, attention = self(batch.features, batch.mask)
        video = self.video_scores(cas * attention[..., None], batch.mask)[:, :-1].cpu().numpy()
        snippet = cas.softmax(dim=-1)[..., :-1].cpu().numpy()
        foreground = attention.cpu().numpy()
        rows = zip(batch.names, batch.lengths.tolist(), batch.axes, strict=True)
        return [
            SnippetScores(name, snippet[i, :n], foreground[i, :n], video[i], axis)
            for i, (name, n, axis) in enumerate(rows)
        ]

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        proposals = [run_proposals(s, self.classes, self.config) for s in scores]
        names = tuple(s.video for s in scores)
        found = Detections.concatenate([Detections.empty(names, self.classes), *proposals], self.classes)
        return nms_by_class(found, self.config.nms_threshold, plus_one=False)


def video_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of probabilities (B, C) with labels (B, C), 0 or 1; a video's labels share its weight."""
    share = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    return -(share * scores.clamp(min=1e-8).log()).sum(dim=1).mean()
