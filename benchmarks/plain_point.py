"""Plain training steps of the point-level methods, as `benchmarks/training.py` runs them.

The published procedures of LAC and TSPNet, one video at a time, written for these benchmarks: torch's own
layers, Python loops over clicks, runs and segments, and vectorised operations inside a run or a segment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from point import plain_search
from torch import Tensor, nn

from weaktal.localize.sequence_search import ACTION, BACKGROUND, FREE
from weaktal.methods.lac import LACConfig
from weaktal.methods.tspnet import TSPNetConfig
from weaktal.nn.roi_align import segment_bins

RATE = 25 / 16
Draw = Callable[[int, int], int]  # an integer from [low, high)


# -- LAC ----------------------------------------------------------------------------------------------------


class PlainLAC(nn.Module):
    """The network with torch's own layers, and the parameter names of ours."""

    def __init__(self, config: LACConfig, dim: int, classes: int) -> None:
        super().__init__()
        self.conv_1 = nn.Sequential(nn.Conv1d(dim, config.hidden, 3, padding=1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Conv1d(config.hidden, classes + 1, 1, bias=False))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A video (T, D) to scores (T, C + 1), the same with actions times (1 - background), features."""
        features = self.conv_1(x.T[None])
        s = self.classifier(self.drop(features))[0].T.sigmoid()
        fused = torch.cat([s[:, :-1] * (1 - s[:, -1:]), s[:, -1:]], 1)
        return s, fused, features[0].T


def plain_click_matrix(seconds: np.ndarray, label: np.ndarray, length: int, classes: int) -> np.ndarray:
    """(T, C), 1 at the snippet of every click."""
    points = np.zeros((length, classes), np.float32)
    for t, c in zip(seconds, label, strict=True):
        points[min(int(t * RATE + 1e-6), length - 1), c] = 1
    return points


def plain_seeds(
    background: np.ndarray, points: np.ndarray, config: LACConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Action seeds (T, C) and background seeds (T,), grown click by click."""
    length = len(background)
    action, sure = np.zeros_like(points), np.zeros(length, bool)
    clicks = np.flatnonzero(points.any(1))
    if not len(clicks):
        return action, sure
    first, last = clicks[0], clicks[-1]
    if first > 0:
        above = np.flatnonzero(background[:first] >= config.background_seed)
        sure[: (above[-1] if len(above) else background[:first].argmax()) + 1] = True
    if last < length - 1:
        rest = background[last + 1 :]
        above = np.flatnonzero(rest >= config.background_seed)
        sure[last + 1 + (above[0] if len(above) else rest.argmax()) :] = True
    for a, b in itertools.pairwise(clicks):
        if b - a > 1:
            above = np.flatnonzero(background[a + 1 : b] >= config.background_seed)
            if len(above) >= 2:
                sure[a + 1 + above[0] : a + 1 + above[-1] + 1] = True
            else:
                sure[a + 1 + background[a + 1 : b].argmax()] = True
    for click in clicks:
        action[click] = np.maximum(action[click], points[click])
        for step in (-1, 1):
            t = click + step
            while 0 <= t < length and background[t] <= config.action_seed and not sure[t]:
                if points[t].any():
                    break
                action[t] = np.maximum(action[t], points[click])
                t += step
    return action, sure


def plain_frame_loss(fused: Tensor, target: Tensor, chosen: Tensor) -> Tensor:
    weight = torch.where(target > 0, 1 - fused, fused) ** 2
    loss = (weight * F.binary_cross_entropy(fused, target, reduction="none")).sum(1)
    return (loss * chosen).sum() / chosen.sum().clamp(min=1)


def plain_runs(m: np.ndarray) -> list[tuple[int, int]]:
    """First and last snippet of the runs of ones in (T,), by the published rule: none without a change."""
    d = np.diff(m)
    at = np.flatnonzero(d).tolist()
    if not at:
        return []
    if d[at[0]] < 0:
        at.insert(0, -1)
    if d[at[-1]] > 0:
        at.append(len(m) - 2)
    return [(a + 1, b) for a, b in zip(at[::2], at[1::2], strict=True) if b >= a + 1]


def plain_contrast(p: Tensor, runs: list[tuple[int, int]], margin: float) -> list[Tensor]:
    """Mean inside minus mean around each run of (T,)."""
    out = []
    for first, last in runs:
        reach = (last + 1 - first) * margin
        low, high = max(0, int(first - reach)), min(len(p) - 1, int(last + reach))
        inner = p[first : last + 1].mean()
        outer = torch.cat([p[low:first], p[last + 1 : high + 1]])
        out.append(inner - outer.mean() if len(outer) else inner)
    return out


def plain_feature_loss(
    features: Tensor, runs: list[tuple[int, int]], length: int, temperature: float, draw: Draw
) -> Tensor | None:
    """Contrast of the actions of one class with the background between them."""
    segments: list[tuple[int, int, bool]] = []
    place = 0
    for first, last in runs:
        if first > place:
            segments.append((place, first, False))
        segments.append((first, last + 1, True))
        place = last + 1
    if place < length - 1:
        segments.append((place, length - 1, False))
    if len(runs) < 2:
        return None
    vectors = []
    for a, e, _ in segments:
        step = (e - a) / 3
        rows = []
        for i in range(3):
            low = int(a + i * step)
            rows.append(draw(low, max(int(a + (i + 1) * step), low + 1)))
        vectors.append(features[rows].mean(0))
    v = F.normalize(torch.stack(vectors), dim=1)
    action = torch.tensor([s[2] for s in segments], device=v.device)
    similar = torch.exp(v @ v.T / temperature) * (1 - torch.eye(len(v), device=v.device))
    share = similar[action].sum(0) / similar.sum(0)
    return -share[action].log().mean()


def plain_lac_loss(
    net: PlainLAC,
    config: LACConfig,
    x: Tensor,
    label: Tensor,
    points: np.ndarray,
    pseudo: np.ndarray | None,
    draw: Draw,
) -> Tensor:
    """Total loss of a video.

    Args:
        x: (T, D).
        label: (C,).
        points: (T, C).
        pseudo: (T, C), 1 on the action segments of the last search, or None before the first.
        draw: of the snippets that stand for a segment.
    """
    s, fused, features = net(x)
    length, device = len(x), x.device
    top = s[:, :-1].topk(max(1, length // config.topk), 0).values.mean(0)
    score = torch.where(label > 0, top, s[:, :-1].mean(0))
    video = F.binary_cross_entropy(score, label)
    _, sure = plain_seeds(fused[:, -1].detach().cpu().numpy(), points, config)
    clicks = torch.from_numpy(points).to(device)
    target = torch.cat([clicks, torch.zeros_like(clicks[:, :1])], 1)
    frame = plain_frame_loss(fused, target, clicks.amax(1) > 0)
    target = torch.zeros_like(target)
    target[:, -1] = 1
    background = plain_frame_loss(fused, target, torch.from_numpy(sure).to(device))
    total = config.video_weight * video + config.frame_weight * frame + config.background_weight * background
    if pseudo is None:
        return total
    actions: list[Tensor] = []
    rest: list[Tensor] = []
    feature = None
    for c in label.nonzero()[:, 0].tolist():
        runs = plain_runs(pseudo[:, c])
        actions += plain_contrast(fused[:, c], runs, config.margin)
        rest += plain_contrast(1 - fused[:, c], plain_runs(1 - pseudo[:, c]), config.margin)
        found = plain_feature_loss(features, runs, length, config.temperature, draw)
        feature = feature if found is None else found
    contrast = sum(((1 - torch.stack(found)).mean() for found in (actions, rest) if found), start=0.0 * video)
    total = total + config.score_weight * contrast**2
    return total if feature is None else total + config.feature_weight * feature


def plain_lac_search(
    net: PlainLAC, config: LACConfig, x: Tensor, label: Tensor, points: np.ndarray
) -> list[float]:
    """The best score of each labelled class; the transcripts themselves are not kept here."""
    with torch.no_grad():
        fused = net(x)[1].cpu().numpy()
    action, sure = plain_seeds(fused[:, -1], points, config)
    scores = []
    for c in label.nonzero()[:, 0].tolist():
        own = action[:, c] > 0
        if own.any():
            other = sure | (action.any(1) & ~own)
            marks = np.where(own, ACTION, np.where(other, BACKGROUND, FREE))
            scores.append(plain_search(fused[:, c], marks.tolist(), config.budget, config.search_min_score))
    return scores


# -- TSPNet -------------------------------------------------------------------------------------------------


class PlainTSPNet(nn.Module):
    """Segment features and network with torch's own layers, and the parameter names of ours.

    RoI alignment is one operation for all segments of a video (the published code calls a compiled one), and
    as there every bin of every segment is made, in every step.
    """

    def __init__(self, config: TSPNetConfig, dim: int, classes: int) -> None:
        super().__init__()

        def head(outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv1d(dim, dim // 2, 1), nn.ReLU(), nn.Conv1d(dim // 2, outputs, 1))

        self.bins = config.roi_size
        self.prop_fusion = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), nn.Dropout(config.dropout))
        self.prop_classifier, self.prop_attention, self.prop_completeness = (
            head(classes + 1),
            head(1),
            head(1),
        )

    def vectors(self, x: Tensor, segments: Tensor) -> Tensor:
        """Features (T, D) and segments (M, 2) to (M, 3 D)."""
        start, end = segments.unbind(1)
        first = torch.zeros(len(start), dtype=torch.int64, device=x.device)
        longest = (end - start).max().expand_as(start)
        bins = segment_bins(x, first, first + len(x), longest, start, end, self.bins)
        q = self.bins // 6
        left, inside, right = bins[:, :q].amax(1), bins[:, q : 5 * q].amax(1), bins[:, 5 * q :].amax(1)
        return torch.cat([inside - left, inside, inside - right], 1)

    def forward(self, x: Tensor, segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (M, C + 1), attention (M,) and centre (M,)."""
        fused = self.prop_fusion(self.vectors(x, segments)).T[None]
        return (
            self.prop_classifier(fused)[0].T,
            self.prop_attention(fused)[0, 0],
            self.prop_completeness(fused)[0, 0],
        )


def plain_segment_labels(
    segments: np.ndarray, time: list[float], label: list[int], classes: int, background: float
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Classes (M, C), centre scores (M,) and deciding click (or -1) of the segments of one video."""
    point_label = np.zeros((len(segments), classes), np.float32)
    center = np.full(len(segments), background, np.float32)
    decides = [-1] * len(segments)
    for i, (start, end) in enumerate(segments.tolist()):
        for j, t in enumerate(time):
            if start < t < end:
                point_label[i, label[j]] = 1
                if decides[i] < 0:
                    decides[i] = j
                    center[i] = 1 - 2 * abs((t - start) / (end - start) - 0.5)
    return point_label, center, decides


def plain_tspnet_loss(
    net: PlainTSPNet,
    config: TSPNetConfig,
    x: Tensor,
    segments: Tensor,
    point_label: Tensor,
    center_label: Tensor,
) -> Tensor:
    """Total loss of a video (T, D) with segments (M, 2)."""
    logits, attention, center = net(x, segments)
    background = (point_label.sum(1, keepdim=True) == 0).float()
    attended = logits * attention.sigmoid()[:, None]
    point = -(torch.cat([point_label, background], 1) * F.log_softmax(attended, 1)).sum(1).mean()
    return point + config.center_weight * F.mse_loss(center.sigmoid(), center_label)


def plain_vote(
    segments: np.ndarray, decides: list[int], center: np.ndarray, time: list[float], threshold: float
) -> dict[int, float]:
    """How far the confident segments of a video want to move each click."""
    votes: dict[int, list[int]] = {}
    for i, j in enumerate(decides):
        if j >= 0 and center[i] > threshold:
            votes.setdefault(j, []).append(i)
    out = {}
    for j, rows in votes.items():
        total = math.fsum(center[rows])
        out[j] = sum(center[i] / total * ((segments[i, 0] + segments[i, 1]) / 2 - time[j]) for i in rows)
    return out
