"""A student: a detector that regresses boundaries, learnt from what another method found.

What a weak method finds in the training videos becomes pseudo labels, as far as it fits what is known of
these videos: the classes that occur, or one segment a click. On these a small detector without anchors is
trained, in the manner of ActionFormer (Zhang et al., ECCV 2022) and TriDet (Shi et al., CVPR 2023): a
pyramid over time, at every position class scores and the distances to both boundaries. Noise that differs
from segment to segment does not survive the training, and in rounds the detector's own running average
teaches it again. At test time it is alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from weaktal.core import Detections, InputError, TimeAxis, WeakLabels
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import window_axis
from weaktal.localize.fusion import Scale
from weaktal.localize.nms import soft_nms
from weaktal.methods.proposals import rows_of
from weaktal.methods.protocol import Batch, Method, MethodConfig, Stage, TrainingData
from weaktal.nn.dropout import Dropout
from weaktal.nn.parallel import by_rows, paused
from weaktal.nn.temporal_conv import Conv1d

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class StudentConfig(MethodConfig):
    """All values are ours; there is no published code.

    Attributes:
        most: of the teacher's detections of a class in a video, so many of the highest score are looked at.
        quota: pseudo labels of a class in a video without clicks, at most; with clicks, one a click.
        least_score: of a pseudo label, as a share of the best of its class in the video.
        doubtful_score: detections between this and `least_score` are neither action nor background.
        overlap: tIoU from which the worse of two detections is no pseudo label of its own.
        unfound: what the rest of a video is for a class of which nothing was found there, or for which clicks
            have no segment of their own: "background", or "doubtful".
        vote: tIoU from which detections of the same action agree; their boundaries are averaged.
        least_agreement: of a pseudo label, see `agreed`; those with less are doubtful.
        hidden: width of the network.
        levels: of the pyramid; each has half the rows of the one before.
        reach: rows to each side that a block sees.
        bins: rows of a level that a boundary may be away.
        dropout: of the features.
        upsampling: rows of the student for one of the features.
        radius: of the middle of a segment, in rows of a level, within which positions are positive.
        focus: exponent of the focal loss.
        boundary_weight: of the boundary loss.
        rows: of the features that a training step sees of a video.
        steps: of a round.
        rounds: after the first the running average of the network is the teacher.
        momentum: of that running average, which is also what detects.
        batch_size, lr, weight_decay: AdamW.
        least_detection: of a detection's score.
        sigma: width of the soft suppression.
        detections: of a video, at most.
    """

    most: int = Field(200, ge=1)
    quota: int = Field(20, ge=1)
    least_score: float = Field(0.6, ge=0, le=1)
    doubtful_score: float = Field(0.2, ge=0, le=1)
    overlap: float = Field(0.2, ge=0, le=1)
    unfound: Literal["background", "doubtful"] = "background"
    vote: float = Field(0.5, gt=0, le=1)
    least_agreement: float = Field(0.0, ge=0, le=1)
    hidden: int = Field(256, ge=1)
    levels: int = Field(5, ge=1)
    reach: int = Field(3, ge=0)
    bins: int = Field(8, ge=4)
    dropout: float = Field(0.3, ge=0, lt=1)
    upsampling: int = Field(1, ge=1)
    radius: float = Field(1.5, gt=0)
    focus: float = Field(2.0, ge=0)
    boundary_weight: float = Field(1.0, ge=0)
    rows: int = Field(256, ge=1)
    steps: int = Field(1000, ge=1)
    rounds: int = Field(1, ge=1)
    momentum: float = Field(0.99, ge=0, lt=1)
    batch_size: int = Field(8, ge=1)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    least_detection: float = Field(1e-3, ge=0)
    sigma: float = Field(0.5, gt=0)
    detections: int = Field(200, ge=1)


# ---------------------------------------------------------------------------------------- pseudo labels


def tiou(start: FloatArray, end: FloatArray) -> FloatArray:
    """Of M segments of some length with each other, (M, M)."""
    common = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    size = end - start
    return np.asarray(np.maximum(common, 0) / (size[:, None] + size - common))


def picked_by_score(
    score: FloatArray, overlap: FloatArray, config: StudentConfig
) -> tuple[IntArray, FloatArray]:
    """What is taken of M detections where nobody has clicked, best first, and with which weight.

    Args:
        score: (M,) falling, in [0, 1].
        overlap: (M, M) tIoU.
        config: for quota and thresholds.
    """
    share = score / max(score.max(initial=0), 1e-9)
    free = share >= min(config.doubtful_score, config.least_score)
    taken = []
    for i in range(len(score)):
        if free[i]:
            taken.append(i)
            free &= overlap[i] < config.overlap
    rows = np.array(taken, np.int64)
    sure = share[rows] >= config.least_score
    return rows, np.where(sure & (np.arange(len(rows)) < config.quota), share[rows], 0.0)


def picked_by_clicks(start: FloatArray, end: FloatArray, time: FloatArray) -> tuple[IntArray, FloatArray]:
    """For each click the best of M detections that hold it, if any, rather one that holds no other click.

    Args:
        start, end: (M,) by falling score.
        time: (P,) clicks of the same class.
    """
    holds = (start <= time[:, None]) & (time[:, None] <= end)
    alone = holds & (holds.sum(0) == 1)
    fits = np.where(alone.any(1, keepdims=True), alone, holds)
    rows = np.unique([int(row.argmax()) for row in fits if row.any()]).astype(np.int64)
    return rows, np.ones(len(rows))


def agreed(
    rows: IntArray, start: FloatArray, end: FloatArray, score: FloatArray, overlap: FloatArray, vote: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Boundaries on which detections agree, and how far they do.

    The boundaries of a row are the mean of those that overlap it by `vote` or more, weighted by score times
    tIoU. Its agreement is their share among all that overlap it at all.
    """
    near = overlap[rows]
    weight = (score + 1e-6) * near
    voters = np.where(near >= vote, weight, 0)
    total = voters.sum(1)
    return voters @ start / total, voters @ end / total, total / weight.sum(1)


def pseudo_labels(
    found: Detections, bank: FeatureBank, weak: WeakLabels, config: StudentConfig
) -> Detections:
    """The teacher's detections that fit what is known of the training videos, with weights as scores.

    A weight is in [0, 1]: the share of the best score, or 1 for what was clicked, times `agreed`. What has
    none is doubtful, neither action nor background.

    Args:
        found: by the teacher, in seconds; scores of any scale.
        bank: the training videos.
        weak: their classes, and their clicks where there are any.
        config: which of them count.

    Returns:
        Video by video, in the order of the bank.

    Raises:
        InputError: none does.
    """
    scaled = Scale.of(found)(found)
    rows, video = rows_of(found, bank.names)
    edges = np.searchsorted(video, np.arange(len(bank) + 1))
    parts: list[tuple[NDArray[Any], ...]] = []
    for v, (axis, known) in enumerate(zip(bank.axes, weak.videos, strict=True)):
        own = rows[edges[v] : edges[v + 1]]
        own = own[np.minimum(found.end[own], axis.end) > np.maximum(found.start[own], axis.start)]
        for c in known.labels:
            of_class = own[found.label[own] == c]
            of_class = of_class[np.argsort(-scaled[of_class], kind="stable")][: config.most]
            start, end = (np.clip(x[of_class], axis.start, axis.end) for x in (found.start, found.end))
            score, overlap = scaled[of_class], tiou(start, end)
            if known.points is None:
                picked, weight = picked_by_score(score, overlap, config)
            else:
                picked, weight = picked_by_clicks(start, end, known.points.time[known.points.label == c])
            start, end, agreement = agreed(picked, start, end, score, overlap, config.vote)
            weight = weight * np.where(agreement >= config.least_agreement, agreement, 0)
            parts.append((np.full(len(picked), v), start, end, np.full(len(picked), c), weight))
            wanted = 1 if known.points is None else np.count_nonzero(known.points.label == c)
            if config.unfound == "doubtful" and np.count_nonzero(weight) < wanted:
                parts.append(tuple(np.array([x]) for x in (v, axis.start, axis.end, c, 0.0)))
    if not any(weight.any() for *_, weight in parts):
        raise InputError(
            "no detection of the teacher fits the labels of a training video",
            found=f"{len(found)} detections, in " + ", ".join(found.names[:3]),
            expected=", ".join(bank.names[:3]),
            hint="detections in the training videos are wanted: weaktal localize TEACHER --subset train",
        )
    columns = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Detections(bank.names, weak.classes, *columns)


# ---------------------------------------------------------------------------------------------- network


def upsampled(x: Tensor, lengths: Tensor, ratio: int) -> Tensor:
    """`ratio` rows for each of padded videos (B, T, D), interpolated between the middles of the rows."""
    if ratio == 1:
        return x
    place = (torch.arange(x.shape[1] * ratio, device=x.device, dtype=x.dtype) + 0.5) / ratio - 0.5
    place = place.clamp(min=0).minimum((lengths[:, None] - 1).to(x.dtype))
    low = place.floor().long()
    high = (low + 1).minimum(lengths[:, None] - 1)
    rows = torch.arange(len(x), device=x.device)[:, None]
    return torch.lerp(x[rows, low], x[rows, high], (place - low)[..., None])


class Block(nn.Module):
    """What a row sees of its neighbours and of its whole video; then a small network for each row."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.norm, self.norm_rows = nn.LayerNorm(width), nn.LayerNorm(width)
        self.around = nn.Conv1d(width, width, 2 * reach + 1, padding=reach, groups=width)
        self.whole = nn.Linear(width, width)
        self.rows = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` (B, T, H), `mask` (B, T, 1) 1 at rows that count."""
        h = self.norm(x) * mask
        whole = self.whole(h.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)).relu()
        x = x + self.around(h.transpose(1, 2)).transpose(1, 2) + whole * h
        return (x + self.rows(self.norm_rows(x))) * mask  # type: ignore[no-any-return]


class Head(nn.Module):
    """Two convolutions, the same for all levels."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.hidden, self.norm = Conv1d(width, width, 3), nn.LayerNorm(width)
        self.last = Conv1d(width, outputs, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.last(self.norm(self.hidden(x)).relu() * mask)  # type: ignore[no-any-return]


def expected_distance(response: Tensor, place: Tensor) -> Tensor:
    """How far before each row the boundary is, as TriDet has it: the mean over the rows before.

    A row's probability comes from its own response to a boundary, and from what the asking row says of a
    boundary so far away.

    Args:
        response: (B, T) of each row.
        place: (B, T, N + 1) of distances 0 to N.

    Returns:
        (B, T) in [0, N].
    """
    bins = place.shape[2] - 1
    before = F.pad(response, (bins, 0)).unfold(1, bins + 1, 1).flip(2)
    return (before + place).softmax(2) @ torch.arange(bins + 1, device=place.device, dtype=place.dtype)


class Output(NamedTuple):
    """Of all P positions of all levels: class logits (B, P, C), distances to start and end (B, P, 2) in
    rows of the level, and which positions count (B, P)."""

    classes: Tensor
    distance: Tensor
    counts: Tensor


class Pyramid(nn.Module):
    """The detector: features (B, T, D) to `Output`; of T rows, upsampled, the levels have T, T / 2, ..."""

    def __init__(self, dim: int, classes: int, config: StudentConfig) -> None:
        super().__init__()
        width, self.ratio, self.levels = config.hidden, config.upsampling, config.levels
        self.dropout = Dropout(config.dropout)
        self.stem, self.norm = Conv1d(dim, width, 3), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.reach) for _ in range(self.levels))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(self.levels))
        self.classifier, self.regressor = Head(width, classes), Head(width, 2 * config.bins + 4)
        assert self.classifier.last.bias is not None
        nn.init.constant_(self.classifier.last.bias, -4.6)  # scores of 0.01: nearly all is background

    def forward(self, features: Tensor, lengths: Tensor) -> Output:
        x = self.dropout(features)
        x = upsampled(x, lengths, self.ratio)
        lengths = lengths * self.ratio
        step = 2 ** (self.levels - 1)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % step))
        mask = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None].to(x.dtype)
        x = self.norm(self.stem(x * mask)).relu() * mask
        outputs = []
        for level, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            if level:
                x = F.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
                mask = mask[:, ::2]
                x = x * mask
            x = block(x, mask)
            h = norm(x) * mask
            start, end = (self.regressor(h, mask) * mask).chunk(2, dim=2)
            to_start = expected_distance(start[..., 0], start[..., 1:])
            to_end = expected_distance(end[..., 0].flip(1), end[..., 1:].flip(1)).flip(1)
            distance = torch.stack([to_start, to_end], 2)
            outputs.append(Output(self.classifier(h, mask), distance, mask[..., 0] > 0))
        return Output(*(torch.cat(column, 1) for column in zip(*outputs, strict=True)))

    def positions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Where the P positions of `Output` are, and the rows of their levels, in snippets, (P,) each."""
        step = 2 ** (self.levels - 1)
        rows = -(-features.shape[1] * self.ratio // step) * step
        counts, sizes = zip(*((rows >> i, 2**i / self.ratio) for i in range(self.levels)), strict=True)
        place = [
            (torch.arange(n, device=features.device) + 0.5) * x for n, x in zip(counts, sizes, strict=True)
        ]
        stride = [torch.full((n,), x, device=features.device) for n, x in zip(counts, sizes, strict=True)]
        return torch.cat(place), torch.cat(stride)


# ----------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class StudentBatch(Batch):
    """Stretches of B videos with the pseudo labels in them, K at most; beyond them the labels are padding.

    Attributes:
        segment: (B, K, 2) start and end, in snippets of the stretch; equal in the padding.
        label: (B, K) class.
        weight: (B, K), see `pseudo_labels`.
    """

    segment: Tensor
    label: Tensor
    weight: Tensor


class Targets(NamedTuple):
    """What positions shall say.

    Attributes:
        classes: (B, P, C) 0 or 1.
        class_weight: (B, P, C) of the class loss.
        distance: (B, P, 2) to start and end of the position's segment, in rows of the level.
        weight: (B, P) of the boundary loss; 0 at positions without a segment.
    """

    classes: Tensor
    class_weight: Tensor
    distance: Tensor
    weight: Tensor


def targets(batch: StudentBatch, place: Tensor, stride: Tensor, classes: int, radius: float) -> Targets:
    """Which positions are positive, for which segment.

    A position near the middle of a segment is, at the level that fits the segment's length; of several such
    segments it takes the shortest. Within doubtful segments no position is asked for their class.

    Args:
        batch: with K pseudo labels a video.
        place, stride: (P,) of `Pyramid.positions`.
        classes: C.
        radius: see `StudentConfig`.
    """
    to_start = place[:, None] - batch.segment[:, None, :, 0]  # (B, P, K)
    to_end = batch.segment[:, None, :, 1] - place[:, None]
    inside = (to_start > 0) & (to_end > 0)
    # a level takes segments whose farther boundary is 2 to 4 rows away, the first and last all beyond
    far = torch.maximum(to_start, to_end) / stride[:, None]
    lowest, highest = stride == stride[0], stride == stride[-1]
    fits = ((far >= 2) | lowest[:, None]) & ((far < 4) | highest[:, None])
    central = (to_start - to_end).abs() / 2 <= radius * stride[:, None]
    sure = (batch.weight > 0)[:, None]
    positive = inside & fits & central & sure
    length = torch.where(positive, to_start + to_end, torch.inf)
    shortest = length.argmin(2, keepdim=True)
    chosen = positive.any(2)
    one_hot = F.one_hot(batch.label, classes).to(place.dtype)  # (B, K, C)
    mine = one_hot[torch.arange(len(one_hot), device=place.device)[:, None], shortest[..., 0]]
    target = mine * chosen[..., None]
    weight = batch.weight[:, None].expand_as(to_start).gather(2, shortest)[..., 0] * chosen
    doubtful = (inside & ~sure).to(place.dtype) @ one_hot > 0
    class_weight = torch.where(target > 0, weight[..., None], (~doubtful).to(place.dtype))
    distance = torch.cat([to_start.gather(2, shortest), to_end.gather(2, shortest)], 2) / stride[:, None]
    return Targets(target, class_weight, distance, weight)


def focal_loss(logits: Tensor, target: Tensor, focus: float) -> Tensor:
    """Sigmoid focal loss (Lin et al., 2017), element by element; a quarter of the weight on the positives."""
    p = logits.sigmoid()
    missed = torch.where(target > 0, 1 - p, p)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * missed**focus
    return loss * torch.where(target > 0, 0.25, 0.75)


def diou_loss(distance: Tensor, target: Tensor) -> Tensor:
    """1 - tIoU plus the squared distance of the middles as a share of what both cover (Zheng et al., 2020).

    Of segments around the same position, by their distances to start and end, (..., 2); (...).
    """
    common = torch.minimum(distance, target).sum(-1)
    whole = torch.maximum(distance, target).sum(-1)
    union = distance.sum(-1) + target.sum(-1) - common
    apart = ((distance[..., 1] - distance[..., 0]) - (target[..., 1] - target[..., 0])) / 2
    return 1 - common / union.clamp(min=1e-6) + (apart / whole.clamp(min=1e-6)) ** 2


# ------------------------------------------------------------------------------------------- the method


class Student(Method):
    """The student; see the module's docstring. `data.proposals` are its teacher's detections."""

    name: ClassVar[str] = "student"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config: ClassVar[type[MethodConfig]] = StudentConfig
    base: ClassVar[str | None] = "asm_loc"
    base_at_test: ClassVar[bool] = False
    config: StudentConfig

    def __init__(self, config: StudentConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.network = Pyramid(dim, len(self.classes), config)
        self.average = deepcopy(self.network).requires_grad_(False)
        self.labels: Detections | None = None

    def training_step(self, batch: StudentBatch) -> dict[str, Tensor]:
        config = self.config
        output: Output = by_rows(self.network, batch.features, batch.lengths)
        place, stride = self.network.positions(batch.features)
        target = targets(batch, place, stride, len(self.classes), config.radius)
        focal = focal_loss(output.classes.float(), target.classes, config.focus) * target.class_weight
        diou = diou_loss(output.distance.float(), target.distance) * target.weight
        if batch.known is not None:
            focal = focal * batch.known[:, None]
        positives = (target.classes * target.class_weight).sum().clamp(min=1)
        losses = {
            "classes": (focal * output.counts[..., None]).sum() / positives,
            "boundaries": diou.sum() / positives,
        }
        losses["total"] = losses["classes"] + config.boundary_weight * losses["boundaries"]
        return losses

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size)
        steps = data.lengthened(self.config.steps)
        return [Stage(f"round{r + 1}", steps, epoch) for r in range(self.config.rounds)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        found = self.taught_again(data) if stage else data.proposals
        if found is None:
            raise InputError(
                "the student learns from a teacher's detections, and there are none",
                hint="name a file of its detections in the training videos with --proposals",
            )
        self.labels = pseudo_labels(found, data.bank, data.weak, self.config)

    @torch.no_grad()
    def taught_again(self, data: TrainingData) -> Detections:
        """What the running average finds in the training videos."""
        self.eval()
        with paused():
            parts = [self.detect(data.whole(np.array([v]))) for v in range(len(data))]
        self.train()
        return Detections.concatenate(parts, self.classes)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.AdamW(self.network.parameters(), lr=c.lr, weight_decay=c.weight_decay)

    @torch.no_grad()
    def before_step(self, stage: int, step: int, data: TrainingData) -> None:
        done = stage * data.lengthened(self.config.steps) + step
        share = 1 - min(self.config.momentum, (1 + done) / (10 + done))  # at first there is little to keep
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, share)

    def draw(self, stage: int, step: int, data: TrainingData) -> StudentBatch:
        video = data.shuffled(step, self.config.batch_size, stage)
        length = data.bank.lengths[video]
        count = np.minimum(length, self.config.rows)
        rng = data.rng(0x57D, stage, step)
        first = np.floor(rng.random(len(video)) * (length - count + 1)).astype(np.int64)
        rows = np.minimum(first[:, None] + np.arange(count.max()), (first + count - 1)[:, None])
        features = data.bank.rows(video, rows)
        axes = [window_axis(data.bank.axes[v], *at) for v, *at in zip(video, first, count, strict=True)]
        shown = [self.stretch(v, axis) for v, axis in zip(video, axes, strict=True)]
        return StudentBatch(
            features,
            torch.from_numpy(count).to(features.device),
            data.labels[torch.from_numpy(video)],
            tuple(data.bank.names[v] for v in video),
            tuple(axes),
            *(_padded(x).to(features.device) for x in zip(*shown, strict=True)),
            known=data.known_of(video),
        )

    def stretch(self, video: int, axis: TimeAxis) -> tuple[Tensor, ...]:
        """The pseudo labels in a stretch of a video, as `StudentBatch` has them.

        One that shows by less than half is doubtful there.
        """
        assert self.labels is not None
        known = self.labels[slice(*np.searchsorted(self.labels.video, [video, video + 1]))]
        segment = axis.positions_at(np.stack([known.start, known.end], 1))
        shown = np.diff(segment.clip(0, axis.length))[:, 0] >= np.diff(segment)[:, 0] / 2
        columns = segment.astype(np.float32), known.label, (known.score * shown).astype(np.float32)
        return tuple(torch.from_numpy(x) for x in columns)

    def artifacts(self) -> dict[str, Detections]:
        """The pseudo labels of the last round; a score is a weight."""
        return {} if self.labels is None else {"pseudo_labels": self.labels}

    def training_state(self) -> dict[str, Any]:
        if self.labels is None:
            return {}
        columns = ("video", "start", "end", "label", "score")
        tensors = {name: torch.from_numpy(getattr(self.labels, name)) for name in columns}
        return {"names": list(self.labels.names), **tensors}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        columns = {k: v if k == "names" else v.cpu().numpy() for k, v in state.items()}
        self.labels = Detections(classes=self.classes, **columns) if state else None

    # inference

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """Detections of the running average in whole videos."""
        config = self.config
        batch = batch.to(next(self.parameters()).device)
        output: Output = self.average(batch.features, batch.lengths)
        place, stride = self.average.positions(batch.features)
        parts = []
        for v, (name, axis) in enumerate(zip(batch.names, batch.axes, strict=True)):
            score = output.classes[v].float().sigmoid() * output.counts[v, :, None]
            best, at = score.flatten().topk(min(10 * config.detections, score.numel()))
            best, at = best[best >= config.least_detection], at[best >= config.least_detection]
            row, label = at // score.shape[1], (at % score.shape[1]).cpu().numpy()
            distance = output.distance[v, row].float() * stride[row, None]
            borders = torch.stack([place[row] - distance[:, 0], place[row] + distance[:, 1]])
            start, end = borders.clamp(min=0).minimum(batch.lengths[v]).double().cpu().numpy()
            kept, kept_score = soft_nms(
                start, end, best.cpu().numpy(), sigma=config.sigma, plus_one=False, group=label
            )
            order = np.argsort(-kept_score, kind="stable")[: config.detections]
            order = order[(end > start)[kept[order]]]
            chosen, kept_score = kept[order], kept_score[order]
            columns = axis.seconds_at(start[chosen]), axis.seconds_at(end[chosen]), label[chosen], kept_score
            parts.append(Detections.in_video(name, self.classes, *columns))
        return Detections.concatenate(parts, self.classes)


def _padded(x: Sequence[Tensor]) -> Tensor:
    """B tensors (K, ...) as one; where all are empty there is a row of padding."""
    return pad_sequence([*x, x[0].new_zeros(1, *x[0].shape[1:])], batch_first=True)[:-1]
