"""How much each snippet of a training video looks like the video's classes: a start for attention.

A network that learns attention from its own attention goes on with whatever its random initial weights
prefer, and that may be the background. What tells action from background without such a beginning is that
background is in videos of all classes. A linear map from snippets to the labels of their video, fitted in
closed form on other videos, is high where a snippet tells the class and low where it does not. Methods with
`label_warmup` begin with it; docs/trust.md measures what that changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import Batch, TrainingData

FOLDS = 5
RIDGE = 0.01  # of the number of snippets, features having unit variance
WINDOW = 7  # snippets around one that are looked at together: actions last longer than one
WarmupShare = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="not published: share of training (of ASM-Loc's base step) in which attention is also "
        "drawn to the snippets that look most like their video's classes (weaktal.methods.label_prior)",
    ),
]
SPREAD = 0.1  # of attention within a video; below, its correlation with the prior counts less


@dataclass(frozen=True)
class PriorBatch(Batch):
    """A batch of the warm-up.

    Attributes:
        prior: (B, T), how much each snippet looks like the classes of its video, see `LabelWarmup.prior`.
    """

    prior: Tensor


class LabelWarmup:
    """The prior in the first part of a stage of training.

    Args:
        share: of the stage's steps, 0 for no warm-up.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._known: tuple[TrainingData, FeatureBank] | None = None  # made when first needed

    def prior(
        self, data: TrainingData, done: float, video: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> Tensor | None:
        """The prior times what is left of the warm-up, which falls from 1 to 0.

        Args:
            data: what is trained on.
            done: share of the stage's steps that lie behind.
            video: (B,).
            rows: (B, T) snippets of these; all, one video after another, if not given.

        Returns:
            (B, T) or (N,), of the mean 0 and the variance 1 in a whole video when the warm-up begins; None
            when it is over.
        """
        if done >= self.share:
            return None
        if self._known is None or self._known[0] is not data:
            self._known = data, label_prior(data)
        bank = self._known[1]
        value = (bank.packed(video) if rows is None else bank.rows(video, rows))[..., 0]
        return value * (1 - done / self.share)


def warmup_loss(attention: Tensor, prior: Tensor) -> Tensor:
    """Minus the correlation of attention with the prior: that leaves the level of attention to the method.

    Args:
        attention: (..., T) snippets of a video, in [0, 1].
        prior: (..., T), of a variance of 1 or less, which then is the square of the loss's weight.

    Returns:
        (...), at least about -1.
    """
    centered = attention - attention.mean(-1, keepdim=True)
    spread = (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return -(centered / (spread + SPREAD) * prior).mean(-1)


def label_prior(data: TrainingData) -> FeatureBank:
    """Out-of-fold ridge regression of video labels on single snippets.

    Args:
        data: V videos of N snippets, features (N, D), labels (V, C).

    Returns:
        A bank of the same videos with one column: for each snippet the mean of its predictions for the
        classes of its video, by a map that was fitted without that video (with it, if there is no other);
        in each video of mean 0 and variance 1. Higher tells the class more. There is nothing random in it.
    """
    bank = data.bank
    folds = [np.arange(f, len(bank), FOLDS) for f in range(min(FOLDS, len(bank)))]
    mean, deviation = _moments(bank, folds)
    square, product, count = [], [], []
    for videos in folds:
        x, y = _rows(data, videos, mean, deviation)
        square.append(x.mT @ x)
        product.append(x.mT @ y)
        count.append(len(x))
    found = torch.zeros(int(bank.offsets[-1]), 1, device=bank.data.device)
    for f, videos in enumerate(folds):
        fit_on = [i for i in range(len(folds)) if i != f] or [f]
        left = torch.stack([square[i] for i in fit_on]).sum(0)
        left.diagonal().add_(RIDGE * sum(count[i] for i in fit_on))
        right = torch.stack([product[i] for i in fit_on]).sum(0)
        x, y = _rows(data, videos, mean, deviation)
        predicted = x @ torch.linalg.solve(left, right)
        value = (predicted * y).sum(1, keepdim=True) / y.sum(1, keepdim=True).clamp(min=1)
        for v, part in zip(videos.tolist(), torch.split(value, bank.lengths[videos].tolist()), strict=True):
            centered = part - part.mean()
            found[bank.offsets[v] : bank.offsets[v + 1]] = centered / centered.square().mean().sqrt().clamp(
                min=1e-9
            )
    return FeatureBank(bank.names, found, bank.offsets, bank.axes)


def _smooth(bank: FeatureBank, videos: NDArray[np.int64]) -> Tensor:
    """Whole videos one after another, each snippet the mean of those around it, (n, D) float32."""
    parts = torch.split(bank.packed(videos).float(), bank.lengths[videos].tolist())
    pooled = [F.avg_pool1d(x.mT[None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[0].mT for x in parts]
    return torch.cat(pooled)


def _moments(bank: FeatureBank, folds: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features, (D,) each."""
    rows = int(bank.offsets[-1])
    mean = torch.stack([_smooth(bank, v).sum(0, dtype=torch.float64) for v in folds]).sum(0) / rows
    spread = [(_smooth(bank, v).double() - mean).square().sum(0) for v in folds]
    return mean, (torch.stack(spread).sum(0) / rows).sqrt() + 1e-6


def _rows(
    data: TrainingData, videos: NDArray[np.int64], mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """Standardised snippets of some videos and a one, (n, D + 1), and the labels of their videos, (n, C)."""
    x = (_smooth(data.bank, videos).double() - mean) / deviation
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    labels = data.labels[torch.from_numpy(videos)].double()
    lengths = torch.from_numpy(data.bank.lengths[videos]).to(labels.device)
    return x, labels.repeat_interleave(lengths, dim=0)
