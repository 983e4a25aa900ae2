"""STCL-Net: semantic and temporal contextual correlation learning (Fu, Gao and Xu, TPAMI 2023).

A snippet is classified three times: from its own features (the gated two-stream trunk of CO2-Net), from the
other snippets of its video (TCL), and from exemplars of every class, taken from other training videos (SCL).
The three class activation sequences are mixed; the attention of the trunk alone decides where actions are.

B videos of a batch, T snippets, D features (first half RGB, second half flow), C classes, column C of C + 1
is background; M exemplar videos of every class, S snippets sampled from a training video.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from weaktal.core import Detections, InputError, SnippetScores
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import AnyGenerator, perturbed_rows
from weaktal.localize.classes import likely_classes
from weaktal.localize.curves import find_runs, outer_inner_contrast
from weaktal.localize.nms import soft_nms
from weaktal.methods.label_prior import LabelWarmup, WarmupShare, warmup_loss
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod, Stage, TrainingData, snippet_scores
from weaktal.methods.published import shape_of
from weaktal.nn.dropout import Dropout
from weaktal.nn.labels import among_known
from weaktal.nn.parallel import by_rows
from weaktal.nn.pooling import best_share_mean, masked_topk_mean
from weaktal.nn.temporal_conv import Conv1d

IntArray = NDArray[np.int64]


class STCLNetConfig(MethodConfig):
    """Settings of STCL-Net; the defaults are the published THUMOS14 run.

    Published quirks are fields of their own; the first value named is the published one.
    """

    # network
    attention_dim: int = Field(512, ge=1, description="channels inside the attention units")
    key_dim: int = Field(512, ge=1, description="channels of the keys of TCL and SCL")
    mix: tuple[float, float, float] = Field((0.55, 0.36, 0.09), description="of trunk, intra and inter")
    intra_layer: Literal[1, 2] = Field(2, description="TCL layer that is classified (ActivityNet: 1)")
    smoothing: int | None = Field(
        None, ge=1, description="ActivityNet: average over time with a window of 2(S // smoothing // 2) + 1"
    )
    dropout: float = Field(0.7, ge=0, lt=1, description="dropout before the classifiers")

    # exemplars
    exemplar_videos: int = Field(10, ge=1, description="M, drawn per class in every step (ActivityNet: 5)")
    exemplars: Literal["per_video", "cached"] = Field(
        "cached", description="at inference: drawn for each video (as published), or once, after training"
    )

    # training
    snippets: int = Field(500, ge=1, description="S")
    batch_size: int = Field(10, ge=1)
    pairs: int = Field(3, ge=0, description="pairs of videos of the same class that begin a batch")
    min_snippets: int = Field(
        0, ge=0, description="shorter training videos come only in pairs and as exemplars (ActivityNet: 11)"
    )
    iterations: int = Field(10_000, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    topk_ratio: int = Field(7, ge=1, description="the multiple-instance losses pool T // topk_ratio snippets")
    agreement: Literal["inner_product", "kl"] = Field(
        "inner_product", description="KL divergence of sequences as published (see the loss) or as meant"
    )
    agreement_weight: float = Field(1.0, description="ActivityNet: 0.1")
    norm_weight: float = Field(0.8, description="alpha 1")
    guide_weight: float = Field(0.8, description="alpha 2")
    coactivity_weight: float = Field(1.0, description="alpha 3")
    mutual_weight: float = Field(1.0, description="alpha 4")
    contrast_weight: float = 1.0
    label_warmup: WarmupShare = 0.0
    log_every: int = Field(200, ge=1, description="steps that count as one epoch")

    # localization
    class_threshold: float = Field(0.2, description="classes of at least this score, or else the best one")
    class_weight: float = Field(0.2, description="weight of the class score in a segment's score")
    pool_divisor: int = Field(10, ge=1, description="class scores pool the T // pool_divisor best snippets")
    thresholds: tuple[float, ...] = Field(
        tuple(np.linspace(0.1, 0.9, 10).tolist()), description="of the attention"
    )
    margin: float = Field(0.25, ge=0, description="width of the outer part, in lengths of the segment")
    sigma: float = Field(0.3, gt=0, description="width of the Gaussian soft-NMS")
    drop_lone_first: bool = Field(
        True, description="leave out a run when snippet 0 alone passes a threshold (a truth test of indices)"
    )
    nms_plus_one: bool = Field(True, description="overlap counts one snippet more, though ends are exclusive")
    nms_lifts_negative: bool = Field(
        True, description="soft-NMS multiplies negative scores too, which raises them; False leaves them"
    )
    classification: Literal["max", "top_eighth"] = Field(
        "max", description="of videos: by the maximum over time (a slip) or the mean of the T / 8 best"
    )


# exemplar videos that are looked at together: their layers stay in a processor's cache
AT_ONCE = 4


# --- network -----------------------------------------------------------------------------------------------


def layer(inputs: int, outputs: int, kernel: int, dropout: float) -> nn.Sequential:
    """Convolution, leaky ReLU, dropout."""
    return nn.Sequential(Conv1d(inputs, outputs, kernel), nn.LeakyReLU(0.2, inplace=True), Dropout(dropout))


def at_middle(layer: nn.Sequential, windows: Tensor) -> Tensor:
    """The outputs (..., outputs) of a `layer` at the middle of windows (..., kernel, inputs)."""
    conv = layer[0]
    assert isinstance(conv, Conv1d)
    out: Tensor = layer[1:](F.linear(windows.flatten(-2), conv.weight.mT.flatten(1), conv.bias))
    return out


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


class AttentionUnit(nn.Module):
    """Filters a modality with a gate made of its own average and of the other modality; reads an attention.

    A modality has `dim` channels, h, the attention `attention_dim` inside.
    """

    def __init__(self, dim: int, attention_dim: int) -> None:
        super().__init__()
        self.channel_conv = layer(dim, dim, 3, 0.5)
        self.bit_wise_attn = layer(dim, dim, 3, 0.5)
        self.attention = nn.Sequential(
            *layer(dim, attention_dim, 3, 0.5),
            Conv1d(attention_dim, attention_dim, 3),
            nn.LeakyReLU(0.2, inplace=True),
            Conv1d(attention_dim, 1, 1),
            Dropout(0.5),  # on the logit: in training half of the attentions are 0.5
        )

    def filtered(self, own: Tensor, average: Tensor, bits: Tensor) -> Tensor:
        """The modality `own` (B, T, h), with its `average` (B, h) over time and the `bits` (B, T, h)."""
        channel = self.channel_conv(average[:, None])  # over a sequence of one element
        return torch.sigmoid(channel * bits) * own

    def attend(self, filtered: Tensor, mask: Tensor | None) -> Tensor:
        """The attention (B, T, 1); `mask` (B, T, 1)."""
        hidden = _masked(self.attention[:3](filtered), mask)
        return torch.sigmoid(self.attention[3:](hidden))


class Trunk(NamedTuple):
    """The trunk's view of whole videos."""

    x: Tensor  # (B, T, D), embedding
    attention: Tensor  # (B, T, 1), the mean of the next two
    rgb_attention: Tensor
    flow_attention: Tensor


class Output(NamedTuple):
    """What the network says."""

    feat: Tensor  # (B, T, D), embedded features
    cas: Tensor  # (B, T, C + 1), the mixture of the next three sequences of logits
    origin: Tensor
    intra: Tensor
    inter: Tensor
    attention: Tensor  # (B, T, 1)
    rgb_attention: Tensor
    flow_attention: Tensor


def suppressed(cas: Tensor, attention: Tensor) -> Tensor:
    """Logits (B, T, C + 1) pulled towards the lowest of their snippet where attention (B, T, 1) is low."""
    low = cas.amin(-1, keepdim=True)
    return attention * (cas - low) + low


class STCLNetwork(nn.Module):
    """The network for features of width `dim`, even; parameter names are those of the official release."""

    def __init__(self, dim: int, classes: int, config: STCLNetConfig) -> None:
        super().__init__()
        self.config = config
        half, keys = dim // 2, config.key_dim
        self.vAttn = AttentionUnit(half, config.attention_dim)
        self.fAttn = AttentionUnit(half, config.attention_dim)
        self.fusion = layer(dim, dim, 1, 0.7)
        self.intra_temp_conv1_k, self.intra_temp_conv1_v = Conv1d(dim, keys, 1), Conv1d(dim, dim, 1)
        self.intra_temp_conv2_k, self.intra_temp_conv2_v = Conv1d(dim, keys, 3), Conv1d(dim, dim, 3)
        self.inter_vid_conv1_k, self.inter_vid_conv1_v = Conv1d(dim, keys, 1), Conv1d(dim, dim, 1)
        self.inter_exem_conv1_k, self.inter_exem_conv1_v = Conv1d(dim, keys, 1), Conv1d(dim, dim, 1)
        self.clswise_atn_conv = Conv1d(dim, 1, 1)

        def classifier(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                Dropout(config.dropout), *layer(inputs, dim, 3, 0.7), Conv1d(dim, classes + 1, 1)
            )

        self.intra_temp_classifier = classifier(dim)
        self.inter_temp_classifier = classifier(2 * dim)
        self.classifier = classifier(dim)
        for module in self.modules():
            if isinstance(module, Conv1d):
                nn.init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def trunk(self, features: Tensor, mask: Tensor | None = None) -> Trunk:
        """Gates, attentions and fusion: `features` (B, T, D), zero at padding, and `mask` (B, T, 1)."""
        average = features.mean(1) if mask is None else features.sum(1) / mask.sum(1)
        rgb, flow = features.chunk(2, 2)
        bits = self.vAttn.bit_wise_attn(flow), self.fAttn.bit_wise_attn(rgb)
        v, f = self.filter(features, average, *bits)
        x = self.fusion(torch.cat([v, f], 2))
        v, f = self.vAttn.attend(v, mask), self.fAttn.attend(f, mask)
        return Trunk(_masked(x, mask), (v + f) / 2, v, f)

    def filter(
        self, features: Tensor, average: Tensor, rgb_bits: Tensor, flow_bits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both modalities of `features` (B, T, D), filtered; `average` (B, D), bits (B, T, D / 2)."""
        (rgb, flow), (rgb_mean, flow_mean) = features.chunk(2, 2), average.chunk(2, 1)
        return self.vAttn.filtered(rgb, rgb_mean, rgb_bits), self.fAttn.filtered(flow, flow_mean, flow_bits)

    def correlate(self, x: Tensor, key: Conv1d, value: Conv1d, mask: Tensor | None) -> Tensor:
        """A TCL layer: every snippet adds what the snippets like it say. (B, T, D) to (B, T, D)."""
        k, v = F.normalize(key(x), dim=2), value(x)
        similar = k @ k.transpose(1, 2)
        if mask is not None:
            similar = similar.masked_fill(mask.transpose(1, 2) == 0, -torch.inf)
        return _masked(F.relu(v + similar.softmax(2) @ v), mask)

    def relate(self, x: Tensor, exemplars: Tensor) -> Tensor:
        """SCL: what the exemplars say about every snippet.

        Args:
            x: (B, T, D).
            exemplars: (C + 1, M, D), or (B, C + 1, M, D) with exemplars of their own for every video.

        Returns:
            (B, T, 2D), own value and exemplar context.
        """
        per_class, m, d = exemplars.shape[-3:]
        flat = exemplars.reshape(-1, per_class * m, d)  # 1 or B rows
        k = F.normalize(self.inter_vid_conv1_k(x), dim=2)
        keys = F.normalize(self.inter_exem_conv1_k(flat), dim=2)
        values = self.inter_exem_conv1_v(flat)
        # the context of class a is a mean of M values, and its logit the same mean of M numbers: the tensor
        # of all contexts, (B, T, C + 1, D), is not needed
        logits = self.clswise_atn_conv(values).reshape(-1, 1, per_class, m)
        weights = (k @ keys.transpose(1, 2)).reshape(len(x), -1, per_class, m).softmax(3)
        class_weights = (weights * logits).sum(3, keepdim=True).softmax(2)
        context = (weights * class_weights).flatten(2) @ values
        return torch.cat([self.inter_vid_conv1_v(x), context], 2)

    def smooth(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The moving average of the ActivityNet model, zeros beyond the ends; (B, T, channels)."""
        if self.config.smoothing is None:
            return x
        half = self.config.snippets // self.config.smoothing // 2
        return F.avg_pool1d(_masked(x, mask).transpose(1, 2), 2 * half + 1, 1, half).transpose(1, 2)

    def forward(self, features: Tensor, exemplars: Tensor, mask: Tensor | None = None) -> Output:
        """Classify every snippet.

        Args:
            features: (B, T, D), zero at padding.
            exemplars: (C + 1, M, D) or (B, C + 1, M, D).
            mask: (B, T) bool, true at valid snippets; None if all are. What stands at padding is undefined.
        """
        valid = None if mask is None else mask[..., None].to(features.dtype)
        trunk = self.trunk(features, valid)
        origin = self.classifier(trunk.x)
        y = self.correlate(trunk.x, self.intra_temp_conv1_k, self.intra_temp_conv1_v, valid)
        if self.config.intra_layer == 2:
            y = self.correlate(y, self.intra_temp_conv2_k, self.intra_temp_conv2_v, valid)
        intra = self.intra_temp_classifier(y)
        related = _masked(F.relu(self.relate(trunk.x, exemplars)), valid)
        inter = self.inter_temp_classifier(related)
        origin, intra, inter, *attentions = (
            self.smooth(s, valid) for s in (origin, intra, inter, *trunk[1:])
        )
        a, b, c = self.config.mix
        return Output(trunk.x, a * origin + b * intra + c * inter, origin, intra, inter, *attentions)

    def exemplar_means(self, snippets: Tensor, label: Tensor, source: Tensor) -> Tensor:
        """Mean embedding of the top foreground and of the top background snippets of exemplar videos.

        They are chosen in a pass without a graph. Only they, a fifth of all, are embedded with one, each from
        itself, its neighbours and the average of the video. In training, either pass drops out on its own.

        Args:
            snippets: (N, S) int64, the rows of `source` that make up each video.
            label: (N,), the class that each video stands for.
            source: (R, D) features.

        Returns:
            (N, 2, D): foreground, background.
        """
        device = self.clswise_atn_conv.weight.device
        snippets, label = snippets.to(source.device), label.to(device)
        chosen = []
        with torch.no_grad():
            blocks = (torch.split(x, AT_ONCE) for x in (snippets, label))
            for some, classes in zip(*blocks, strict=True):
                features = source[some].to(device)
                chosen.append((self.choose(features, classes), features.mean(1)))
        rows, average = (torch.cat(x) for x in zip(*chosen, strict=True))
        around = F.pad(snippets, (1, 1), value=-1).unfold(1, 3, 1)  # (N, S, 3), -1 beyond the ends
        near = around.gather(1, rows.flatten(1)[..., None].expand(-1, -1, 3).to(source.device))
        windows = source[near].masked_fill_((near < 0)[..., None], 0).to(device)  # (N, 2k, 3, D)
        rgb, flow = windows.chunk(2, 3)
        bits = at_middle(self.vAttn.bit_wise_attn, flow), at_middle(self.fAttn.bit_wise_attn, rgb)
        x: Tensor = self.fusion(torch.cat(self.filter(windows[:, :, 1], average, *bits), 2))
        return x.view(len(x), 2, -1, x.shape[2]).mean(2)

    def choose(self, features: Tensor, label: Tensor) -> Tensor:
        """Rows (N, 2, k) of the top foreground and the top background snippets of videos (N, S, D)."""
        trunk = self.trunk(features)
        scores = self.classifier(trunk.x)
        own = label[:, None, None].expand(-1, scores.shape[1], 1)
        own = suppressed(scores, trunk.attention).gather(2, own)
        both = torch.cat([own, scores[..., -1:]], 2)
        return both.topk(max(1, features.shape[1] // 10), dim=1).indices.mT


# --- losses ------------------------------------------------------------------------------------------------


def topk_loss(
    logits: Tensor, labels: Tensor, background: float, ratio: int, known: Tensor | None = None
) -> Tensor:
    """Multiple-instance loss of logits (B, T, C + 1) pooled over their T // `ratio` largest values.

    Args:
        labels: (B, C), 0 or 1.
        background: whether the background column counts as present, 1 or 0.
        known: (B, C) bool, see `Batch`.

    Returns:
        (B,) cross-entropies.
    """
    target = F.pad(labels, (0, 1), value=background)
    target = target / (target.sum(1, keepdim=True) + 1e-4)
    pooled = best_share_mean(logits, ratio)
    return -(target * among_known(pooled.log_softmax(1), known)).sum(1)


def agreement_loss(sequences: Sequence[Tensor], kind: Literal["inner_product", "kl"]) -> Tensor:
    """How far sequences of logits (B, T, C + 1) disagree, over the ordered pairs (p, q) of their softmax.

    "inner_product" is the mean of q (log q - p), "kl" of q (log q - log p), over all B T (C + 1) elements.
    Logarithms come from the logits, since a probability may be 0 in float32: there q log q has no gradient.
    """
    logs = torch.stack([s.log_softmax(-1) for s in sequences])
    q = logs.exp()
    p = q if kind == "inner_product" else logs
    n = len(sequences)
    # sum over pairs i != j of q_j log q_j - q_j p_i
    pairs = (n - 1) * q * logs - q * (p.sum(0) - p)
    return pairs.mean((1, 2, 3)).sum()


def coactivity_loss(logits: Tensor, feat: Tensor, labels: Tensor, pairs: int) -> Tensor:
    """Co-activity similarity of the pairs of rows (0, 1), (2, 3), ... (W-TALC).

    Args:
        logits: (B, T, C + 1), suppressed.
        feat: (B, T, D).
        labels: (B, C).
        pairs: number of pairs, as far as there are rows; without a shared class the loss is 0.
    """
    pairs = min(pairs, len(feat) // 2)
    w = logits[: 2 * pairs, :, :-1].softmax(1).transpose(1, 2)
    x = feat[: 2 * pairs]
    high = w @ x  # (2P, C, D)
    low = (1 - w) @ x / max(feat.shape[1] - 1, 1)
    h1, h2, l1, l2 = high[::2], high[1::2], low[::2], low[1::2]
    near = 1 - F.cosine_similarity(h1, h2, dim=-1)
    far = 1 - torch.stack([F.cosine_similarity(h1, l2, dim=-1), F.cosine_similarity(h2, l1, dim=-1)])
    hinge = 0.5 * F.relu(near - far + 0.5).sum(0)  # (P, C)
    shared = labels[0 : 2 * pairs : 2] * labels[1 : 2 * pairs : 2]
    return (hinge * shared).sum() / shared.sum().clamp(min=1)


def mine_snippets(attention: Tensor, easy_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CoLA's snippet mining on an attention (B, T): rows (B, k) of easy action, easy background, hard action
    and hard background.

    Easy snippets are the most and the least attended ones among those that `easy_mask` (B, T) leaves. Hard
    ones are the most attended on the inner and on the outer side of the borders of the attended half of the
    video. Of equal scores the earlier snippet comes first (the published sort leaves that open).
    """
    length = attention.shape[1]

    def top(score: Tensor, k: int) -> Tensor:
        return score.sort(dim=1, descending=True, stable=True).indices[:, : max(1, k)]

    ordered = attention.sort(dim=1).values
    median = (ordered[:, (length - 1) // 2] + ordered[:, length // 2]) / 2
    active = (attention > median[:, None]).to(attention.dtype)

    def dilated(before: int, after: int) -> Tensor:
        return F.max_pool1d(F.pad(active, (before, after)), before + after + 1, 1)

    def eroded(before: int, after: int) -> Tensor:
        return -F.max_pool1d(-F.pad(active, (before, after)), before + after + 1, 1)

    inner, outer = eroded(1, 1) - eroded(3, 2), dilated(2, 3) - dilated(1, 1)
    easy, hard = length // 5, length // 20
    return (
        top(attention * easy_mask, easy),
        top((attention.amax(1, keepdim=True) - attention) * easy_mask, easy),
        top(attention * inner, hard),
        top(attention * outer, hard),
    )


def contrast_loss(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE, (B,): the mean of `query` (B, k, D) to that of `positive`, away from each of `negatives`."""
    q, p = (F.normalize(x.mean(1), dim=1)[:, None] for x in (query, positive))
    n = F.normalize(negatives, dim=2)
    similar = (q @ torch.cat([p, n], 1).transpose(1, 2))[:, 0] / temperature
    return -similar.log_softmax(1)[:, 0]


def losses(
    out: Output,
    labels: Tensor,
    config: STCLNetConfig,
    easy_mask: Tensor | None = None,
    known: Tensor | None = None,
) -> dict[str, Tensor]:
    """All losses of a batch whose videos have equal length; "total" is their weighted sum.

    Args:
        out: of the network in training mode.
        labels: (B, C).
        easy_mask: (B, T), which snippets easy mining may take; None draws one (dropout of 0.6).
        known: (B, C) bool, see `Batch`.
    """
    low = suppressed(out.cas, out.attention)
    ratio = config.topk_ratio
    background = 1 - out.cas.softmax(-1)[..., -1:]
    attentions = (out.attention, out.rgb_attention, out.flow_attention)
    rgb, flow = out.rgb_attention, out.flow_attention
    if easy_mask is None:
        easy_mask = F.dropout(torch.ones_like(out.attention[..., 0]), 0.6)
    with torch.no_grad():
        mined = mine_snippets(out.attention[..., 0], easy_mask)
    some = labels.any(1)  # where nothing occurs, nothing that is mined is action
    ea, eb, ha, hb = (out.feat.gather(1, r[..., None].expand(-1, -1, out.feat.shape[2])) for r in mined)
    parts = {
        "mil": topk_loss(out.cas, labels, 1.0, ratio, known).mean(),
        "mil_suppressed": topk_loss(low, labels, 0.0, ratio, known).mean(),
        "mil_intra": topk_loss(out.intra, labels, 1.0, ratio, known).mean(),
        "mil_origin": topk_loss(out.origin, labels, 1.0, ratio, known).mean(),
        "mil_inter": topk_loss(out.inter, labels, 1.0, ratio, known).mean(),
        "agreement": agreement_loss((out.origin, out.intra, out.inter), config.agreement),
        "coactivity": coactivity_loss(low, out.feat, labels, config.pairs),
        "mutual": 0.5 * (F.mse_loss(rgb, flow.detach()) + F.mse_loss(flow, rgb.detach())),
        "norm": torch.stack([a.mean() for a in attentions]).mean(),
        "guide": torch.stack([(background - a).abs().mean() for a in attentions]).mean(),
        "contrast": (contrast_loss(ha, ea, eb) * some).mean() + (contrast_loss(hb, eb, ea) * some).mean(),
    }
    weights = {
        "agreement": config.agreement_weight,
        "coactivity": config.coactivity_weight,
        "mutual": config.mutual_weight,
        "norm": config.norm_weight,
        "guide": config.guide_weight,
        "contrast": config.contrast_weight,
    }
    total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
    return {"total": total, **parts}


# --- scores of videos --------------------------------------------------------------------------------------


def class_scores(activation: Tensor, mask: Tensor, divisor: int) -> Tensor:
    """Class scores of videos, (B, C): pooled activations under a softmax with the background.

    Args:
        activation: (B, T, C + 1), logits times attention.
        mask: (B, T) bool, true at valid snippets.
        divisor: the length // `divisor` largest values are averaged.
    """
    return best_share_mean(activation, divisor, mask).softmax(1)[:, :-1]


def classification_scores(cas: Tensor, lengths: Tensor, kind: Literal["max", "top_eighth"] = "max") -> Tensor:
    """`STCLNetConfig.classification` scores (B, C + 1) of sequences (B, T, C + 1)."""
    mask = torch.arange(cas.shape[1], device=lengths.device) < lengths[:, None]
    k = torch.ones_like(lengths) if kind == "max" else (lengths + 7) // 8
    return masked_topk_mean(cas, k, mask).softmax(1)


# --- drawing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoLists:
    """From which videos a batch is drawn."""

    by_class: dict[int, IntArray]  # the videos of every class that has one, by class index
    all: IntArray  # the videos for the rows of a batch that are not paired

    @classmethod
    def of(cls, labels: NDArray[np.float32], lengths: IntArray, min_snippets: int = 0) -> VideoLists:
        """From video-level labels (V, C) and numbers of snippets (V,)."""
        by_class = {c: np.flatnonzero(labels[:, c]) for c in range(labels.shape[1]) if labels[:, c].any()}
        return cls(by_class, np.flatnonzero(lengths >= min_snippets))


def _some(rng: AnyGenerator, videos: IntArray, count: int) -> IntArray:
    """`count` different videos; with repetition where there are fewer (the published code raises)."""
    return np.asarray(rng.choice(videos, count, replace=len(videos) < count), np.int64)


def draw_videos(rng: AnyGenerator, lists: VideoLists, pairs: int, batch_size: int) -> IntArray:
    """The videos of a batch, (batch_size,): `pairs` pairs that share a class, then any.

    Args:
        rng: a NumPy generator; with the legacy ``RandomState`` the draws are those of the published code.
    """
    classes = list(lists.by_class)
    paired = [_some(rng, lists.by_class[classes[i]], 2) for i in rng.choice(len(classes), pairs)]
    return np.concatenate([*paired, rng.choice(lists.all, batch_size - 2 * pairs)]).astype(np.int64)


def draw_exemplars(
    rng: AnyGenerator, lists: VideoLists, lengths: IntArray, classes: int, videos: int, size: int
) -> tuple[IntArray, IntArray]:
    """Exemplar videos of every class and their snippets, in the published order of draws.

    Returns:
        video (C, M) and rows (C, M, size). A class without training videos borrows from all of them.
    """
    video = np.empty((classes, videos), np.int64)
    rows = np.empty((classes, videos, size), np.int64)
    for c in range(classes):
        video[c] = _some(rng, lists.by_class.get(c, lists.all), videos)
        rows[c] = perturbed_rows(lengths[video[c]], size, rng)
    return video, rows


@dataclass(frozen=True)
class ExemplarBatch(Batch):
    """A training batch with the exemplar videos of its step."""

    bank: FeatureBank  # of the training videos
    exemplars: Tensor  # (C, M, S) int64, rows of ``bank.data``: the sampled exemplar videos
    prior: Tensor | None = None  # (B, S), in the warm-up, see `LabelWarmup.prior`


# --- the method --------------------------------------------------------------------------------------------

# random draws for inference; those of training have the keys (stage, step)
EXEMPLAR_KEY = 0xE8E


class STCLNet(SnippetMethod):
    """STCL-Net: schedule, exemplars, scores and segments.

    With ``exemplars="cached"`` a last stage without steps makes the exemplars from the trained network and
    stores them as a buffer, so that a run localizes new videos without the training features.
    """

    name: ClassVar[str] = "stcl_net"
    supervision: ClassVar[Literal["video", "point"]] = "video"
    Config: ClassVar[type[MethodConfig]] = STCLNetConfig
    published_part: ClassVar[str] = "network"
    two_streams: ClassVar[bool] = True
    config: STCLNetConfig
    exemplars: Tensor  # (C + 1, M, D)
    has_exemplars: Tensor  # bool: `exemplars` belongs to the present weights

    def __init__(self, config: STCLNetConfig, *, dim: int, classes: Sequence[str]) -> None:
        super().__init__(config, dim=dim, classes=classes)
        self.network = STCLNetwork(dim, len(classes), config)
        self.register_buffer("exemplars", torch.zeros(len(classes) + 1, config.exemplar_videos, dim))
        self.register_buffer("has_exemplars", torch.tensor(False))
        self.warmup = LabelWarmup(config.label_warmup)
        self._training_data: tuple[TrainingData, VideoLists] | None = None

    # training

    def use_training_data(self, data: TrainingData) -> VideoLists:
        """Remember from which videos exemplars are drawn; training does it by itself."""
        if self._training_data is None or self._training_data[0] is not data:
            if data.bank.data.shape[1] != self.dim:
                raise InputError(
                    "the training features have another width than the network",
                    found=data.bank.data.shape[1],
                    expected=self.dim,
                )
            lists = VideoLists.of(data.weak.multi_hot(), data.bank.lengths, self.config.min_snippets)
            if not lists.by_class or not len(lists.all):
                raise InputError(
                    "no training video is labelled and long enough",
                    expected=f"at least one of {max(1, self.config.min_snippets)} snippets",
                )
            self._training_data = data, lists
        return self._training_data[1]

    def stages(self, data: TrainingData) -> Sequence[Stage]:
        steps = data.lengthened(self.config.iterations)
        train = Stage("train", steps, min(self.config.log_every, steps))
        return [train, Stage("exemplars", 0, 1)] if self.config.exemplars == "cached" else [train]

    def begin_stage(self, stage: int, data: TrainingData) -> None:
        self.use_training_data(data)
        if stage == 1:
            self.make_exemplars(data)

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        c, parameters = self.config, self.network.parameters()
        return torch.optim.Adam(parameters, c.learning_rate, weight_decay=c.weight_decay, fused=True)

    def draw(self, stage: int, step: int, data: TrainingData) -> ExemplarBatch:
        c, bank, lists = self.config, data.bank, self.use_training_data(data)
        rng = data.rng(stage, step)
        video = draw_videos(rng, lists, min(c.pairs, c.batch_size // 2), c.batch_size)
        rows = perturbed_rows(bank.lengths[video], c.snippets, rng)
        batch = data.batch(video, bank.rows(video, rows))
        prior = self.warmup.prior(data, step / self.stages(data)[stage].steps, video, rows)
        return ExemplarBatch(**vars(batch), bank=bank, exemplars=self._draw_exemplars(rng, data), prior=prior)

    def _draw_exemplars(self, rng: AnyGenerator, data: TrainingData) -> Tensor:
        c, bank = self.config, data.bank
        lists = self.use_training_data(data)
        video, rows = draw_exemplars(
            rng, lists, bank.lengths, len(self.classes), c.exemplar_videos, c.snippets
        )
        return torch.from_numpy(bank.offsets[video][..., None] + rows)

    def embed_exemplars(self, snippets: Tensor, bank: FeatureBank) -> Tensor:
        """The exemplars of sampled videos, (C, M, S) rows of ``bank.data``: (C + 1, M, D).

        Exemplar m of the background is the average over the m-th videos of all classes.
        """
        classes, m = snippets.shape[:2]
        label = torch.arange(classes, device=snippets.device).repeat_interleave(m)
        means = by_rows(self.network.exemplar_means, snippets.flatten(0, 1), label, source=bank.data)
        foreground, background = means.unflatten(0, (classes, m)).unbind(2)
        return torch.cat([foreground, background.mean(0, keepdim=True)])

    def training_step(self, batch: ExemplarBatch) -> dict[str, Tensor]:
        self.has_exemplars.fill_(False)
        exemplars = self.embed_exemplars(batch.exemplars, batch.bank)
        out = by_rows(self.network, batch.features, exemplars=exemplars)
        found = losses(out, batch.labels, self.config, known=batch.known)
        if batch.prior is not None:
            both = torch.cat([out.rgb_attention, out.flow_attention], -1).mT
            found["warmup"] = warmup_loss(both, batch.prior[:, None]).mean()
            found["total"] = found["total"] + found["warmup"]
        return found

    # inference

    @torch.no_grad()
    def make_exemplars(self, data: TrainingData) -> None:
        """Draw exemplars from the training videos once and keep them with the weights."""
        self.use_training_data(data)
        was_training = self.training
        self.eval()
        rng = data.rng(EXEMPLAR_KEY, 0)
        self.exemplars.copy_(self.embed_exemplars(self._draw_exemplars(rng, data), data.bank))
        self.has_exemplars.fill_(True)
        self.train(was_training)

    def _exemplars_for(self, names: Sequence[str]) -> Tensor:
        """Exemplars for whole videos: one set for all, or a set for each."""
        known = self._training_data
        if self.config.exemplars == "cached":
            if not bool(self.has_exemplars):
                if known is None:
                    raise InputError(
                        "these STCL-Net weights have no stored exemplars",
                        hint="exemplars are made when training ends; for official weights give "
                        "`weaktal convert-checkpoint` --data, or call make_exemplars(training_data)",
                    )
                self.make_exemplars(known[0])
            return self.exemplars
        if known is None:
            raise InputError(
                "exemplars='per_video' needs the training features",
                hint="call use_training_data(training_data), or set exemplars='cached'",
            )
        keys = [zlib.crc32(name.encode()) for name in names]
        draws = [self._draw_exemplars(known[0].rng(EXEMPLAR_KEY, 1, key), known[0]) for key in keys]
        return torch.stack([self.embed_exemplars(draw, known[0].bank) for draw in draws])

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Video classification scores (B, C + 1) as the published code evaluates them, background last.

        They play no part in localization.
        """
        cas = self.network(batch.features, self._exemplars_for(batch.names), batch.mask).cas
        return classification_scores(cas, batch.lengths, self.config.classification)

    @torch.no_grad()
    def score(self, batch: Batch) -> list[SnippetScores]:
        out = self.network(batch.features, self._exemplars_for(batch.names), batch.mask)
        activation = out.cas * out.attention
        return snippet_scores(
            batch.names,
            batch.axes,
            batch.lengths.tolist(),
            activation[..., :-1],
            out.attention[..., 0],
            class_scores(activation, batch.mask, self.config.pool_divisor),
        )

    def localize(self, scores: Sequence[SnippetScores]) -> Detections:
        """Runs of the attention at many thresholds, scored for every likely class, under soft-NMS.

        Rows are ordered by video, class and picking of the soft-NMS.
        """
        return Detections.concatenate([self._localize(s) for s in scores], self.classes)

    def _localize(self, scores: SnippetScores) -> Detections:
        """Of one video; everything is in snippets until the end."""
        c, likely = self.config, likely_classes(scores.video_scores, self.config.class_threshold)
        runs = find_runs(scores.foreground, c.thresholds, strict=True, drop_lone_first=c.drop_lone_first)
        runs = runs.for_each(len(likely))
        contrast = outer_inner_contrast(scores.cas[:, likely].T, runs, c.margin)
        label = likely[runs.curve]
        rows, score = soft_nms(
            runs.start,
            runs.end,
            contrast + c.class_weight * scores.video_scores[label].astype(np.float64),
            sigma=c.sigma,
            plus_one=c.nms_plus_one,
            lift_negative=c.nms_lifts_negative,
            group=label,
        )
        start, end = scores.axis.seconds_at(np.stack([runs.start, runs.end])[:, rows])
        return Detections.in_video(scores.video, self.classes, start, end, label[rows], score)

    # official weights

    @classmethod
    def published_sizes(cls, weights: Mapping[str, Tensor]) -> tuple[int, int, dict[str, Any]]:
        dim = shape_of(weights, "fusion.0.weight", 3)[0]
        (columns,), (keys,), (inside,) = (
            shape_of(weights, f"{name}.bias", 1)
            for name in ("classifier.4", "intra_temp_conv1_k", "vAttn.attention.0")
        )
        return dim, columns - 1, {"key_dim": keys, "attention_dim": inside}
