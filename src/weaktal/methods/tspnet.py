"""TSPNet: Realigning Confidence with Temporal Saliency Information, Xia et al., CVPR 2024.

A second look at the segments of any base locator. From the features inside and around a segment a small
network says which class it shows and how near its middle the clicked moment lies; the product ranks the
segments. In training the clicks move: confident segments vote for a better salient moment of their instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from weaktal.core import Detections
from weaktal.localize.boundary_adaptation import adapt_boundaries
from weaktal.localize.classes import likely_classes
from weaktal.localize.nms import soft_nms
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
from weaktal.nn.pooling import mean_per_video

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class TSPNetConfig(MethodConfig):
    """Published values as defaults."""

    roi_size: int = Field(12, ge=6, description="bins per segment; a sixth on each side is context")
    dropout: float = Field(0.5, ge=0, lt=1, description="after the fusion; published 0.5 whatever its option")
    background_center: float = Field(0.4, ge=0, le=1, description="centre label of segments without a click")
    center_weight: float = Field(20.0, description="of the centre loss")
    update_every: int = Field(200, ge=1, description="optimizer steps between updates of the salient points")
    update_threshold: float = Field(0.8, description="segments with a higher centre score vote")
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(10, ge=1)
    lr: float = Field(5e-5, gt=0)
    weight_decay: float = Field(1e-3, ge=0, description="L2 term inside Adam")
    max_proposals: int = Field(3000, ge=1, description="segments of a video in a step, drawn anew each time")
    cache_gib: float = Field(4.0, ge=0, description="features of segments are kept if they fit into this")
    class_threshold: float = Field(0.1, description="video score of localized classes, or else the best one")
    adapt_threshold: float = Field(0.4, ge=0, lt=1, description="IoU of the boundary adaptation's segments")
    sigma: float = Field(0.3, gt=0, description="width of the soft suppression")

    # quirks of the published code
    compound_shift: bool = Field(
        True, description="votes, from the moved point, are added to the click; without any it falls back"
    )
    center_point: Literal["first", "nearest"] = Field(
        "first", description="of several clicks in a segment, the one that gives its centre label"
    )
    nms_plus_one: bool = Field(True, description="overlap in the suppression counts one snippet more")
    drop_empty: bool = Field(False, description="leave out segments without length, which else go to [0, 0]")


# ------------------------------------------------------------------------------------------------ losses


@dataclass(frozen=True)
class TSPNetBatch(Batch):
    """Segments of B videos (N in all); they stand in the place of snippet features."""

    parts: Tensor  # (N, 3, D), see `segment_parts`
    video: Tensor  # (N,), place in the batch
    point_label: Tensor  # (N, C)
    center_label: Tensor  # (N,)


def point_loss(output: ProposalOutput, point_label: Tensor, known: Tensor | None = None) -> Tensor:
    """Cross-entropy of attended class logits, (N,); a segment without a click is background.

    With `known` (N, C) bool only these classes take part, see `among_known`.
    """
    background = (point_label.sum(1, keepdim=True) == 0).to(point_label.dtype)
    attended = output.classes * output.attention.sigmoid()[:, None]
    log_p = among_known(attended.log_softmax(1), known)
    return -(torch.cat([point_label, background], 1) * log_p).sum(1)


def center_loss(output: ProposalOutput, center_label: Tensor) -> Tensor:
    """Squared error of the centre score, (N,)."""
    return (output.quality.sigmoid() - center_label) ** 2


# ------------------------------------------------------------------------- labels, and votes between steps


class Labels(NamedTuple):
    """What M segments shall learn."""

    classes: NDArray[np.float32]  # (M, C), 1 for the class of every click inside
    center: NDArray[np.float32]  # (M,), 1 where the click lies in the middle, falling to 0 at the borders
    point: IntArray  # (M,), the click that decides the centre, as a row of all clicks; -1 without any


def segment_labels(
    proposals: Proposals,
    point_offsets: IntArray,
    time: FloatArray,
    label: IntArray,
    classes: int,
    background_center: float,
    center_point: Literal["first", "nearest"] = "first",
) -> Labels:
    """Labels of segments from clicks.

    Args:
        proposals: M segments of V videos.
        point_offsets: (V + 1,) rows of the clicks of each video.
        time, label: (P,) clicks in snippets and their classes.
        classes: C.
        background_center: centre label of segments without a click.
        center_point: which of several clicks decides, see `TSPNetConfig`.
    """
    # every segment with every click of its video
    count = np.diff(point_offsets)[proposals.video]
    segment = np.repeat(np.arange(len(proposals)), count)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    point = point_offsets[proposals.video[segment]] + within
    start, end = proposals.start.astype(np.float64)[segment], proposals.end.astype(np.float64)[segment]
    inside = (start < time[point]) & (time[point] < end)
    segment, point, start, end = segment[inside], point[inside], start[inside], end[inside]
    center = 1 - 2 * np.abs((time[point] - start) / (end - start) - 0.5)
    out = Labels(
        np.zeros((len(proposals), classes), np.float32),
        np.full(len(proposals), background_center, np.float32),
        np.full(len(proposals), -1),
    )
    out.classes[segment, label[point]] = 1
    if center_point == "nearest":
        order = np.lexsort((-center, segment))
        segment, point, center = segment[order], point[order], center[order]
    chosen = np.unique(segment, return_index=True)[1]
    out.center[segment[chosen]] = center[chosen]
    out.point[segment[chosen]] = point[chosen]
    return out


def vote(
    proposals: Proposals, labels: Labels, center: NDArray[np.float32], time: FloatArray, threshold: float
) -> tuple[IntArray, FloatArray]:
    """Where confident segments would move their click.

    Args:
        proposals, labels: M segments and their labels.
        center: (M,) predicted centre scores.
        time: (P,) present places of the clicks, in snippets.
        threshold: segments with a higher score vote for the click of their label, with their score as weight.

    Returns:
        clicks that got votes, and the mean distance from them to the middles of the voting segments.
    """
    voters = (center > threshold) & (labels.point >= 0)
    point, weight = labels.point[voters], center[voters].astype(np.float64)
    middle = (proposals.start[voters] + proposals.end[voters]) / 2
    distance = (middle - time[point].astype(np.float32)).astype(np.float64)
    total = np.bincount(point, weight, len(time))
    moved = np.bincount(point, weight * distance, len(time))
    rows = np.nonzero(total)[0]
    return rows, moved[rows] / total[rows]


# -------------------------------------------------------------------------------------------- the method


class _Prepared:
    """What a training set gives once: segments, what they show, and clicks in snippets."""

    def __init__(self, data: TrainingData, config: TSPNetConfig) -> None:
        self.data, bank = data, data.bank
        self.proposals = training_proposals(
            "TSPNet", data.proposals, bank, dtype=np.float32, drop_empty=config.drop_empty
        )
        self.parts = SegmentFeatures(bank, self.proposals, config.roi_size, config.cache_gib)
        clicks = [v.points for v in data.weak.videos]
        self.point_offsets = np.cumsum([0, *(0 if c is None else len(c) for c in clicks)])
        self.time = np.empty(int(self.point_offsets[-1]))
        self.label = np.empty(len(self.time), np.int64)
        for axis, points, (a, b) in zip(bank.axes, clicks, pairwise(self.point_offsets), strict=True):
            if points is not None:
                # rounding noise must not decide whether a click lies on a border
                self.time[a:b] = np.round(axis.positions_at(points.time), 9)
                self.label[a:b] = points.label


class TSPNet(Method):
    """TSPNet; see the module's docstring. `data.proposals` are the segments it learns from."""

    name: ClassVar[str] = "tspnet"
    supervision: ClassVar[Literal["video", "point"]] = "point"
    Config: ClassVar[type[MethodConfig]] = TSPNetConfig
    base: ClassVar[str | None] = "lac"
    config: TSPNetConfig

    def __init__(self, config: TSPNetConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.prop_backbone = ProposalNetwork(dim, len(self.classes), config.dropout)
        self.shift: FloatArray | None = None  # (P,) of every click, in snippets; None before the first update
        self._prepared: _Prepared | None = None
        self._labels: Labels | None = None

    def forward(self, parts: Tensor) -> ProposalOutput:
        return self.prop_backbone(parts)  # type: ignore[no-any-return]

    # training

    def prepared(self, data: TrainingData) -> _Prepared:
        """Segments and clicks of the training set, computed at the first call."""
        if self._prepared is None or self._prepared.data is not data:
            self._prepared, self._labels = _Prepared(data, self.config), None
        return self._prepared

    def salient_times(self, data: TrainingData) -> FloatArray:
        """Present places of all clicks, in snippets, (P,)."""
        prepared = self.prepared(data)
        return prepared.time if self.shift is None else prepared.time + self.shift

    def labels(self, data: TrainingData) -> Labels:
        """Present labels of all training segments."""
        c, prepared = self.config, self.prepared(data)
        if self._labels is None:
            self._labels = segment_labels(
                prepared.proposals,
                prepared.point_offsets,
                self.salient_times(data),
                prepared.label,
                len(self.classes),
                c.background_center,
                c.center_point,
            )
        return self._labels

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        epoch = data.steps_per_epoch(self.config.batch_size, drop_last=True)
        return [Stage("train", data.lengthened(self.config.steps), epoch)]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        self.shift = self._labels = None

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def before_step(self, stage: int, step: int, data: TrainingData) -> None:
        if step and step % self.config.update_every == 0:
            self.update(data)

    @torch.no_grad()
    def update(self, data: TrainingData) -> None:
        """Move the salient points by the votes of the present network, and label the segments anew."""
        self.eval()
        prepared = self.prepared(data)
        outputs = segment_outputs(self.forward, prepared.parts, len(prepared.proposals))
        self.train()
        self.move_points(data, ProposalOutput(*outputs).quality.sigmoid().float().cpu().numpy())

    def move_points(self, data: TrainingData, center: NDArray[np.float32]) -> None:
        """`update` from the centre scores of all training segments, (M,)."""
        prepared, time = self.prepared(data), self.salient_times(data)
        points, moves = vote(
            prepared.proposals, self.labels(data), center, time, self.config.update_threshold
        )
        if self.config.compound_shift:
            self.shift = np.zeros(len(time))
            self.shift[points] = moves
        else:
            self.shift = time - prepared.time
            self.shift[points] += moves
        self._labels = None

    def draw(self, stage: int, step: int, data: TrainingData) -> TSPNetBatch:
        prepared, labels = self.prepared(data), self.labels(data)
        video = data.shuffled(step, self.config.batch_size, stage, drop_last=True)
        rng = data.rng(0x75B, stage, step)
        rows, place = prepared.proposals.drawn(video, self.config.max_proposals, rng)
        return TSPNetBatch(
            **vars(data.without_features(video)),
            parts=prepared.parts(rows),
            video=torch.from_numpy(place),
            point_label=torch.from_numpy(labels.classes[rows]),
            center_label=torch.from_numpy(labels.center[rows]),
        )

    def losses(self, batch: TSPNetBatch) -> dict[str, Tensor]:
        """Unweighted losses of each video, (B,); 0 for a video without segments."""
        output = by_rows(self.forward, batch.parts)
        known = None if batch.known is None else batch.known[batch.video]
        return {
            "point": mean_per_video(point_loss(output, batch.point_label, known), batch.video, len(batch)),
            "center": mean_per_video(center_loss(output, batch.center_label), batch.video, len(batch)),
        }

    def training_step(self, batch: TSPNetBatch) -> dict[str, Tensor]:
        losses = {name: value.mean() for name, value in self.losses(batch).items()}
        losses["total"] = losses["point"] + self.config.center_weight * losses["center"]
        return losses

    def training_state(self) -> dict[str, Any]:
        return {} if self.shift is None else {"shift": torch.from_numpy(self.shift)}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.shift = state["shift"].cpu().numpy() if "shift" in state else None
        self._labels = None

    # inference

    @torch.no_grad()
    def detect(self, batch: Batch) -> Detections:
        """Detections among the proposals of a `ProposalBatch`.

        Raises:
            InputError: the batch carries no proposals.
        """
        found = Proposals.of(
            batch_proposals("TSPNet", batch),
            batch.names,
            batch.axes,
            dtype=np.float32,
            drop_empty=self.config.drop_empty,
        )
        of_rows = partial(found.parts, *packed_features(batch), batch.lengths, self.config.roi_size)
        outputs = segment_outputs(self.forward, of_rows, len(found))
        columns = [x.float().cpu().numpy() for x in outputs]
        parts = []
        for v, (name, axis) in enumerate(zip(batch.names, batch.axes, strict=True)):
            of_video = slice(found.offsets[v], found.offsets[v + 1])
            start, end, label, score = self.localize(
                found.start[of_video], found.end[of_video], *(c[of_video] for c in columns)
            )
            start, end = axis.seconds_at(start), axis.seconds_at(end)
            parts.append(Detections.in_video(name, self.classes, start, end, label, score))
        return Detections.concatenate(parts, self.classes)

    def localize(
        self,
        start: NDArray[np.float32],
        end: NDArray[np.float32],
        classes: NDArray[np.float32],
        attention: NDArray[np.float32],
        center: NDArray[np.float32],
    ) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
        """Scored, adapted and softly suppressed segments of one video.

        Args:
            start, end: (M,) in snippets.
            classes: (M, C + 1) logits; attention, center: (M,) logits.

        Returns:
            start, end (in snippets), class and score; every segment once per chosen class.
        """
        none = np.empty(0)
        if not len(start):
            return none, none, np.empty(0, np.int64), none
        config = self.config
        probability = torch.from_numpy(classes).softmax(1).numpy()[:, :-1]
        attended, centred = (torch.from_numpy(x).sigmoid().numpy()[:, None] for x in (attention, center))
        video_score = (probability * attended).sum(0) / (attended.sum() + 1e-6)
        chosen = likely_classes(video_score, config.class_threshold)
        confidence = (probability * attended * centred)[:, chosen].T.astype(np.float64)
        new_start, new_end = adapt_boundaries(start, end, confidence, config.adapt_threshold)
        group = np.repeat(np.arange(len(chosen)), len(start))
        # kept in float32 like the segments, as published: the soft suppression sees the rounding
        flat_start, flat_end = (x.astype(np.float32).reshape(-1) for x in (new_start, new_end))
        rows, scores = soft_nms(
            flat_start,
            flat_end,
            confidence.reshape(-1),
            sigma=config.sigma,
            plus_one=config.nms_plus_one,
            group=group,
        )
        return flat_start[rows].astype(float), flat_end[rows].astype(float), chosen[group[rows]], scores

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        dim, _ = shape_of(weights, "prop_backbone.prop_fusion.0.weight", 2)
        count, _, _ = shape_of(weights, "prop_backbone.prop_classifier.2.weight", 3)
        return dim, count - 1, {}
