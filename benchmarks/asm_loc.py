"""ASM-Loc: where a training iteration spends its time, and how long pseudo segments take.

    python benchmarks/asm_loc.py [--dim 2048] [--snippets 750] [--batch 16] [--iterations 2] [--videos 412]
        [--threads 1]

Prints, on one machine and in one run: the time of a training iteration of the base and of a refinement
network by part, the share that is not the network's own, and the ratio of the two; and the time of pseudo
segments for a data set against a plain reading of the published procedure in loops. Times are CPU seconds, so
that other work on the machine counts for less.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from weaktal.core import SnippetScores, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.asm_loc import ASMLoc, ASMLocConfig, SegmentBatch
from weaktal.methods.protocol import TrainingData
from weaktal.train.config import resolve_config

RATE = 25 / 16
Result = TypeVar("Result")


def thumos_like(videos: int, dim: int, seed: int = 0) -> TrainingData:
    """Random features; lengths and numbers of actions spread as in THUMOS14 (median near 200 s)."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(5.6, 0.7, videos)), 20, 2500).astype(int)
    names = [f"v{i}" for i in range(videos)]
    arrays = [rng.standard_normal((n, dim), dtype=np.float32) for n in lengths]
    weak = tuple(WeakVideo(n, (int(rng.integers(20)),)) for n in names)
    return TrainingData(
        FeatureBank.of(names, arrays, RATE), WeakLabels(tuple(f"c{i}" for i in range(20)), weak)
    )


def activations(data: TrainingData, snippets: int, seed: int = 1) -> list[SnippetScores]:
    """Scores with actions of a few seconds every 15 seconds or so, as a trained network gives them."""
    rng = np.random.default_rng(seed)
    out = []
    for video, axis in zip(data.weak.videos, data.bank.axes, strict=True):
        length = min(axis.length, snippets)
        centres = np.arange(length) / length * axis.end
        attention = np.full(length, 0.15)
        for start in np.arange(rng.uniform(0, 15), axis.end, 15):
            width = rng.lognormal(1.0, 0.6)
            attention += rng.uniform(0.3, 0.8) * np.exp(-(((centres - start) / width) ** 4))
        attention = np.clip(attention + rng.normal(0, 0.04, length), 0, 1)
        cas = rng.uniform(0, 0.04, (length, 20))
        votes = np.full(20, 0.03)
        for label in (video.labels[0], int(rng.integers(20))):
            cas[:, label] += 0.7 * attention
            votes[label] = 0.4
        cas, attention = cas.astype(np.float32), attention.astype(np.float32)
        out.append(SnippetScores(video.name, cas, attention, votes, axis.resampled(length)))
    return out


# The published procedure for pseudo segments, plainly: threshold by threshold, run by run, pair by pair.


def plain_pseudo_segments(scores: list[SnippetScores], config: ASMLocConfig) -> list[list[tuple[float, ...]]]:
    assert config.pseudo_on_attention is not None
    up = config.upsampling
    out = []
    for score in scores:
        length = len(score.foreground)
        at = np.arange(0, length, 1 / up)
        low = np.clip(np.floor(at).astype(int), 0, length - 2)
        part = at - low
        second = score.axis.end / (length * up)
        attention = score.foreground[low] * (1 - part) + score.foreground[low + 1] * part
        kept = []
        for label in np.flatnonzero(score.video_scores > config.class_threshold):
            cas = score.cas[low, label] * (1 - part) + score.cas[low + 1, label] * part
            found = []
            for threshold in np.arange(*config.pseudo_on_attention):
                above = np.where(attention >= threshold)[0]
                for run in np.split(above, np.where(np.diff(above) != 1)[0] + 1):
                    if len(run) < 2:
                        continue
                    n = len(run)
                    left = list(range(max(0, int(run[0] - config.margin * n)), run[0]))
                    right = list(range(run[-1] + 1, min(len(at) - 1, int(run[-1] + config.margin * n)) + 1))
                    outer = left + right
                    contrast = np.mean(cas[run]) - (np.mean(cas[outer]) if outer else 0.0)
                    found.append((run[0] * second, (run[-1] + 1) * second, float(contrast)))
            order = list(np.argsort([f[2] for f in found])[::-1])
            while order:
                best = order.pop(0)
                s, e, c = found[best]
                kept.append((float(label), s, e, c))
                rest = []
                for i in order:
                    both = max(0.0, min(e, found[i][1]) - max(s, found[i][0]) + 1)
                    union = (e - s + 1) + (found[i][1] - found[i][0] + 1) - both
                    if both / union < config.nms_threshold:
                        rest.append(i)
                order = rest
        out.append(kept)
    return out


# A plain training step (`benchmarks/training.py` runs it): one video after the other is sampled, its boxes
# and labels are looked up segment by segment, and both attentions are written out over all pairs of snippets
# and of box slots. Positions are in snippets or seconds from the first snippet, at 25 / 16 snippets a second.

SLOTS = 200  # box slots of every video, as published
Segment = tuple[int, float, float]  # class, start, end in seconds


def plain_line(at: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The piecewise linear function through (x, y), continued outside; y (N,) or (N, D)."""
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    share = (at - x[i]) / (x[i + 1] - x[i])
    if y.ndim == 2:
        share = share.astype(y.dtype)[:, None]
    return np.asarray(y[i] + share * (y[i + 1] - y[i]))


def plain_warp(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Features (L, D), sampled by their cumulative weights (L + 1,)."""
    times = plain_line(np.arange(1, round(knots[-1]) + 1), knots, np.arange(len(knots), dtype=float))
    return plain_line(times, np.arange(1, len(x) + 1, dtype=float), x)


def plain_random(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` snippets of (L, D): a random one of each bin, or interpolated."""
    length = len(x)
    if length == size:
        return x
    if length < size:
        return plain_line(np.linspace(0, length - 1, size), np.arange(length, dtype=float), x)
    edges = np.rint(np.linspace(0, length - 1, size + 1)).astype(int)
    return x[[int(rng.integers(edges[i], edges[i + 1])) for i in range(size)]]


def plain_boxes_and_labels(
    segments: list[Segment], knots: np.ndarray | None, length: int, size: int, classes: int, expansion: float
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """First and last row of every box, and snippet labels (size, classes + 1)."""
    rows = length if knots is None else round(knots[-1])
    scale = RATE * size / rows

    def warped(t: float) -> float:
        if knots is None:
            return t
        at = np.array([t * RATE + 1])
        return (float(plain_line(at, np.arange(len(knots), dtype=float), knots)[0]) - 1) / RATE

    different: list[tuple[float, float]] = []
    for _, start, end in segments:
        if (start, end) not in different:
            different.append((start, end))
    kept: list[tuple[float, float]] = []
    different.reverse()  # of equal starts the one listed last comes first
    for start, end in sorted(different, key=lambda s: s[0]):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    boxes = []
    for start, end in reversed(kept):
        low, high = warped(start), warped(end)
        middle, reach = (low + high) / 2, (expansion + 0.5) * (high - low)
        first, last = max(round((middle - reach) * scale), 0), min(round((middle + reach) * scale), size - 1)
        boxes.append((first, last))
    labels = np.zeros((size, classes + 1), np.float32)
    labels[:, -1] = 1
    for label, start, end in segments:
        low = max(round(warped(start) * scale), 0)
        high = min(round(warped(end) * scale), size - 1)
        if low <= high:
            labels[low : high + 1, label] = 1
            labels[low : high + 1, -1] = 0
    return boxes, labels / labels.sum(1, keepdims=True)


class PlainAttention(nn.Module):
    """What both attention blocks share; (B, D, N) in and out."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.conv_query, self.conv_key, self.conv_value, self.conv_out = (
            nn.Conv1d(dim, dim, 1) for _ in range(4)
        )
        self.bn = nn.BatchNorm1d(dim)

    def attend(self, x: Tensor, allowed: Tensor) -> Tensor:
        b, d, n = x.shape
        q, k, v = (
            conv(x).view(b, self.heads, d // self.heads, n)
            for conv in (self.conv_query, self.conv_key, self.conv_value)
        )
        logits = q.transpose(2, 3) @ k / (d // self.heads) ** 0.5
        weights = logits.masked_fill(~allowed[:, None], -torch.inf).softmax(-1)
        weights = weights.masked_fill(~allowed[:, None], 0)  # rows without a key are not numbers
        return (v @ weights.transpose(2, 3)).reshape(b, d, n)


class PlainIntra(PlainAttention):
    def forward(self, e: Tensor, boxes: list[list[tuple[int, int]]]) -> Tensor:
        allowed = torch.zeros(len(e), e.shape[2], e.shape[2], dtype=torch.bool)
        for b, of_video in enumerate(boxes):
            for first, last in of_video:
                allowed[b, first : last + 1, first : last + 1] = True
        out: Tensor = e + self.bn(self.conv_out(self.attend(e, allowed.to(e.device))))
        return out


class PlainInter(PlainAttention):
    def forward(self, e: Tensor, boxes: list[list[tuple[int, int]]]) -> Tensor:
        covers = torch.zeros(len(e), e.shape[2], SLOTS)
        used = torch.zeros(len(e), SLOTS, dtype=torch.bool)
        for b, of_video in enumerate(boxes):
            for n, (first, last) in enumerate(of_video):
                covers[b, first : last + 1, n] = 1
                used[b, n] = True
        covers, used = covers.to(e.device), used.to(e.device)
        segments = e @ (covers / covers.sum(1, keepdim=True).clamp(min=1e-5))
        out = self.attend(segments, used[:, None] & used[:, :, None])
        out = out @ (covers / covers.sum(2, keepdim=True).clamp(min=1e-5)).transpose(1, 2)
        result: Tensor = e + self.bn(self.conv_out(out))
        return result


class PlainNetwork(nn.Module):
    """The base or the refinement network with torch's own layers, and the parameter names of ours."""

    def __init__(self, config: ASMLocConfig, dim: int, classes: int, refinement: bool) -> None:
        super().__init__()
        self.config = config
        self.feature_embedding = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU())
        if refinement:
            self.MHSA_Intra, self.MHSA_Inter = PlainIntra(dim, config.heads), PlainInter(dim, config.heads)
            self.uncertainty_branch = nn.Conv1d(dim, 1, 1, bias=False)
        self.refinement = refinement
        self.att_branch = nn.Conv1d(dim, 2, 1)
        self.drop_snippets, self.drop = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        self.snippet_cls = nn.Linear(dim, classes + 1)

    def forward(self, x: Tensor, boxes: list[list[tuple[int, int]]] | None = None) -> tuple[Tensor, ...]:
        """Foreground, background classes (B, K + 1); attention, cas, fg_cas (B, T, .), uncertainty (B, T)."""
        e = self.feature_embedding(x.transpose(1, 2))
        u = e.new_zeros(len(e), e.shape[2])
        if self.refinement:
            e = self.MHSA_Inter(self.MHSA_Intra(e, boxes), boxes)
            u = self.uncertainty_branch(e)[:, 0]
        attention = self.att_branch(e).softmax(1).transpose(1, 2)
        e = e.transpose(1, 2)
        e = self.drop(e * self.drop_snippets(torch.ones_like(e[..., :1])))
        cas = self.snippet_cls(e)
        fg, bg = cas * attention[..., :1], cas * attention[..., 1:]
        t, c = cas.shape[1], self.config
        fg_cls = fg.topk(max(1, t // c.topk_foreground), 1).values.mean(1).softmax(-1)
        bg_cls = bg.topk(max(1, t // c.topk_background), 1).values.mean(1).softmax(-1)
        return fg_cls, bg_cls, attention, cas.softmax(-1), fg.softmax(-1), u


def plain_loss(
    net: PlainNetwork,
    x: Tensor,
    labels: Tensor,
    boxes: list[list[tuple[int, int]]] | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """Total loss of sampled videos (B, T, D) with labels (B, K), boxes and snippet labels (B, T, K + 1)."""
    fg_cls, bg_cls, _, cas, _, u = net(x, boxes)
    c = net.config

    def cross_entropy(p: Tensor, y: Tensor) -> Tensor:
        return -(y * torch.log(p.clamp(min=1e-7))).sum(-1)

    y = torch.cat([labels, torch.zeros_like(labels[:, :1])], 1)
    y = y / y.sum(1, keepdim=True)
    background = torch.zeros_like(y)
    background[:, -1] = 1
    total = c.weight_foreground * cross_entropy(fg_cls, y).mean()
    total = total + c.weight_background * cross_entropy(bg_cls, background).mean()
    total = total + c.weight_background_action * cross_entropy(bg_cls, y).mean()
    if targets is not None:
        total = total + (torch.exp(-u) * cross_entropy(cas, targets)).mean() + c.weight_uncertainty * u.mean()
    return total


def timed(function: Callable[[], Result], repeat: int) -> tuple[float, Result]:
    """CPU seconds, the best of some runs, and the result."""
    best = np.inf
    for _ in range(repeat):
        begin = time.process_time()
        result = function()
        best = min(best, time.process_time() - begin)
    return best, result


def iteration(method: ASMLoc, data: TrainingData, stage: int, repeat: int) -> dict[str, float]:
    """CPU seconds of an iteration by part, the medians of some runs after one that is not counted.

    "draw" is the sampling of features, boxes and labels.
    """
    optimizer = method.optimizer(stage)
    method.train()
    rows = []
    for step in range(repeat + 1):
        clock = [time.process_time()]
        batch = method.draw(stage, step, data)
        clock.append(time.process_time())
        losses = method.training_step(batch)
        clock.append(time.process_time())
        optimizer.zero_grad()
        losses["total"].backward()
        clock.append(time.process_time())
        optimizer.step()
        clock.append(time.process_time())
        rows.append(np.diff(clock))
    if isinstance(batch, SegmentBatch):
        covered = 1 - batch.targets[..., -1].mean()
        print(f"refinement batches: {batch.boxes.shape[1]} slots, {covered:.0%} of snippets in segments")
    parts = np.median(rows[1:], axis=0)
    return dict(zip(("draw", "forward", "backward", "optimizer"), parts.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--snippets", type=int, default=750)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--videos", type=int, default=412)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("training", "segments"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = {"snippets": args.snippets, "batch_size": args.batch, "num_steps": 1}
    config = resolve_config("asm_loc", "thumos14", settings)
    assert isinstance(config, ASMLocConfig)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")

    if args.only != "segments":
        data = thumos_like(2 * args.batch, args.dim)
        method = ASMLoc(config, dim=args.dim, classes=data.weak.classes)
        scores = activations(data, args.snippets)
        method.pseudo = [method._segments(scores, config.pseudo_on_cas, config.pseudo_on_attention, 0.0)]
        total = {}
        for stage, name in enumerate(("base", "refinement")):
            method.stage, method._refinement = stage, None
            parts = iteration(method, data, stage, args.iterations)
            total[name] = sum(parts.values())
            text = ", ".join(f"{k} {v:.3f} s" for k, v in parts.items())
            print(
                f"{name}: {total[name]:.3f} s an iteration ({text}); draw {parts['draw'] / total[name]:.1%}"
            )
        print(f"refinement / base: {total['refinement'] / total['base']:.2f}")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")

    if args.only != "training":
        data = thumos_like(args.videos, 1)
        method = ASMLoc(config, dim=8, classes=data.weak.classes)
        scores = activations(data, args.snippets)
        grids = config.pseudo_on_cas, config.pseudo_on_attention, 0.0
        ours, found = timed(lambda: method._segments(scores, *grids), 3)
        plain, expected = timed(lambda: plain_pseudo_segments(scores, config), 1)
        same = len(found) == sum(map(len, expected))
        print(
            f"pseudo segments of {args.videos} videos: {ours:.3f} s, plain loops {plain:.2f} s, "
            f"{plain / ours:.1f} times; {len(found)} segments, {'as many' if same else 'DIFFERENT'} in both"
        )


if __name__ == "__main__":
    main()
