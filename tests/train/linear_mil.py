"""The smallest method there is: a linear layer with top-k pooling. Tests of the engine train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from weaktal.core import Detections, SnippetScores
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData
from weaktal.nn.parallel import by_rows


class LinearMILConfig(MethodConfig):
    """Sizes of the test method."""

    steps: int = 12
    refine_steps: int = 6
    batch_size: int = 4
    samples: int = 16
    learning_rate: float = 1e-2
    dropout: float = 0.5


class LinearMIL(SnippetMethod):
    """Dropout, batch normalisation, a linear layer; the second stage learns from a running mean of scores."""

    name: ClassVar[str] = "linear_mil"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config = LinearMILConfig
    config: LinearMILConfig

    def __init__(self, config: LinearMILConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(dim, len(self.classes))
        self.mean_score = torch.zeros(len(self.classes))  # carried in training_state, not in a buffer

    def forward(self, features: Tensor) -> Tensor:
        x = self.norm(features.transpose(1, 2)).transpose(1, 2)
        scores: Tensor = self.classify(self.dropout(x))
        return scores

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size)
        return [Stage("base", self.config.steps, epoch), Stage("refine", self.config.refine_steps, epoch)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        if stage == 1:
            nn.init.normal_(self.classify.bias)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.learning_rate)

    def draw(self, stage: int, step: int, data: TrainingData) -> Batch:
        video = data.shuffled(step, self.config.batch_size, stage)
        position = data.rng(stage, step).random((len(video), self.config.samples))
        rows = np.sort((position * data.bank.lengths[video][:, None]).astype(np.int64), axis=1)
        features = data.bank.rows(video, rows)
        lengths = torch.full((len(video),), self.config.samples, device=features.device)
        names = tuple(data.bank.names[i] for i in video)
        axes = tuple(data.bank.axes[i].resampled(self.config.samples) for i in video)
        return Batch(features, lengths, data.labels[torch.from_numpy(video)], names, axes)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        scores = by_rows(self, batch.features)
        pooled = scores.topk(4, dim=1).values.mean(dim=1)
        mil = functional.binary_cross_entropy_with_logits(pooled, batch.labels)
        # looks across videos, and carries a state from step to step
        pair = (pooled - pooled.roll(1, 0)).square().mean()
        self.mean_score = 0.9 * self.mean_score.to(pooled.device) + 0.1 * pooled.detach().mean(0)
        drift = (pooled.mean(0) - self.mean_score).square().mean()
        return {"total": mil + 0.1 * pair + 0.1 * drift, "mil": mil, "pair": pair, "drift": drift}

    def training_state(self) -> dict[str, Any]:
        return {"mean_score": self.mean_score}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.mean_score = state["mean_score"]

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        cas = torch.sigmoid(self(batch.features)).cpu().numpy()
        out = []
        for name, row, n, axis in zip(batch.names, cas, batch.lengths.tolist(), batch.axes, strict=True):
            video = np.sort(row[:n], axis=0)[-4:].mean(0)
            out.append(SnippetScores(name, row[:n], row[:n].max(1), video, axis))
        return out

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """One segment per video and class: where the sequence is above its mean."""
        names = tuple(s.video for s in scores)
        columns: list[tuple[int, float, float, int, float]] = []
        for v, s in enumerate(scores):
            for c in range(len(self.classes)):
                above = np.flatnonzero(s.cas[:, c] >= s.cas[:, c].mean())
                start, end = s.axis.seconds_at([above[0], above[-1] + 1])
                columns.append((v, start, end, c, float(s.video_scores[c])))
        video, start, end, label, score = zip(*columns, strict=True)
        return Detections(names, self.classes, *map(np.array, (video, start, end, label, score)))
