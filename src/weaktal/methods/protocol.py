"""What a method is, and what the training loop and the commands may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores, TimeAxis
from weaktal.features.batches import Batch, ProposalBatch, TrainingData, whole_videos

__all__ = [
    "Batch",
    "Method",
    "MethodConfig",
    "ProposalBatch",
    "SnippetMethod",
    "Stage",
    "TrainingData",
    "snippet_scores",
    "whole_videos",
]


class MethodConfig(BaseModel):
    """Base of every method's typed, frozen configuration: each field stands in the method's own class."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one optimizer.

    Attributes:
        name: for people and file names ("base", "refine1", ...).
        steps: number of optimizer steps.
        epoch: optimizer steps that count as one epoch (for progress and evaluation).
    """

    name: str
    steps: int
    epoch: int


class Method(nn.Module):
    """A weakly-supervised localizer: networks, losses, schedule, and how its scores become detections.

    The training loop calls, in this order::

        for s, stage in enumerate(method.stages(data)):
            method.begin_stage(s, data)                       # fresh networks, pseudo labels, ...
            optimizer = method.optimizer(s)
            for step in range(stage.steps):
                method.before_step(s, step, data)             # periodic events: memory, search, updates
                batch = method.draw(s, step, data)
                losses = method.training_step(batch)          # {"total": ..., and its parts}

    Everything random about data comes from ``data.rng(...)``; torch's generator (dropout) is seeded by the
    loop for every step. What training carries from step to step beyond parameters and optimizer lives in
    buffers or in `training_state`, so that a resumed run gives the same bits.
    """

    name: ClassVar[str]
    supervision: ClassVar[Literal["video", "point"]]
    Config: ClassVar[type[MethodConfig]]
    # a proposal-level method's base locator, for those who bring no proposals
    base: ClassVar[str | None] = None

    def __init__(self, config: Any, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__()
        self.config, self.dim, self.classes = config, dim, tuple(classes)

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        """The stages of training on this data."""
        raise NotImplementedError

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        """Called once, before the first step of a stage (not again when a stage is resumed)."""

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """The optimizer of a stage, over the parameters it trains."""
        raise NotImplementedError

    def before_step(self, stage: int, step: int, data: TrainingData) -> None:
        """Periodic events before step `step`; must leave the module in training mode."""

    def draw(self, stage: int, step: int, data: TrainingData) -> Batch:
        """The batch of a step."""
        raise NotImplementedError

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        """Losses of a batch, scalars; "total" is what is minimised."""
        raise NotImplementedError

    def training_state(self) -> dict[str, Any]:
        """State beyond parameters and buffers: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `training_state`."""

    def artifacts(self) -> Mapping[str, Detections]:
        """Detections in the training videos made on the way, such as pseudo segments; saved with the run."""
        return {}

    def detect(self, batch: Batch) -> Detections:
        """Detections in whole videos (evaluation mode, no gradients).

        Proposal-level methods need a `ProposalBatch`.
        """
        raise NotImplementedError

    @classmethod
    def from_published(cls, state_dict: Mapping[str, Any], **config: Any) -> Self:
        """The method with the weights of the official release, by the official parameter names."""
        raise NotImplementedError


def snippet_scores(
    names: Sequence[str],
    axes: Sequence[TimeAxis],
    lengths: Sequence[int],
    cas: Tensor,
    foreground: Tensor,
    video_scores: Tensor,
) -> list[SnippetScores]:
    """Scores of B videos from padded outputs of a network.

    Args:
        names, axes: of the videos; an axis is that of the rows that count.
        lengths: how many rows of a video count.
        cas: (B, T, C).
        foreground: (B, T).
        video_scores: (B, C).
    """
    columns = (x.float().cpu().numpy() for x in (cas, foreground, video_scores))
    return [
        SnippetScores(name, c[:n], f[:n], v, axis)
        for name, axis, n, c, f, v in zip(names, axes, lengths, *columns, strict=True)
    ]


class SnippetMethod(Method):
    """A method that scores snippets; its detections come from `localize` alone, without the network."""

    def score(self, batch: Batch) -> list[SnippetScores]:
        """Scores of whole videos (evaluation mode, no gradients)."""
        raise NotImplementedError

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """Snippet scores to detections, in seconds."""
        raise NotImplementedError

    def candidates(self, scores: Sequence[SnippetScores]) -> Detections:
        """Segments for methods that re-score them; detections, where nothing less suppressed is known."""
        return self.localize(scores)

    def detect(self, batch: Batch) -> Detections:
        return self.localize(self.score(batch))
