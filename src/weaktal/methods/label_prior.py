"""How much each snippet of a training video looks like the video's classes: a start for attention.

A network that learns attention from its own attention goes on with whatever its random initial weights
prefer, and that may be the background. What tells action from background without such a beginning is that
background is in videos of all classes. A linear map from snippets to the labels of their video, fitted in
closed form on other videos, is high where a snippet tells the class and low where it does not.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import TrainingData

FOLDS = 5
RIDGE = 0.01  # of the number of snippets, features having unit variance


def label_prior(data: TrainingData) -> FeatureBank:
    """Out-of-fold ridge regression of video labels on single snippets.

    Args:
        data: V videos of N snippets, features (N, D), labels (V, C).

    Returns:
        A bank of the same videos with one column: for each snippet the mean of its predictions for the
        classes of its video, by a map that was fitted without that video (with it, if there is no other).
        About 0 to 1; higher tells the class more. There is nothing random in it.
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
        value = ((predicted * y).sum(1, keepdim=True) / y.sum(1, keepdim=True).clamp(min=1)).float()
        for v, part in zip(videos.tolist(), value.split(bank.lengths[videos].tolist()), strict=True):
            found[bank.offsets[v] : bank.offsets[v + 1]] = part
    return FeatureBank(bank.names, found, bank.offsets, bank.axes)


def _moments(bank: FeatureBank, folds: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features, (D,) each."""
    rows = int(bank.offsets[-1])
    mean = torch.stack([bank.packed(v).sum(0, dtype=torch.float64) for v in folds]).sum(0) / rows
    spread = [(bank.packed(v).double() - mean).square().sum(0) for v in folds]
    return mean, (torch.stack(spread).sum(0) / rows).sqrt() + 1e-6


def _rows(
    data: TrainingData, videos: NDArray[np.int64], mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """Standardised snippets of some videos and a one, (n, D + 1), and the labels of their videos, (n, C)."""
    batch, rows = data.packed(videos)
    x = (rows.double() - mean) / deviation
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    return x, batch.labels.double().repeat_interleave(batch.lengths, dim=0)
