"""What a method sees of the data: batches of videos, and what it may draw them from in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from weaktal.core import Detections, SnippetScores, TimeAxis, WeakLabels
from weaktal.features.bank import FeatureBank


@dataclass(frozen=True)
class Batch:
    """Videos as a network takes them. A method may extend it with tensors of its own (first axis B).

    Attributes:
        features: (B, T, D), zero-padded.
        lengths: (B,) int64, number of valid rows of each video.
        labels: (B, C) float, video-level labels as 0 or 1; zeros where unknown (inference).
        names: B video names.
        axes: when each row is, per video; a method that samples a batch derives new ones.
        known: (B, C) bool, of which classes it is known whether they occur; None: of all.
    """

    features: Tensor
    lengths: Tensor
    labels: Tensor
    names: tuple[str, ...]
    axes: tuple[TimeAxis, ...]
    known: Tensor | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> list[int]:
        """`lengths` as Python numbers."""
        return [axis.length for axis in self.axes]

    @property
    def empty(self) -> Tensor:
        """(B,) bool, true for training videos in which nothing occurs."""
        return ~self.labels.any(dim=1)

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, true at valid rows."""
        return torch.arange(self.features.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def to(self, device: torch.device) -> Self:
        """A copy with every tensor on `device`."""
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class ProposalBatch(Batch):
    """Videos with segments of a base locator, for proposal-level methods.

    Attributes:
        proposals: segments of these videos (and possibly of others), in seconds.
    """

    proposals: Detections

    @classmethod
    def of(cls, batch: Batch, proposals: Detections) -> Self:
        """A batch with segments."""
        return cls(batch.features, batch.lengths, batch.labels, batch.names, batch.axes, proposals=proposals)


@lru_cache(maxsize=4)
def _permutation(size: int, *key: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(size)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What training may see: features and weak labels, row by row the same videos.

    Attributes:
        bank: features of V videos.
        weak: their weak labels; there are no instances in it.
        seed: the run's seed; every random choice about data derives from it, see `rng`.
        proposals: per-video segments of a base locator, for proposal-level methods.
        scores: what the base locator says about the snippets of the same videos, by name, if it is known.
    """

    bank: FeatureBank
    weak: WeakLabels
    seed: int = 0
    proposals: Detections | None = None
    scores: Mapping[str, SnippetScores] | None = None

    def __post_init__(self) -> None:
        if self.bank.names != tuple(v.name for v in self.weak.videos):
            raise ValueError("features and labels list different videos")

    def __len__(self) -> int:
        return len(self.bank)

    @cached_property
    def labels(self) -> Tensor:
        """(V, C) float, video-level labels, at the device of the features."""
        return torch.tensor(self.weak.multi_hot(), device=self.bank.data.device)

    @cached_property
    def labelled(self) -> int:
        """In how many videos a class is known to occur."""
        return int(self.weak.multi_hot().any(axis=1).sum())

    @cached_property
    def known(self) -> Tensor | None:
        """(V, C) bool, see `Batch`, at the device of the features."""
        known = self.weak.known
        return None if known is None else torch.tensor(known, device=self.bank.data.device)

    def known_of(self, video: np.ndarray) -> Tensor | None:
        """`known` of some videos, (B, C)."""
        return None if self.known is None else self.known[torch.from_numpy(np.asarray(video))]

    def rng(self, *key: int) -> np.random.Generator:
        """A random generator that depends on the seed and the key only (stage, step, epoch, ...).

        Nothing has to be saved to resume: the choices of step 17 are those of step 17.
        """
        return np.random.default_rng([self.seed, *key])

    def order(self, *key: int) -> np.ndarray:
        """A random order of all videos, (V,), that of `rng(*key)`; made once for the steps of an epoch."""
        return _permutation(len(self), self.seed, *key).copy()

    def shuffled(self, step: int, batch_size: int, *key: int, drop_last: bool = False) -> np.ndarray:
        """The videos of step `step` when every epoch is a new permutation: (B,) or fewer in a last batch."""
        per_epoch = self.steps_per_epoch(batch_size, drop_last=drop_last)
        epoch, place = divmod(step, per_epoch)
        return self.order(0x0DE4, *key, epoch)[place * batch_size : (place + 1) * batch_size]

    def steps_per_epoch(self, batch_size: int, *, drop_last: bool = False) -> int:
        """Batches in a pass over all videos, at least one."""
        n = len(self)
        return max(1, n // batch_size if drop_last else -(-n // batch_size))

    def lengthened(self, steps: int) -> int:
        """The steps of a schedule that counts steps, `steps` where every video has a label.

        Videos without any action come on top: as many more steps as let the others be seen as often as
        without them. A schedule that counts epochs does so by itself.
        """
        return -(-steps * len(self) // self.labelled) if self.labelled else steps

    def batch(self, video: np.ndarray, features: Tensor) -> Batch:
        """Videos with `features` (B, S, D) that were sampled evenly from each; all S rows count."""
        size = features.shape[1]
        return Batch(
            features,
            torch.full((len(video),), size, device=features.device),
            self.labels[torch.from_numpy(video)],
            tuple(self.bank.names[v] for v in video),
            tuple(self.bank.axes[v].resampled(size) for v in video),
            known=self.known_of(video),
        )

    def packed(self, video: np.ndarray) -> tuple[Batch, Tensor]:
        """Whole videos without padding: a batch without features, and the rows of its videos (N, D)."""
        return self.without_features(video), self.bank.packed(video)

    def without_features(self, video: np.ndarray) -> Batch:
        """Whole videos whose features are empty, (B, 0, D), as they stand elsewhere in the batch."""
        return Batch(
            self.bank.data.new_empty(len(video), 0, self.bank.dim),
            torch.from_numpy(self.bank.lengths[video]).to(self.bank.data.device),
            self.labels[torch.from_numpy(video)],
            tuple(self.bank.names[v] for v in video),
            tuple(self.bank.axes[v] for v in video),
            known=self.known_of(video),
        )

    def clicks(self, video: np.ndarray) -> Tensor:
        """Clicks of packed videos as (N, C) 0 or 1; a click's snippet is its position rounded down."""
        lengths = self.bank.lengths[video]
        out = torch.zeros(int(lengths.sum()), len(self.weak.classes))
        for v, n, first in zip(video, lengths, np.cumsum(lengths) - lengths, strict=True):
            points = self.weak.videos[v].points
            if points is not None and len(points):
                # half a microsecond keeps a click on a snippet's first frame there after conversions
                at = np.floor(self.bank.axes[v].positions_at(points.time + 5e-7)).astype(np.int64)
                out[first + np.clip(at, 0, n - 1), points.label] = 1
        return out.to(self.bank.data.device)

    def whole(self, video: np.ndarray) -> Batch:
        """Whole videos as a padded batch."""
        whole = whole_videos(self.bank, video, self.labels[torch.from_numpy(np.asarray(video))])
        return replace(whole, known=self.known_of(video))


def whole_videos(bank: FeatureBank, video: np.ndarray, labels: Tensor) -> Batch:
    """Whole videos of a bank as a padded batch; `labels` (B, C)."""
    features, lengths = bank.padded(video)
    return Batch(
        features, lengths, labels, tuple(bank.names[i] for i in video), tuple(bank.axes[i] for i in video)
    )
