"""P-MIL: Proposal-Based Multiple Instance Learning, Ren et al., CVPR 2023.

A second look at the segments of any video-level locator, learnt from the videos' labels. Whole segments are
the instances: in each of two streams, RGB and flow, a small network says what class a segment shows, how much
it counts, and how complete it is. The streams teach each other: by how they rank segments that overlap, and
by which segments the other one trusts most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from weaktal.core import Detections
from weaktal.localize.nms import nms, soft_nms
from weaktal.methods.proposals import (
    ProposalNetwork,
    ProposalOutput,
    Proposals,
    SegmentFeatures,
    batch_proposals,
    packed_features,
    segment_outputs,
    training_proposals,
)
from weaktal.methods.protocol import Batch, Method, MethodConfig, Stage, TrainingData
from weaktal.methods.published import shape_of
from weaktal.nn.labels import among_known
from weaktal.nn.parallel import by_rows
from weaktal.nn.pooling import mean_of_chosen, mean_per_video, packed_topk_mean, row_table

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Streams = tuple[ProposalOutput, ProposalOutput]  # RGB and flow


class PMILConfig(MethodConfig):
    """Published values as defaults (THUMOS14).

    Attributes:
        roi_size: bins per segment; a sixth on each side is context. At least 6.
        dropout: after the fusion of a segment's features.
        topk: a video's class logit is the mean of the largest M / `topk` of its M segments.
        pseudo_threshold: segments with more than this share of the other stream's largest attention may
            become pseudo instances.
        ramp_up: epochs in which the weights of consistency and completeness rise; 0: full from the start.
        video_weight, attended_weight, consistency_weight, completeness_weight: of the losses.
        epochs, batch_size, lr, weight_decay: Adam with L2 weight decay.
        max_proposals: segments of a video that a training step uses, drawn anew each time.
        cache_gib: see `SegmentFeatures`.
        class_threshold: classes with a lower video score are not localized (the best one always is).
        video_score_weight: share of the video score in a detection's score.
        sigma: width of the soft suppression.
        drop_empty: leave out segments without length. In the published code such a one is ranked among all
            segments of its video.
        nms_plus_one: quirk: the overlap in the suppression counts one snippet more.
    """

    roi_size: int = Field(12, ge=6)
    dropout: float = Field(0.5, ge=0, lt=1)
    topk: int = Field(8, ge=1)
    pseudo_threshold: float = Field(0.8, ge=0, lt=1)
    ramp_up: int = Field(30, ge=0)
    video_weight: float = 2.0
    attended_weight: float = 1.0
    consistency_weight: float = 2.0
    completeness_weight: float = 20.0
    epochs: int = Field(200, ge=1)
    batch_size: int = Field(10, ge=1)
    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    max_proposals: int = Field(1000, ge=1)
    cache_gib: float = Field(4.0, ge=0)
    class_threshold: float = 0.2
    video_score_weight: float = 0.2
    sigma: float = Field(0.3, gt=0)
    drop_empty: bool = False
    nms_plus_one: bool = True


# ----------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class PMILBatch(Batch):
    """Segments of B videos (N in all); they stand in the place of snippet features.

    Attributes:
        parts: (N, 3, D), see `segment_parts`.
        video: (N,) place in the batch.
        counts: (B,) segments of each video.
        table: (B, M) where the segments of each video stand, see `row_table`.
        segment: (N, 2) float32 start and end, in snippets.
        pair: (2, K) the segments that overlap, both ways and each with itself; one that overlaps nothing is
            paired with all of its video.
        overlap: (K,) their tIoU.
        ramp: () share of the full weight of consistency and completeness.
    """

    parts: Tensor
    video: Tensor
    counts: Tensor
    table: Tensor
    segment: Tensor
    pair: Tensor
    overlap: Tensor
    ramp: Tensor


def video_loss(logits: Tensor, batch: PMILBatch, background: bool, topk: int) -> Tensor:
    """Cross-entropy of a video's class logits, each the mean over its best segments; (B,).

    Args:
        logits: (N, C + 1) of segments, background last.
        batch: for labels and layout.
        background: whether the label holds background, too.
        topk: 1 / `topk` of the segments count.
    """
    video_logits = packed_topk_mean(logits, batch.counts, batch.table, topk)
    target = F.pad(batch.labels, (0, 1), value=float(background))
    target = target / (target.sum(1, keepdim=True) + 1e-4)
    loss = -(target * among_known(video_logits.log_softmax(1), batch.known)).sum(1)
    return torch.where(batch.counts > 0, loss, 0)


def segment_log_softmax(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """Logarithm of the softmax of (K, C) values within each group of rows."""
    index = group[:, None].expand_as(x)
    top = x.new_full((groups, x.shape[1]), -torch.inf).scatter_reduce(0, index, x.detach(), "amax")
    shifted = x - top[group]
    return shifted - x.new_zeros(groups, x.shape[1]).index_add(0, group, shifted.exp()).log()[group]


def consistency(student: ProposalOutput, teacher: ProposalOutput, batch: PMILBatch) -> Tensor:
    """Both streams shall rank segments that overlap alike, for each labelled class, (B,).

    Kullback-Leibler divergence of the student's softmax over what overlaps a segment from the teacher's; over
    segments whose attention, by the teacher, is above the video's mean. No gradient for the teacher.
    """
    one, other = batch.pair
    rows, videos = len(batch.video), len(batch)
    q = segment_log_softmax(teacher.classes.detach()[:, :-1].float()[other], one, rows)
    p = segment_log_softmax(student.classes[:, :-1].float()[other], one, rows)
    divergence = q.new_zeros(rows, q.shape[1]).index_add(0, one, q.exp() * (q - p))
    attention = teacher.attention.detach().sigmoid()
    trusted = attention > mean_per_video(attention, batch.video, videos)[batch.video]
    labelled = (divergence * batch.labels[batch.video]).sum(1)
    mean = mean_of_chosen(labelled, trusted, batch.video, videos)
    return mean / batch.labels.sum(1).clamp(min=1)


def pseudo_instances(
    segment: NDArray[np.float32], attention: NDArray[np.float32], video: IntArray, threshold: float
) -> IntArray:
    """The segments that are taken for instances, video by video, by falling attention.

    Of those with more than `threshold` times the video's largest attention the best is taken, all that
    overlap it are left out, and so on.

    Args:
        segment: (N, 2) start and end.
        attention: (N,) in [0, 1].
        video: (N,) ascending.
        threshold: share of the largest attention.
    """
    top = np.zeros(int(video.max(initial=-1)) + 1, np.float32)
    np.maximum.at(top, video, attention)
    rows = np.flatnonzero(attention > np.float32(threshold) * top[video])[
        ::-1
    ]  # of equals the first is better
    start, end = segment[rows].T.astype(np.float64)
    least = np.nextafter(0, 1)
    return rows[nms(start, end, attention[rows], least, plus_one=False, group=video[rows])]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a search, in NumPy
def are_pseudo_instances(batch: PMILBatch, attention: Tensor, threshold: float) -> Tensor:
    """(N,) 1 for `pseudo_instances`, else 0."""
    segment, weight, video = (x.cpu().numpy() for x in (batch.segment, attention, batch.video))
    found = pseudo_instances(segment, weight, video, threshold)
    out = batch.overlap.new_zeros(len(video))
    out[torch.from_numpy(found).to(out.device)] = 1
    return out


def completeness_loss(completeness: Tensor, attention: Tensor, batch: PMILBatch, threshold: float) -> Tensor:
    """Squared error of completeness from the tIoU with the nearest pseudo instance, (B,).

    A video in which nothing occurs has no instance.

    Args:
        completeness: (N,) in [0, 1], of one stream.
        attention: (N,) in [0, 1], of the other one, without gradient.
        batch: for segments and layout.
        threshold: see `pseudo_instances`.
    """
    one, other = batch.pair
    chosen = are_pseudo_instances(batch, attention, threshold) * ~batch.empty[batch.video]
    target = torch.zeros_like(chosen).scatter_reduce(0, one, batch.overlap * chosen[other], "amax")
    return mean_per_video((completeness - target) ** 2, batch.video, len(batch))


def ramp(epoch: int, length: int) -> float:
    """Share of the full weight in an epoch, counted from 1: rises as a Gaussian over `length` epochs."""
    return 1.0 if not length else float(np.exp(-5 * (1 - np.clip(epoch, 0, length) / length) ** 2))


# ------------------------------------------------------------------------------------------- the method


def overlapping(segment: NDArray[np.float32]) -> tuple[IntArray, NDArray[np.float32]]:
    """The pairs of segments (M, 2) of a video, (2, K), as `PMILBatch` has them, and their tIoU."""
    start, end = segment.T
    common = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    size = end - start
    tiou = np.maximum(common / (size[:, None] + size - common + np.float32(1e-6)), 0).astype(np.float32)
    paired = tiou > 0
    paired |= ~paired.any(1, keepdims=True)
    one, other = np.nonzero(paired)
    return np.stack([one, other]), tiou[one, other]


class _Prepared:
    """What a training set gives once: segments, what they show, and which of them overlap."""

    def __init__(self, data: TrainingData, config: PMILConfig) -> None:
        self.data = data
        self.proposals = training_proposals("P-MIL", data.proposals, data.bank, drop_empty=config.drop_empty)
        self.parts = SegmentFeatures(data.bank, self.proposals, config.roi_size, config.cache_gib)
        self.segment = np.stack([self.proposals.start, self.proposals.end], 1).astype(np.float32)
        self.overlapping = lru_cache(maxsize=None)(self._overlapping)

    def _overlapping(self, video: int) -> tuple[IntArray, NDArray[np.float32]]:
        """Of all segments of a video."""
        return overlapping(self.segment[self.proposals.offsets[video] : self.proposals.offsets[video + 1]])


class PMIL(Method):
    """P-MIL; see the module's docstring. `data.proposals` are the segments it learns from."""

    name: ClassVar[str] = "p_mil"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config: ClassVar[type[MethodConfig]] = PMILConfig
    base: ClassVar[str | None] = "asm_loc"
    two_streams: ClassVar[bool] = True
    config: PMILConfig

    def __init__(self, config: PMILConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.prop_v_backbone, self.prop_f_backbone = (
            ProposalNetwork(dim // 2, len(self.classes), config.dropout) for _ in range(2)
        )
        self._prepared: _Prepared | None = None

    def forward(self, parts: Tensor) -> Streams:
        """Parts (N, 3, D) of segments."""
        rgb, flow = parts.chunk(2, dim=2)
        return self.prop_v_backbone(rgb), self.prop_f_backbone(flow)

    def training_step(self, batch: PMILBatch) -> dict[str, Tensor]:
        config = self.config
        losses = {
            name: x.mean() for name, x in self.losses(by_rows(self.forward, batch.parts), batch).items()
        }
        losses["total"] = (
            config.video_weight * losses["video"]
            + config.attended_weight * losses["attended"]
            + batch.ramp * config.consistency_weight * losses["consistency"]
            + batch.ramp * config.completeness_weight * losses["completeness"]
        )
        return losses

    def losses(self, streams: Streams, batch: PMILBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,), the mean of both streams."""
        of_rgb, of_flow = streams
        rgb, flow = self.stream_losses(of_rgb, of_flow, batch), self.stream_losses(of_flow, of_rgb, batch)
        return {name: (rgb[name] + flow[name]) / 2 for name in rgb}

    def stream_losses(
        self, stream: ProposalOutput, other: ProposalOutput, batch: PMILBatch
    ) -> dict[str, Tensor]:
        """Of one stream, (B,) each; `other` teaches it."""
        config = self.config
        attended = stream.classes * stream.attention.sigmoid()[:, None]
        return {
            "video": video_loss(stream.classes, batch, True, config.topk),
            "attended": video_loss(attended, batch, False, config.topk),
            "consistency": consistency(stream, other, batch),
            "completeness": completeness_loss(
                stream.quality.sigmoid(),
                other.attention.detach().float().sigmoid(),
                batch,
                config.pseudo_threshold,
            ),
        }

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size, drop_last=True)
        return [Stage("train", self.config.epochs * epoch, epoch)]

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def prepared(self, data: TrainingData) -> _Prepared:
        """Segments of the training set, computed at the first call."""
        if self._prepared is None or self._prepared.data is not data:
            self._prepared = _Prepared(data, self.config)
        return self._prepared

    def draw(self, stage: int, step: int, data: TrainingData) -> PMILBatch:
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        epoch = 1 + step // data.steps_per_epoch(self.config.batch_size, drop_last=True)
        known, most = self.prepared(data), self.config.max_proposals
        offsets, rng = known.proposals.offsets, data.rng(0x504D, stage, step)
        rows, pairs = [], []
        for v in video:
            of_video = np.arange(offsets[v], offsets[v + 1])
            if len(of_video) > most:
                of_video = np.sort(rng.permutation(of_video)[:most])
                pairs.append(overlapping(known.segment[of_video]))
            else:
                pairs.append(known.overlapping(int(v)))
            rows.append(of_video)
        every = np.concatenate(rows)
        return self.batch_of(
            data.without_features(video),
            known.parts(every),
            known.segment[every],
            [len(r) for r in rows],
            pairs,
            ramp(epoch, self.config.ramp_up),
        )

    def batch_of(
        self,
        videos: Batch,
        parts: Tensor,
        segment: NDArray[np.float32],
        counts: Sequence[int],
        pairs: Sequence[tuple[IntArray, NDArray[np.float32]]],
        share: float,
    ) -> PMILBatch:
        """See `PMILBatch`; pairs come video by video, counted within the video."""
        first = np.cumsum([0, *counts[:-1]])
        pair = np.concatenate([one + begin for (one, _), begin in zip(pairs, first, strict=True)], axis=1)
        video = np.repeat(np.arange(len(counts)), counts)
        # one column more, so that there is one
        table = F.pad(row_table(torch.tensor(counts)), (0, 1), value=len(video))
        more = {
            "video": video,
            "counts": np.array(counts),
            "table": table.numpy(),
            "segment": segment,
            "pair": pair,
            "overlap": np.concatenate([x for _, x in pairs]),
            "ramp": np.array(share, np.float32),
        }
        at_device: dict[str, Any] = {k: torch.from_numpy(x).to(parts.device) for k, x in more.items()}
        return PMILBatch(**vars(videos), parts=parts, **at_device)

    # inference

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """Detections among the proposals of a `ProposalBatch`.

        Raises:
            InputError: the batch carries no proposals.
        """
        proposals = batch_proposals("P-MIL", batch)
        found = Proposals.of(proposals, batch.names, batch.axes, drop_empty=self.config.drop_empty)
        of_rows = partial(found.parts, *packed_features(batch), batch.lengths, self.config.roi_size)

        def both(parts: Tensor) -> tuple[Tensor, ...]:
            rgb, flow = self.forward(parts)
            return *rgb, *flow

        columns = [x.float().cpu() for x in segment_outputs(both, of_rows, len(found))]
        streams = columns[:3], columns[3:]
        parts = []
        for v, (name, axis) in enumerate(zip(batch.names, batch.axes, strict=True)):
            of_video = slice(found.offsets[v], found.offsets[v + 1])
            own = [ProposalOutput(*(x[of_video] for x in stream)) for stream in streams]
            start, end, label, score = self.localize(found.start[of_video], found.end[of_video], own)
            seconds = axis.seconds_at(start), axis.seconds_at(end)
            video = np.zeros(len(start), np.int64)
            parts.append(Detections((name,), self.classes, video, *seconds, label, score))
        return Detections.concatenate(parts, self.classes)

    def localize(
        self,
        start: NDArray[np.floating[Any]],
        end: NDArray[np.floating[Any]],
        streams: Sequence[ProposalOutput],
    ) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
        """Scored and softly suppressed segments of one video.

        Args:
            start, end: (M,) in snippets.
            streams: what both say about them.

        Returns:
            start, end (in snippets), class and score; every segment once per chosen class.
        """
        none = np.empty(0)
        if not len(start):
            return none, none, np.empty(0, np.int64), none
        probability, attention, completeness, video = self.read(streams)
        chosen = np.nonzero(video >= self.config.class_threshold)[0]
        if not len(chosen):
            chosen = np.array([int(np.argmax(video))])
        own = (probability * (attention * completeness)[:, None])[:, chosen].T.astype(np.float64)
        score = own + self.config.video_score_weight * video[chosen].astype(np.float64)[:, None]
        group = np.repeat(np.arange(len(chosen)), len(start))
        starts, ends = (np.tile(x.astype(np.float64), len(chosen)) for x in (start, end))
        rows, score = soft_nms(
            starts,
            ends,
            score.reshape(-1),
            sigma=self.config.sigma,
            plus_one=self.config.nms_plus_one,
            group=group,
        )
        return starts[rows], ends[rows], chosen[group[rows]], score

    def read(self, streams: Sequence[ProposalOutput]) -> tuple[NDArray[np.float32], ...]:
        """Class probabilities (M, C), attention (M,), completeness (M,), and the class scores (C,)."""
        rgb, flow = streams
        probability = (rgb.classes.softmax(1) + flow.classes.softmax(1))[:, :-1] / 2
        attention = (rgb.attention.sigmoid() + flow.attention.sigmoid()) / 2
        completeness = (rgb.quality.sigmoid() + flow.quality.sigmoid()) / 2
        video = (probability * attention[:, None]).sum(0) / (attention.sum() + 1e-6)
        return tuple(x.numpy() for x in (probability, attention, completeness, video))

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        half, _ = shape_of(weights, "prop_v_backbone.prop_fusion.0.weight", 2)
        count, _, _ = shape_of(weights, "prop_v_backbone.prop_classifier.2.weight", 3)
        return 2 * half, count - 1, {}
