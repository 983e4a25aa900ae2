"""SAL: second-order video semantics and adaptive actionness (Neural Networks 182, 2025).

A video-level (second-order) descriptor of the embedded sequence is classified and given back to every snippet
in proportion to its actionness; two streams (RGB and flow) learn that actionness from top-k pseudo labels,
weighted by how sure the classifier is of each snippet. Specification: docs/methods/sal.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores, TimeAxis
from weaktal.features.sampling import at_most_rows, chained_rows, perturbed_rows, uniform_rows
from weaktal.localize.classes import likely_classes
from weaktal.localize.curves import find_runs, outer_inner_contrast, upsample
from weaktal.localize.nms import nms, soft_nms_once
from weaktal.methods.label_prior import LabelWarmup, PriorBatch, WarmupShare
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData, snippet_scores
from weaktal.methods.published import published_weights, shape_of
from weaktal.nn.dropout import Dropout
from weaktal.nn.factored import FactoredAdam, FactoredLinear
from weaktal.nn.labels import among_known
from weaktal.nn.parallel import by_rows

Sampling = Literal["thumos14", "activitynet"]
IntArray = NDArray[np.int64]
SCORED = 8192  # snippets at once, in tests of whole data sets


class SALConfig(MethodConfig):
    """Configuration of SAL; the defaults are those of the published THUMOS14 training script.

    The published ActivityNet code is another variant of the same method: see the recipes activitynet12 and
    activitynet13.
    """

    hidden: int = Field(512, ge=1, description="width H of the embeddings; descriptors have H²")
    kernel: int = Field(3, ge=1, description="taps of the joint embedding's temporal convolution, odd")
    dropout: float = Field(0.5, ge=0, lt=1, description="after each embedding")
    rgb_share: float = Field(0.1, ge=0, le=1, description="λ, share of RGB in the fused actionness")

    segments: int = Field(750, ge=1, description="T, snippets sampled from a video")
    sampling: Sampling = Field("thumos14", description="see `scoring_rows` and `training_rows`")

    class_divisor: int = Field(8, ge=1, description="T // this best snippets stand for a class, at least one")
    background_divisor: int = Field(8, ge=1, description="the same for the background loss")
    confident_divisor: int | None = Field(
        2, ge=1, description="pseudo positives are of the T // this largest summed activations, or of all"
    )
    gce_q: float = Field(0.5, gt=0, le=1, description="q of the generalised cross-entropy")
    mask_momentum: float = Field(0.7, ge=0, lt=1, description="of the adaptive mask's running statistics")
    mask_divisor: float = Field(0.5, gt=0, description="see `AdaptiveMask`")
    background_weight: float = Field(10.0, ge=0)
    consistency_weight: float = Field(5.0, ge=0)
    semantic_weight: float = Field(3.0, ge=0)

    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0, description="L2 term inside Adam")
    batch_size: int = Field(2, ge=1)
    epochs: int = Field(100, ge=1)
    steps: int | None = Field(None, ge=1, description="optimizer steps, in place of epochs")

    fusion: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = Field(
        (1.0, 1.0, 1.0), description="of class probability, RGB and flow actionness in the fused activation"
    )
    video_mix: float = Field(0.35, ge=0, le=1, description="β, of the pooled activation in video scores")
    class_threshold: float = Field(0.25, ge=0, le=1, description="of likely classes, or else the best one")
    upscale: int = Field(24, ge=1, description="points per snippet of the activation curves")
    thresholds: tuple[PositiveFloat, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1, description="at which curves are cut"
    )
    nms_threshold: float = Field(0.4, ge=0, le=1, description="IoU from which a worse segment is suppressed")
    soft_nms: bool = Field(True, description="suppressed segments stay, with a lowered score")
    soft_nms_alpha: float = Field(0.3, gt=0, description="width of that decay")

    label_warmup: WarmupShare = 0.0

    # quirks of the published code
    pool_power: Literal[1, 2] = Field(2, description="Z Zᵀ is divided by T to this power; a mean has 1")
    select_by: Literal["fused", "cas"] = Field("fused", description="ranks a class's snippets in training")
    positive_divisor: int | None = Field(8, ge=1, description="pseudo positives are T // this snippets, or 0")
    positive_extra: int = Field(17, ge=0, description="and so many more, whatever T is; at most T")
    drop_last: bool = Field(False, description="leave out the incomplete last batch of an epoch")
    margin: float = Field(0.2, ge=0, description="outer margin of the contrast, as a share of the segment")
    class_weight: float = Field(0.2, ge=0, description="γ, of the class probability in a segment's score")
    drop_lone_first: bool = Field(True, description="ignore thresholds that only point 0 passes")
    clamp: bool = Field(False, description="limit up-sampled curves to the range of their snippets")
    plus_one: bool = Field(True, description="IoU counts one second more in lengths and intersections")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("the kernel must be odd to keep the length of a sequence")
        return kernel

    @field_validator("fusion")
    @classmethod
    def _some_weight(cls, fusion: tuple[float, float, float]) -> tuple[float, float, float]:
        if not any(fusion):
            raise ValueError("fusion weights must not all be zero")
        return fusion


# ---------------------------------------------------------------------------------------------- sampling


def scoring_rows(lengths: IntArray, segments: int, sampling: Sampling) -> tuple[IntArray, IntArray]:
    """Snippets that are looked at in testing, of videos of `lengths` (B,), at least one each.

    T `segments`; "activitynet" leaves shorter videos as they are, and takes a single snippet twice.

    Returns:
        rows (B, S), and how many of them count, (B,); rows after those repeat the video's last snippet.
    """
    if sampling == "activitynet":
        return at_most_rows(lengths, segments)
    return uniform_rows(lengths, segments), np.full_like(lengths, segments)


def training_rows(
    lengths: IntArray, segments: int, sampling: Sampling, rng: np.random.Generator | np.random.RandomState
) -> IntArray:
    """Snippets of one training step: (B, T), random around evenly spaced ones, in temporal order.

    Videos of fewer than T `segments` repeat their snippets, in turn or ("activitynet") random ones. Given the
    legacy `numpy.random.RandomState`, a video gets the very draws of the published code.
    """
    if sampling == "thumos14":
        return perturbed_rows(lengths, segments, rng)
    return np.concatenate([chained_rows([n], segments, rng) for n in lengths])


# ---------------------------------------------------------------------------------------------- network


class Outputs(NamedTuple):
    """What the network says about a batch; `streams` and `semantic` are longer for the losses."""

    cas: Tensor  # (B, T, C), class activation sequence, unbounded
    streams: Tensor  # (1, 2, B, T), actionness of RGB and flow, in [0, 1]; then those of `of_sums`
    actionness: Tensor  # (B, T), both streams of every video, fused
    semantic: Tensor  # (1, B, C), class scores of the joint second-order descriptor; then of RGB, of flow

    @property
    def background_cas(self) -> Tensor:
        """(B, T, C), the activation weighted by 1 - actionness."""
        return (1 - self.actionness)[..., None] * self.cas


def bilinear_descriptor(z: Tensor, divisor: Tensor | float) -> Tensor:
    """Second-order descriptor of a sequence: signed square roots of its pooled products, normalised.

    Args:
        z: (..., H, T) embedding.
        divisor: of the sums over snippets, a power of their number; a number, or (B, 1, 1).

    Returns:
        (..., H²), rows of unit length. As a matrix a row is symmetric.
    """
    pooled = z @ z.mT / divisor
    return F.normalize((pooled.sign() * (pooled.abs() + 1e-5).sqrt()).flatten(-2), dim=-1)


def of_sums(convolution: nn.Module, convolved: Tensor) -> Tensor:
    """From convolved videos (B, H, T), those of every video added to its predecessor, convolved.

    A convolution is linear: that of a sum is the sum of the convolutions, less one bias.
    """
    return convolved + convolved.roll(1, 0) - convolution.get_parameter("0.bias")[:, None]


class AdaptiveMask(nn.Module):
    """How much a snippet counts: exp(-min(r - mean, 0)² / (divisor · variance)), r its class confidence.

    Buffers: running `mean` and `variance` of the confidence (a snippet's largest class probability), and
    `prior`, the running mean of the class probabilities, part of the published state that no loss uses.
    """

    mean: Tensor
    variance: Tensor
    prior: Tensor

    def __init__(self, classes: int, momentum: float, divisor: float) -> None:
        super().__init__()
        self.momentum, self.divisor = momentum, divisor
        self.register_buffer("mean", torch.tensor(1 / classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("prior", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def forward(self, probabilities: Tensor) -> Tensor:
        """Update the statistics with class probabilities (..., C), then weigh the snippets: (...)."""
        probabilities = probabilities.to(self.prior.dtype)  # of half the precision under autocast
        confidence = probabilities.amax(dim=-1)
        variance = confidence.var() if confidence.numel() > 1 else torch.zeros_like(self.variance)
        keep = 1 - self.momentum
        self.prior.lerp_(probabilities.flatten(0, -2).mean(dim=0), keep)
        self.mean.lerp_(confidence.mean(), keep)
        self.variance.lerp_(variance, keep)
        below = (confidence - self.mean).clamp(max=0)
        return torch.exp(-below.square() / (self.divisor * self.variance).clamp(min=1e-12))


# ----------------------------------------------------------------------------------------------- losses


def label_cross_entropy(scores: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Cross-entropy of class scores (..., B, C) with normalised multi-hot labels (B, C): means (...)."""
    target = labels / labels.sum(dim=1, keepdim=True).clamp(min=1) + 1e-10
    return -(target * among_known(F.log_softmax(scores, dim=-1), known)).sum(dim=-1).mean(dim=-1)


def generalized_cross_entropy(scores: Tensor, target: Tensor, mask: Tensor, q: float) -> Tensor:
    """Masked generalised cross-entropy, balanced between positive and negative snippets of each video.

    Args:
        scores: (..., B, T) probabilities.
        target: 0 or 1; like `mask` of the shape of the scores, or one that broadcasts against it.
        mask: weights.
        q: 1 gives the mean absolute error, towards 0 the cross-entropy.

    Returns:
        (...), means over videos.
    """

    def side(fit: Tensor, weight: Tensor) -> Tensor:
        loss = (1 - (fit + 1e-7) ** q) / q
        return (weight * loss).sum(dim=-1) / (weight.sum(dim=-1) + 1e-7)

    return (side(scores, target * mask) + side(1 - scores, (1 - target) * mask)).mean(dim=-1)


def pooled_at(cas: Tensor, best: Tensor) -> Tensor:
    """Mean of `cas` (B, T, C) over the snippets `best` (B, k, C) of every class: (B, C)."""
    return cas.gather(1, best).mean(dim=1)


def _indicator(values: Tensor, k: int) -> Tensor:
    """(B, T), 1 at the `k` largest values of each row."""
    return torch.zeros_like(values).scatter(1, values.topk(k, dim=1).indices, 1.0)


# ----------------------------------------------------------------------------------------------- method


class SAL(SnippetMethod):
    """SAL for `dim` features per snippet, of which the first half is RGB and the second half is flow."""

    name: ClassVar[str] = "sal"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config: ClassVar[type[MethodConfig]] = SALConfig
    two_streams: ClassVar[bool] = True
    config: SALConfig

    def __init__(self, config: SALConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.warmup = LabelWarmup(config.label_warmup)
        hidden = config.hidden
        # the layout of the official checkpoints: convolutions at index 0 of a sequence
        self.encoder = nn.Sequential(nn.Conv1d(dim, hidden, config.kernel, padding=config.kernel // 2))
        self.action_rgb = nn.Sequential(nn.Conv1d(dim // 2, hidden, 3, padding=1))
        self.action_flow = nn.Sequential(nn.Conv1d(dim // 2, hidden, 3, padding=1))
        self.dropout = Dropout(config.dropout)
        self.cls = nn.Sequential(nn.Conv1d(hidden, len(classes), 1))
        self.cls_rgb = nn.Sequential(nn.Conv1d(hidden, 1, 1))
        self.cls_flow = nn.Sequential(nn.Conv1d(hidden, 1, 1))
        self.fc = nn.Linear(hidden**2, len(classes))
        self.fc1 = FactoredLinear(hidden**2, hidden)
        nn.init.kaiming_normal_(self.fc1.weight)
        nn.init.zeros_(self.fc1.bias)
        self.mask = AdaptiveMask(len(classes), config.mask_momentum, config.mask_divisor)

    # ------------------------------------------------------------------------------------- network

    def convolved(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convolutions of both streams together, of RGB and of flow: (B, T, D) to (B, H, T) each."""
        x = features.mT
        rgb, flow = x.chunk(2, dim=1)
        return self.encoder(x), self.action_rgb(rgb), self.action_flow(flow)

    def forward(self, features: Tensor, lengths: Tensor | None = None, *, extras: bool = False) -> Outputs:
        """Scores of snippets and videos.

        Args:
            features: (B, T, D).
            lengths: (B,) number of snippets that count; those after are padding. Default: all.
            extras: add what only the losses need, see `Outputs`. Not with padding.
        """
        c, t = self.config, features.shape[1]
        count: Tensor | float = float(t)
        inside = None
        if lengths is not None:
            count = lengths.to(features.dtype)[:, None, None]
            inside = (torch.arange(t, device=lengths.device) < lengths[:, None])[:, None]
            features = features * inside.mT
        convolved = by_rows(self.convolved, features)
        joint, *streams = embeddings = [self.embedded(x, inside) for x in convolved]
        action = self.actionness(*streams)
        rgb, flow = action
        fused = (1 - c.rgb_share) * flow + c.rgb_share * rgb

        described = embeddings if extras else [joint]
        descriptors = torch.stack([bilinear_descriptor(z, count**c.pool_power) for z in described])
        video = self.fc1(descriptors[0])
        enriched = joint + video[..., None] * fused[:, None]

        own_and_mixed = [action]
        if extras:
            convolutions = self.action_rgb, self.action_flow
            mixed = [of_sums(f, x) for f, x in zip(convolutions, convolved[1:], strict=True)]
            own_and_mixed.append(self.actionness(*(self.embedded(x) for x in mixed)))
        return Outputs(self.cls(enriched).mT, torch.stack(own_and_mixed), fused, self.fc(descriptors))

    def embedded(self, convolved: Tensor, inside: Tensor | None = None) -> Tensor:
        """(B, H, T), zero at the padding that is not `inside` (B, 1, T)."""
        e: Tensor = self.dropout(F.relu(convolved))
        return e if inside is None else e * inside

    def actionness(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """(2, B, T), in [0, 1], from the embeddings (B, H, T) of RGB and flow."""
        return torch.stack([self.cls_rgb(rgb)[:, 0], self.cls_flow(flow)[:, 0]]).sigmoid()

    def fused_activation(self, out: Outputs) -> Tensor:
        """(B, T, C): class probability and the actionness of both streams, averaged by `config.fusion`."""
        w_cas, w_rgb, w_flow = self.config.fusion
        rgb, flow = out.streams[0]
        action = w_rgb * rgb + w_flow * flow
        fused: Tensor = (w_cas * out.cas.softmax(dim=-1) + action[..., None]) / sum(self.config.fusion)
        return fused

    # ------------------------------------------------------------------------------------ training

    def pseudo_labels(self, out: Outputs, prior: Tensor | None = None) -> Tensor:
        """(B, T), 1 at the snippets that count as action; in the warm-up, those of the largest `prior`."""
        c, t = self.config, out.cas.shape[1]
        share = t // c.positive_divisor if c.positive_divisor else 0
        most = min(t, max(1, share + c.positive_extra))
        if prior is not None:
            return _indicator(prior, most)
        labels = _indicator(out.actionness.detach(), most)
        if c.confident_divisor:
            activation = out.cas.detach().relu().sum(dim=-1)
            labels = labels * _indicator(activation, max(1, t // c.confident_divisor))
        return labels

    def losses(
        self, out: Outputs, labels: Tensor, prior: Tensor | None = None, known: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Loss terms, unweighted, and their weighted sum "total"; moves the statistics of the mask.

        Args:
            out: of `forward` with extras.
            labels: (B, C), 0 or 1.
            prior: of the warm-up, see `pseudo_labels`.
            known: (B, C) bool, see `Batch`.
        """
        c, t = self.config, out.cas.shape[1]
        if len(out.streams) < 2:
            raise ValueError("the losses need forward(..., extras=True)")
        background = out.background_cas
        with torch.no_grad():
            probability = out.cas.softmax(dim=-1)
            mask = self.mask(probability)
            positive = self.pseudo_labels(out, prior) * labels.any(dim=1, keepdim=True)
            rank_by = out.cas if c.select_by == "cas" else self.fused_activation(out)
            best = rank_by.topk(max(1, t // c.class_divisor), dim=1).indices
            best_background = (
                background.softmax(dim=-1).topk(max(1, t // c.background_divisor), dim=1).indices
            )
            # of the videos and of their sums, for both streams
            target = torch.stack([positive, torch.maximum(positive, positive.roll(1, 0))])[:, None]
            weight = torch.stack([mask, (mask + mask.roll(1, 0)) / 2])[:, None]
        top = pooled_at(out.cas, best)
        top_background = pooled_at(background, best_background)
        # Kullback-Leibler divergence from the uniform distribution
        to_uniform = -F.log_softmax(top_background, dim=1).mean() - np.log(top_background.shape[1])

        actionness, mixing = generalized_cross_entropy(out.streams, target, weight, c.gce_q).sum(dim=1)
        terms = {
            "mil": label_cross_entropy(top, labels, known),
            "background": to_uniform,
            "actionness": actionness,
            "mixing": mixing,
            "consistency": F.mse_loss(*out.streams[0]),
            "semantic": label_cross_entropy(out.semantic, labels, known).sum(),
        }
        total = (
            terms["mil"]
            + terms["actionness"]
            + terms["mixing"]
            + c.background_weight * terms["background"]
            + c.consistency_weight * terms["consistency"]
            + c.semantic_weight * terms["semantic"]
        )
        return {"total": total, **terms}

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        prior = batch.prior if isinstance(batch, PriorBatch) else None
        return self.losses(self(batch.features, extras=True), batch.labels, prior, batch.known)

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        c = self.config
        epoch = data.steps_per_epoch(c.batch_size, drop_last=c.drop_last)
        return [Stage("train", data.lengthened(c.steps) if c.steps else c.epochs * epoch, epoch)]

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        c = self.config
        return FactoredAdam(self, lr=c.lr, weight_decay=c.weight_decay)

    def draw(self, stage: int, step: int, data: TrainingData) -> Batch:
        c = self.config
        video = data.shuffled(step, c.batch_size, drop_last=c.drop_last)
        rows = training_rows(data.bank.lengths[video], c.segments, c.sampling, data.rng(stage, step))
        batch = data.batch(video, data.bank.rows(video, rows))
        prior = self.warmup.prior(data, step / self.stages(data)[stage].steps, video, rows)
        return batch if prior is None else PriorBatch(**vars(batch), prior=prior)

    # ---------------------------------------------------------------------------------- localization

    def score(self, batch: Batch) -> list[SnippetScores]:
        """Fused activation (as `cas`), fused actionness and class probabilities of whole videos."""
        c = self.config
        rows, count = scoring_rows(batch.lengths.cpu().numpy(), c.segments, c.sampling)
        index = torch.from_numpy(rows).to(batch.features.device)
        lengths = torch.from_numpy(count).to(index.device)
        found: list[SnippetScores] = []
        at_once = max(1, SCORED // rows.shape[1])
        for low in range(0, len(rows), at_once):
            some = slice(low, low + at_once)
            chosen = batch.features[some].gather(1, index[some, :, None].expand(-1, -1, self.dim))
            out = self(chosen, lengths[some])
            found += self.scores_of(out, lengths[some], batch.names[some], batch.axes[some])
        return found

    def scores_of(
        self, out: Outputs, lengths: Tensor, names: Sequence[str], axes: Sequence[TimeAxis]
    ) -> list[SnippetScores]:
        """What localization needs of outputs (B, T, ...) of which `lengths` (B,) snippets count."""
        c = self.config
        fused = self.fused_activation(out)
        k = (lengths // c.class_divisor).clamp(min=1)
        inside = (torch.arange(fused.shape[1], device=lengths.device) < lengths[:, None])[..., None]
        # sorted, so that the first k[b] are the best ones of video b
        best = fused.masked_fill(~inside, -torch.inf).topk(int(k.max()), dim=1).indices
        use = torch.arange(best.shape[1], device=k.device)[None, :, None] < k[:, None, None]
        pooled = (out.cas.gather(1, best) * use).sum(dim=1) / k[:, None]
        video = (c.video_mix * pooled + (1 - c.video_mix) * out.semantic[0]).softmax(dim=-1)
        axes = [axis.resampled(n) for axis, n in zip(axes, lengths.tolist(), strict=True)]
        return snippet_scores(names, axes, lengths.tolist(), fused, out.actionness, video)

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """Runs of the up-sampled activations of likely classes, scored by contrast, after suppression."""
        return Detections.concatenate([self._localize(s) for s in scores], self.classes)

    def _localize(self, scores: SnippetScores) -> Detections:
        c = self.config
        likely = likely_classes(scores.video_scores, c.class_threshold)
        snippets = scores.cas[:, likely].T
        curves = upsample(snippets, c.upscale)
        if c.clamp:
            curves = np.clip(curves, snippets.min(1, keepdims=True), snippets.max(1, keepdims=True))
        runs = find_runs(curves, c.thresholds, drop_lone_first=c.drop_lone_first)
        contrast = outer_inner_contrast(curves, runs, c.margin)
        label = likely[runs.curve]
        score = contrast + c.class_weight * scores.video_scores[label].astype(np.float64)
        fine = scores.axis.resampled(scores.axis.length * c.upscale)
        start, end = fine.seconds_at(runs.start), fine.seconds_at(runs.end)
        found = Detections.in_video(scores.video, self.classes, start, end, label, score)
        how: dict[str, Any] = {"plus_one": c.plus_one, "group": label}
        if not c.soft_nms:
            return found[nms(start, end, score, c.nms_threshold, **how)]
        rows, score = soft_nms_once(start, end, score, c.nms_threshold, c.soft_nms_alpha, **how)
        return replace(found[rows], score=score)

    # ---------------------------------------------------------------------------- official weights

    @classmethod
    def from_published(cls, state_dict: Mapping[str, Any], **options: Any) -> Self:
        """As `Method.from_published`, with weights of either repository.

        ActivityNet's `base_module` is `encoder` here; of an ActivityNet model give the fields of its recipe.
        """
        weights = {
            re.sub(r"^base_module\.", "encoder.", name): value
            for name, value in published_weights(state_dict).items()
        }
        # the published code forgets the statistics of the mask: they start anew
        fresh = AdaptiveMask(shape_of(weights, "cls.0.weight", 3)[0], momentum=0, divisor=1)
        statistics = {f"mask.{name}": value for name, value in fresh.named_buffers()}
        return super().from_published({**statistics, **weights}, **options)

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        hidden, dim, kernel = shape_of(weights, "encoder.0.weight", 3)
        return dim, shape_of(weights, "cls.0.weight", 3)[0], {"hidden": hidden, "kernel": kernel}
