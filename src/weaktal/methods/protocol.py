"""What a method is, and what the training loop and the commands may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.features.batches import Batch, ProposalBatch, TrainingData, whole_videos
from weaktal.methods.published import class_names, load_published, published_weights

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
    # whether its segments are needed to detect, too; a student needs them in training alone
    base_at_test: ClassVar[bool] = True
    # the module inside whose parameters are named as the official weights; "" is the method itself
    published_part: ClassVar[str] = ""
    # whether the first half of the features is RGB and the second half flow
    two_streams: ClassVar[bool] = False

    def __init__(self, config: Any, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__()
        if self.two_streams and dim % 2:
            raise InputError(
                f"{self.name} takes features of two equal halves, RGB and flow", field="dim", found=dim
            )
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
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        """D, the number of classes C, and fields of `Config`, as the shapes of official weights say them."""
        raise NotImplementedError

    @classmethod
    def from_published(
        cls, state_dict: Mapping[str, Any], *, classes: Sequence[str] | None = None, **config: Any
    ) -> Self:
        """The method with the weights of the official release.

        Args:
            state_dict: by the official parameter names, with or without a leading "module.".
            classes: class names in the order of the weights; default "class 0", "class 1", ...
            config: fields of `Config`; what nobody names is read from the shapes, where they say it.

        Raises:
            InputError: a weight is missing, unexpected or of the wrong shape.
        """
        weights = published_weights(state_dict)
        dim, count, sizes = cls.published_sizes(weights)
        method = cls(cls.Config(**{**sizes, **config}), dim=dim, classes=class_names(classes, count))
        load_published(method.get_submodule(cls.published_part), weights)
        return method


def snippet_scores(
    names: Sequence[str],
    axes: Sequence[TimeAxis],
    lengths: Sequence[int],
    cas: Tensor | Sequence[Tensor],
    foreground: Tensor | Sequence[Tensor],
    video_scores: Tensor,
) -> list[SnippetScores]:
    """Scores of B videos from outputs of a network, padded or one tensor a video.

    Args:
        names, axes: of the videos; an axis is that of the rows that count.
        lengths: how many rows of a video count.
        cas: (B, T, C).
        foreground: (B, T).
        video_scores: (B, C).
    """

    def plain(x: Tensor) -> NDArray[np.float32]:
        return np.asarray(x.float().cpu())

    columns = zip(names, axes, lengths, cas, foreground, video_scores, strict=True)
    return [
        SnippetScores(name, plain(c[:n]), plain(f[:n]), plain(v), axis) for name, axis, n, c, f, v in columns
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
