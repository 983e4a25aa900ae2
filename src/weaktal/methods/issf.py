"""ISSF: inferring salient snippet-features (AAAI 2024), video-level supervision.

Salient snippets sit where the embedded features jump. All snippets query the salient ones and the rest apart,
the two answers are blended into refined features (boundary refinement), and the refined predictions, later
together with those of a class-wise memory of salient features, are soft labels for the base branch.

Section numbers in this file are those of our specification of the published code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, SnippetScores
from weaktal.localize.curves import find_runs, outer_inner_contrast
from weaktal.localize.nms import nms
from weaktal.methods.label_prior import LabelWarmup, WarmupShare, warmup_loss
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData, snippet_scores
from weaktal.methods.published import shape_of
from weaktal.nn.dropout import Dropout
from weaktal.nn.labels import among_known
from weaktal.nn.parallel import by_videos
from weaktal.nn.pooling import mean_per_video, video_of_rows


class ISSFConfig(MethodConfig):
    """Hyper-parameters; the defaults are those of the published THUMOS14 run."""

    epochs: int = Field(180, gt=0)
    batch_size: int = Field(10, gt=0, description="videos per optimizer step; their gradients are summed")
    lr: float = Field(5e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(5e-4, ge=0, description="L2 term inside Adam")

    width: int | None = Field(None, description="of the embedding; that of the features where not given")
    gate_reduction: int = Field(4, gt=0)
    dropout: float = Field(0.6, ge=0, lt=1)
    scale: float = Field(20.0, description="factor of the cosine similarities")
    salient_ratio: float = Field(0.5, gt=0, le=1)
    nonsalient_weight: float = Field(0.12, ge=0, le=1, description="lambda, of the non-salient answer")

    memory_slots: int = Field(9, gt=0)
    memory_start: int = Field(2, ge=1, description="first epoch (from 0) that uses the memory, filled before")
    momentum_start: int = Field(86, ge=0, description="first epoch whose updates are blended, not replaced")

    back_weight: float = 0.2
    attention_weight: float = 0.1
    memory_weight: float = 0.5
    spl_weight: float = 1.0
    spl_weight_memory: float = Field(0.5, description="in place of spl_weight once the memory is in use")
    memory_target_share: float = Field(0.2, ge=0, le=1)
    temperature: float = Field(0.2, gt=0)

    label_warmup: WarmupShare = 0.0

    refined_share: float = Field(0.4, ge=0, le=1, description="of the refined branch in the scores of a test")
    class_threshold: float = 0.1
    thresholds: tuple[float, ...] = tuple(round(0.001 + 0.002 * i, 3) for i in range(20))
    margin: float = Field(0.25, ge=0)
    nms_threshold: float = 0.45

    # quirks of the published code
    memory_index: Literal["published", "labelled"] = Field(
        "published", description="every video uses the memory of class 0, or ('labelled') of its own classes"
    )
    first_wraps: bool = Field(True, description="before a salient first snippet comes the video's last one")
    thresholds_of: Literal["activation", "maximum"] = Field(
        "activation", description="thresholds are activations, or shares of a class's largest in the video"
    )
    end_past_run: bool = Field(
        True, description="proposals end a snippet after their run, and the video's last is never outside"
    )
    nms_overlap: Literal["own", "iou"] = Field("own", description="share of the weaker one's length, or tIoU")


# -- network (section 3) ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Predictions from one set of snippet features (section 3.6), N rows of B packed videos."""

    logits: Tensor  # (N, C + 1), of snippets; the last column is background
    attention: Tensor  # (N,), foreground probability
    agnostic: Tensor  # (B, C + 1), log-probabilities from class-agnostic pooling
    classwise: Tensor  # (B, C + 1), log-probabilities from class-wise pooling


@dataclass(frozen=True)
class Embedding:
    """Features of packed videos (sections 3.1 to 3.5)."""

    embedded: Tensor  # (N, D)
    refined_features: Tensor  # (N, D)
    salient: Tensor  # (K, D), embedded, before the gate
    salient_mask: Tensor  # (N,) bool
    salient_sizes: Tensor  # (B,), salient snippets of each video, K in all


def unit(x: Tensor) -> Tensor:
    """Rows over their Euclidean norm, with the published epsilon."""
    normalized: Tensor = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-9)
    return normalized


def attend(query: Tensor, keys: Tensor) -> Tensor:
    """Snippets (T, D) as sums of other ones (K, D), by unscaled dot products; zeros without any."""
    return (query @ keys.T).softmax(dim=1) @ keys


class ISSFNetwork(nn.Module):
    """Embedding, saliency, information interaction unit, boundary refinement and the cosine head."""

    def __init__(self, config: ISSFConfig, dim: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        width = config.width or dim
        gate = max(1, width // config.gate_reduction)
        self.ac_center = nn.Parameter(torch.empty(num_classes + 1, width))
        nn.init.xavier_uniform_(self.ac_center)
        self.fg_center = nn.Parameter(-self.ac_center.detach()[-1:].clone())
        linear = nn.Linear(dim, width)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.feature_embedding = nn.Sequential(linear, nn.ReLU(inplace=True), Dropout(config.dropout))
        self.channel_weights, self.channel_back_weights = (
            nn.Sequential(nn.Linear(width, gate, bias=False), nn.ReLU(), nn.Linear(gate, width, bias=False))
            for _ in range(2)
        )

    def forward(self, rows: Tensor, lengths: Sequence[int]) -> Embedding:
        """Packed snippet features (N, D_in) of videos with these lengths."""
        e = self.feature_embedding(rows)
        mask = self.salient(e, lengths)
        (f, sizes), (rest, rest_sizes) = (chosen_rows(e, chosen, lengths) for chosen in (mask, ~mask))
        videos = zip(
            torch.split(e, list(lengths)),
            torch.split(self.gated(f, self.channel_weights), sizes.tolist()),
            torch.split(self.gated(rest, self.channel_back_weights), rest_sizes.tolist()),
            strict=True,
        )
        share = self.config.nonsalient_weight
        refined = torch.cat([(1 - share) * attend(q, f) + share * attend(q, r) for q, f, r in videos])
        return Embedding(e, refined, f, mask, sizes)

    @torch.no_grad()
    def salient(self, e: Tensor, lengths: Sequence[int]) -> Tensor:
        """Section 3.3: (N,) bool, the ends and the beginnings of the largest jumps along time."""
        jump = e.new_empty(len(e))
        torch.sum((e[1:] - e[:-1]).abs_(), dim=1, out=jump[1:])
        sizes = torch.tensor(lengths, device=e.device)
        begin = (sizes.cumsum(0) - sizes)[sizes > 0]
        jump[begin] = e[begin].sum(dim=1)  # from zero; behind a ReLU

        table = padded(jump, lengths, -torch.inf)
        place = torch.arange(table.shape[1], device=e.device)
        valid = place < sizes[:, None]
        k = ((sizes * self.config.salient_ratio).floor().long() - 1).clamp(min=0)
        order = table.argsort(dim=1, descending=True, stable=True)
        top = torch.zeros_like(valid).scatter_(1, order, place < k[:, None])
        both = top.clone()
        both[:, :-1] |= top[:, 1:]
        if self.config.first_wraps:
            last = (sizes - 1)[:, None]
            both.scatter_(1, last, both.gather(1, last) | top[:, :1])
        return both[valid]

    def gated(self, f: Tensor, gate: nn.Module) -> Tensor:
        """The channel gate of the information interaction unit (section 3.4)."""
        gated: Tensor = (1 + gate(f).softmax(dim=1)) * f
        return gated

    def predict(self, x: Tensor, lengths: Sequence[int]) -> View:
        """The cosine head (section 3.6) on features (N, D) of packed videos."""
        s, centers = self.config.scale, unit(self.ac_center)
        cosines = s * unit(x) @ torch.cat([centers, unit(self.fg_center)]).T
        weights = cosines.sigmoid()
        # of every video one mean by the weights of each class, then one by the foreground's
        videos = zip(*(torch.split(rows, list(lengths)) for rows in (weights, x)), strict=True)
        pooled = unit(torch.stack([w.T @ rows / (w.sum(0)[:, None] + 1e-5) for w, rows in videos]))
        agnostic = (s * pooled[:, -1] @ centers.T).log_softmax(dim=1)
        classwise = (s * (pooled[:, :-1] * centers).sum(dim=2)).log_softmax(dim=1)
        return View(cosines[:, :-1], weights[:, -1], agnostic, classwise)


def chosen_rows(rows: Tensor, chosen: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The packed rows (N, D) where a mask (N,) is true, in order, and how many of each video, (B,)."""
    index = chosen.nonzero()[:, 0]
    counts = torch.bincount(video_of_rows(lengths, rows)[index], minlength=len(lengths))
    return rows.index_select(0, index), counts


def padded(values: Tensor, lengths: Sequence[int], empty: float) -> Tensor:
    """Values (N,) of packed rows, a row for each video, (B, T); `empty` behind its end."""
    parts = list(torch.split(values, list(lengths)))
    return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=empty)


# -- memory (section 4) -------------------------------------------------------------------------------------


class Memory(nn.Module):
    """The best salient features of every class: `features` (C, M, D) and `scores` (C, M), best first."""

    features: Tensor
    scores: Tensor

    def __init__(self, num_classes: int, slots: int, width: int) -> None:
        super().__init__()
        self.slots = slots
        self.register_buffer("features", torch.zeros(num_classes, slots, width))
        self.register_buffer("scores", torch.zeros(num_classes, slots))

    @torch.no_grad()
    def fill(self, features: Tensor, scores: Tensor) -> None:
        """Keep the best of the memory and of candidates from many videos, all classes at once.

        Args:
            features: (K, D) candidates.
            scores: (K, C); minus infinity where a candidate does not count for a class.
        """
        top, index = scores.topk(min(self.slots, len(scores)), dim=0)
        all_features = torch.cat([self.features, features[index.T]], dim=1)
        kept, chosen = torch.cat([self.scores, top.T], dim=1).topk(self.slots, dim=1)
        self.features.copy_(all_features.gather(1, chosen[..., None].expand(-1, -1, all_features.shape[2])))
        self.scores.copy_(kept)

    @torch.no_grad()
    def update(self, classes: Sequence[int], features: Tensor, scores: Tensor, momentum: float) -> None:
        """One video's salient features (K, D) with class scores (K, C), for these classes in this order."""
        for c in classes:
            top, index = torch.cat([self.scores[c], scores[:, c]]).topk(self.slots)
            best = torch.cat([self.features[c], features])[index]
            self.features[c] = best.lerp(self.features[c], momentum)
            self.scores[c] = top

    def read(self, classes: Sequence[int]) -> Tensor:
        """The rows of these classes one after another, (slots * len(classes), D); a copy."""
        return self.features[list(classes)].flatten(0, 1)


def memory_momentum(epoch: int, epochs: int, start: int) -> float:
    """Share of the old memory in an update: 0 before epoch `start`, then ln(exp(epoch / epochs) + 1) / 2."""
    return 0.0 if epoch < start else 0.5 * math.log(math.exp(epoch / epochs) + 1)


# -- losses (section 5) -------------------------------------------------------------------------------------


def normalized_cross_entropy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """- sum_c l_c ln p_c with labels l made to sum to one, per video: (..., B, C + 1) twice to (..., B)."""
    shares = labels / (labels.sum(dim=-1, keepdim=True) + 1e-8)
    return -(shares * log_probabilities).sum(dim=-1)


def attention_loss(attention: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean of the T // 8 smallest attentions minus mean of the T // 8 largest, per video: (N,) to (B,)."""
    sizes = torch.tensor(lengths, device=attention.device)[:, None]
    # padding, the lowest, is last
    ranked = padded(attention, lengths, -1).sort(dim=1, descending=True).values
    place, k = torch.arange(ranked.shape[1], device=sizes.device), (sizes // 8).clamp(min=1)
    share = ((place >= sizes - k) & (place < sizes)).to(attention) - (place < k).to(attention)
    return (share * ranked).sum(dim=1) / k[:, 0]


def soft_pseudo_label_loss(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross entropy against the softmax of detached target logits, per snippet: (N, C + 1) twice to (N,)."""
    soft = (target.detach() / temperature).softmax(dim=1)
    return -(soft * (logits / temperature).log_softmax(dim=1)).sum(dim=1)


# -- the method ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ISSFBatch(Batch):
    """Whole videos in order."""

    epochs: tuple[int, ...] = ()  # the epoch (from 0) that each video belongs to
    rows: Tensor | None = None  # (N, D), features without padding, if at hand; `features` then is empty
    prior: Tensor | None = None  # (N,), in the warm-up, see `LabelWarmup.prior`


class ISSF(SnippetMethod):
    """Inferring salient snippet-features. See the module's description."""

    name: ClassVar[str] = "issf"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config: ClassVar[type[MethodConfig]] = ISSFConfig
    published_part: ClassVar[str] = "network"
    config: ISSFConfig

    def __init__(self, config: ISSFConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.network = ISSFNetwork(config, dim, len(self.classes))
        self.warmup = LabelWarmup(config.label_warmup)
        self.memory = Memory(len(self.classes), config.memory_slots, config.width or dim)

    # training

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        visits = self.config.epochs * len(data)
        batch = self.config.batch_size
        return [Stage("train", max(1, visits // batch), data.steps_per_epoch(batch))]

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.Adam(
            self.network.parameters(), lr=c.lr, betas=c.betas, weight_decay=c.weight_decay, fused=True
        )

    def draw(self, stage: int, step: int, data: TrainingData) -> ISSFBatch:
        """The next videos of a stream of shuffled epochs; a batch may reach into the next epoch."""
        visit = step * self.config.batch_size + np.arange(self.config.batch_size)
        epochs, place = np.divmod(visit, len(data))
        orders = {e: data.order(0x155F, stage, int(e)) for e in np.unique(epochs)}
        video = np.array([orders[e][p] for e, p in zip(epochs, place, strict=True)])
        batch, rows = data.packed(video)
        prior = self.warmup.prior(data, step / self.stages(data)[stage].steps, video)
        return ISSFBatch(**vars(batch), epochs=tuple(epochs.tolist()), rows=rows, prior=prior)

    def before_step(self, stage: int, step: int, data: TrainingData) -> None:
        """Fills the memory before the step in which its first epoch begins (no step lies in between)."""
        first = self.config.memory_start * len(data)
        if step * self.config.batch_size <= first < (step + 1) * self.config.batch_size:
            self.fill_memory(data)

    @torch.no_grad()
    def fill_memory(self, data: TrainingData, chunk: int = 16) -> None:
        """One pass over the training videos in evaluation mode: the best features of every labelled class."""
        self.eval()
        for start in range(0, len(data), chunk):
            batch = data.whole(np.arange(start, min(start + chunk, len(data))))
            out = self._embed(batch)
            labelled = batch.labels.repeat_interleave(out.salient_sizes, dim=0) > 0
            self.memory.fill(out.salient, self._salient_scores(out).masked_fill(~labelled, -torch.inf))
        self.train()

    def training_step(self, batch: ISSFBatch) -> dict[str, Tensor]:
        """Losses of section 5, summed over the videos of the batch as the published accumulation does."""
        c = self.config
        out = self._embed(batch)
        video = video_of_rows(batch.sizes, out.embedded)
        remembers = torch.tensor([e >= c.memory_start for e in batch.epochs])
        share = (remembers & ~batch.empty.cpu()).to(batch.labels)  # without a class there is nothing to read
        base, refined = (self._predict(x, batch) for x in (out.embedded, out.refined_features))
        views, weights, target = [base, refined], [torch.ones_like(share)] * 2, refined.logits
        if remembers.any():
            memory = self._predict(self._memory_features(out, batch), batch)
            views.append(memory)
            weights.append(c.memory_weight * share)
            part = c.memory_target_share * share[video, None]
            target = part * memory.logits + (1 - part) * target

        background = torch.ones_like(batch.labels[:, :1])
        fore = torch.cat([batch.labels, 0 * background], dim=1)
        back = torch.cat([batch.labels, background], dim=1)
        spl = soft_pseudo_label_loss(base.logits, target, c.temperature)
        spl_weight = c.spl_weight + (c.spl_weight_memory - c.spl_weight) * share
        weight = torch.stack(weights)
        agnostic, classwise = (
            among_known(torch.stack([getattr(v, n) for v in views]), batch.known)
            for n in ("agnostic", "classwise")
        )
        # where nothing occurs, all snippets are background
        attention = torch.where(
            batch.empty,
            mean_per_video(base.attention, video, len(batch)),
            attention_loss(base.attention, batch.sizes),
        )
        losses = {
            "fore": (weight * normalized_cross_entropy(agnostic, fore)).sum(dim=0),
            "back": (weight * normalized_cross_entropy(classwise, back)).sum(dim=0),
            "attention": attention,
            "spl": mean_per_video(spl, video, len(batch)),
        }
        total = (
            losses["fore"]
            + c.back_weight * losses["back"]
            + c.attention_weight * losses["attention"]
            + spl_weight * losses["spl"]
        )
        if batch.prior is not None:
            parts = (torch.split(x, batch.sizes) for x in (base.attention, batch.prior))
            losses["warmup"] = torch.stack([warmup_loss(a, p) for a, p in zip(*parts, strict=True)])
            total = total + losses["warmup"]
        return {"total": total.sum(), **{name: value.sum() for name, value in losses.items()}}

    def _memory_features(self, out: Embedding, batch: ISSFBatch) -> Tensor:
        """Memory-refined features (N, D). Video by video, since each one updates what the next one reads."""
        c = self.config
        salient, sizes = (out.salient.detach(), self._salient_scores(out)), out.salient_sizes.tolist()
        videos = zip(
            batch.epochs,
            batch.labels,
            torch.split(out.refined_features, batch.sizes),
            *(torch.split(x, sizes) for x in salient),
            strict=True,
        )
        answers = []
        for epoch, labels, refined, features, scores in videos:
            labelled = labels.nonzero()[:, 0].tolist() if epoch >= c.memory_start else []
            classes = labelled if c.memory_index == "labelled" else [0] * len(labelled)
            answers.append(attend(refined, self.memory.read(sorted(set(classes)))))
            self.memory.update(classes, features, scores, memory_momentum(epoch, c.epochs, c.momentum_start))
        return torch.cat(answers)

    def _embed(self, batch: Batch) -> Embedding:
        rows = batch.rows if isinstance(batch, ISSFBatch) else None
        if rows is None:
            rows = batch.features[batch.mask]
        out: Embedding = by_videos(self.network, rows, batch.sizes)
        return out

    def _predict(self, features: Tensor, batch: Batch) -> View:
        view: View = by_videos(self.network.predict, features, batch.sizes)
        return view

    @torch.no_grad()
    def _salient_scores(self, out: Embedding) -> Tensor:
        """Class probabilities (K, C) of the embedded salient features, before the gate."""
        logits = self.config.scale * unit(out.salient) @ unit(self.network.ac_center).T
        return logits.softmax(dim=1)[:, :-1]

    # inference (section 7)

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        """Base and refined branch, averaged; the activation sequence is weighted by the base attention."""
        r, out = self.config.refined_share, self._embed(batch)
        base, refined = (self._predict(x, batch) for x in (out.embedded, out.refined_features))
        video = (1 - r) * base.agnostic.exp() + r * refined.agnostic.exp()
        cas = (1 - r) * base.logits.softmax(dim=1) + r * refined.logits.softmax(dim=1)
        attended = (cas * base.attention[:, None])[:, :-1]
        snippets, attention = (torch.split(x, batch.sizes) for x in (attended, base.attention))
        return snippet_scores(batch.names, batch.axes, batch.sizes, snippets, attention, video[:, :-1])

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """Runs of the activation sequence at many low thresholds, outer-inner contrast, suppression."""
        return Detections.concatenate([self._localize(s) for s in scores], self.classes)

    def _localize(self, scores: SnippetScores) -> Detections:
        c = self.config
        picked = np.flatnonzero(scores.video_scores >= c.class_threshold)
        if not len(picked):
            return Detections.empty([scores.video], self.classes)
        curves = np.ascontiguousarray(scores.cas[:, picked].T, dtype=np.float64)
        start, end, curve, contrast = self.proposals(curves)
        kept = nms(start, end, contrast, c.nms_threshold, overlap=c.nms_overlap, group=curve)
        start, end = scores.axis.seconds_at(start), scores.axis.seconds_at(end)
        found = Detections.in_video(scores.video, self.classes, start, end, picked[curve], contrast)
        return found[kept]

    def proposals(self, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Start, end (snippets), row of `curves` (K, T) and contrast of all runs of two or more snippets."""
        c, heights = self.config, curves
        if c.thresholds_of == "maximum":
            top = curves.max(axis=1, keepdims=True)
            heights = curves / np.where(top > 0, top, 1)
        runs = find_runs(heights, c.thresholds, strict=True, min_length=2)
        extra = int(c.end_past_run)
        contrast = outer_inner_contrast(curves, runs, c.margin, extra=extra)
        return runs.start, runs.end + extra, runs.curve, contrast

    # official weights

    @classmethod
    def from_published(cls, state_dict: Mapping[str, Any], **options: Any) -> Self:
        """See `Method.from_published`. The official release has unused layers, and no memory."""
        unused = ("saliency", "saliency_back", "weight_linear.weight")
        used = {k: v for k, v in state_dict.items() if k.removeprefix("module.") not in unused}
        return super().from_published(used, **options)

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        count, width = shape_of(weights, "ac_center", 2)
        _, dim = shape_of(weights, "feature_embedding.0.weight", 2)
        gate, _ = shape_of(weights, "channel_weights.0.weight", 2)
        return dim, count - 1, {"width": width, "gate_reduction": width // gate}
