"""What LAC and HR-Pro's first stage share: whole videos with clicks, one after another, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from weaktal.core import SnippetScores
from weaktal.methods.protocol import Batch, TrainingData, snippet_scores
from weaktal.nn.pooling import packed_video_scores, row_table, video_of_rows


class Output(NamedTuple):
    """What a network says about videos, one after another (N snippets); background is the last column.

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


@dataclass(frozen=True)
class ClickedVideos(Batch):
    """Whole videos with clicks.

    Attributes:
        rows: (N, D) the features of all videos, one after another; `features` is empty.
        video: (N,) int64, place in the batch of each row.
        table: (B, T) int64, see `row_table`.
        labelled: (P, 2) int64, videos and their classes.
        points: (N, C) 0 or 1.
    """

    rows: Tensor
    video: Tensor
    table: Tensor
    labelled: Tensor
    points: Tensor

    @classmethod
    def of(cls, data: TrainingData, video: NDArray[Any], **more: Any) -> Self:
        """Training videos; `more` are the fields that a method adds."""
        batch, rows = data.packed(video)
        return cls(
            **vars(batch),
            rows=rows,
            video=video_of_rows(data.bank.lengths[video].tolist(), rows),
            table=row_table(batch.lengths),
            labelled=batch.labels.nonzero(),
            points=data.clicks(video),
            **more,
        )


def score_packed(
    network: Callable[[Tensor, Sequence[int]], Output], batch: Batch, topk: int
) -> list[SnippetScores]:
    """Fused scores of a padded batch of whole videos, and video scores from the un-fused ones.

    Args:
        network: from (N, D) rows of videos with these lengths.
        batch: the videos.
        topk: a class' video score is the mean of the length / `topk` largest scores.
    """
    lengths, rows = batch.lengths.tolist(), batch.features[batch.mask]
    output, every = network(rows, lengths), torch.ones_like(batch.labels).nonzero()
    table, video = row_table(batch.lengths), video_of_rows(lengths, rows)
    videos = packed_video_scores(output.scores[:, :-1], video, batch.lengths, table, every, topk)
    fused = output.fused.float()
    cas, foreground = (torch.split(x, lengths) for x in (fused[:, :-1], 1 - fused[:, -1]))
    return snippet_scores(batch.names, batch.axes, lengths, cas, foreground, videos)
