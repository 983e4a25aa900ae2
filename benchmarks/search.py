"""What runs between the steps of a training and after its scores: searches, pseudo segments, suppression.

    python benchmarks/search.py

Ours against plain loops that follow the published procedures step by step, on the same input; both must give
the same. The best of a few runs, in CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np
import torch
from harness import SIZES, best, clock, head, report, thumos_like
from numpy.typing import NDArray

from weaktal.core import SnippetScores
from weaktal.localize.boundary_adaptation import adapt_boundaries
from weaktal.localize.nms import soft_nms
from weaktal.localize.sequence_search import ACTION, BACKGROUND, FREE, search_sequences
from weaktal.methods.asm_loc import ASMLoc, ASMLocConfig
from weaktal.methods.protocol import TrainingData
from weaktal.train.config import resolve_config

# ------------------------------------------------------------------------- adaptation and suppression


def plain_overlap(a: list[float], b: list[float], one: float) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]) + one)
    union = (a[1] - a[0] + one) + (b[1] - b[0] + one) - inter
    return inter / union if union > 0 else 0.0


def plain_adaptation(segments: list[list[float]], scores: list[float], threshold: float) -> list[list[float]]:
    out, locked = [list(s) for s in segments], [False] * len(segments)
    for i in sorted(range(len(scores)), key=lambda j: -scores[j]):
        if locked[i]:
            continue
        total, start, end = 0.0, 0.0, 0.0
        for j, other in enumerate(segments):
            iou = plain_overlap(segments[i], other, 0.0)
            if iou > threshold:
                weight = scores[j] * iou
                total, start, end = total + weight, start + weight * other[0], end + weight * other[1]
                locked[j] = True
        out[i] = [start / total, end / total]
    return out


def plain_soft_nms(segments: list[list[float]], scores: list[float]) -> list[tuple[float, float, float]]:
    left = [[*s, c] for s, c in zip(segments, scores, strict=True)]
    for k in range(len(left)):
        top = k
        for j in range(k + 1, len(left)):
            if left[j][2] > left[top][2]:
                top = j
        left[k], left[top] = left[top], left[k]
        for j in range(k + 1, len(left)):
            left[j][2] *= math.exp(-(plain_overlap(left[k], left[j], 1.0) ** 2) / 0.3)
    return [(s, e, c) for s, e, c in left]


def suppression(count: int, snippets: int, classes: int, repeats: int) -> None:
    rng = np.random.default_rng(1)
    start = rng.uniform(0, snippets - 10, count)
    end = start + rng.gamma(2.0, 8.0, count)
    scores = rng.uniform(0.01, 1, (classes, count))
    group = np.repeat(np.arange(classes), count)

    def ours() -> NDArray[np.float64]:
        s, e = (x.reshape(-1) for x in adapt_boundaries(start, end, scores, 0.4))
        rows, c = soft_nms(s, e, scores.reshape(-1), sigma=0.3, group=group)
        return np.stack([s[rows], e[rows], c], 1)

    def plain() -> list[tuple[float, float, float]]:
        segments = np.stack([start, end], 1).tolist()
        out = []
        for c in scores.tolist():
            out += plain_soft_nms(plain_adaptation(segments, c, 0.4), c)
        return out

    np.testing.assert_allclose(ours(), plain(), rtol=1e-9, atol=1e-9)
    what = f"TSPNet: boundary adaptation and soft suppression of {count} proposals, {classes} classes"
    report(what, best(ours, 10 * repeats), best(plain, repeats))


# ---------------------------------------------------------------------------------------------- search


def plain_search(p: NDArray[np.float32], marks: list[int], budget: int, least: float) -> float:
    """Position by position over a list of hypotheses; seeds as in `search_sequences`. The best score."""
    length = len(p)
    spans: list[list[int]] = []  # kind, first seed, last seed
    for t, mark in enumerate(marks):
        if mark != FREE:
            if spans and spans[-1][0] == mark:
                spans[-1][2] = t
            else:
                spans.append([mark, t, t])
    spans[0][1], spans[-1][2] = 0, length - 1

    def contrast(start: int, end: int, kind: int) -> float:
        channel = p if kind == ACTION else 1 - p
        reach = (end - start) / 4
        outer = np.concatenate(
            [channel[max(0, int(start - reach)) : start], channel[end : max(end, int(end - 1 + reach) + 1)]]
        )
        return float(channel[start:end].mean() - (outer.mean() if len(outer) else 0))

    living: list[tuple[float, int, int, int]] = [(math.inf, 0, 0, 0)]  # score, closed, start, span
    for t in range(1, length):
        children = []
        for score, closed, start, i in living:
            following = spans[i + 1][1] if i + 1 < len(spans) else length
            if t < following:
                children.append((score, closed, start, i))
            if spans[i][2] < t <= following and i + 1 < len(spans):
                value = contrast(start, t, spans[i][0])
                before = score * closed if closed else 0.0
                children.append(((before + value) / (closed + 1), closed + 1, t, i + 1))
        top = max(c[0] for c in children)
        children = [c for c in children if c[0] >= least or c[0] == top]
        if len(children) > budget:
            limit = sorted((c[0] for c in children), reverse=True)[budget - 1]
            children = [c for c in children if c[0] >= limit]
        living = children
    found = [
        ((score * closed if closed else 0.0) + contrast(start, length, spans[i][0])) / (closed + 1)
        for score, closed, start, i in living
    ]
    return max(found)


def search(pairs: int, snippets: int, loop_pairs: int, repeats: int) -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(snippets // 3, snippets, pairs)
    scores = np.zeros((pairs, snippets), np.float32)
    marks = np.full((pairs, snippets), FREE, np.int8)
    for i, n in enumerate(lengths):
        level = np.zeros(n)
        for middle in np.arange(15, n - 15, 30):  # an action every 30 snippets, a click in its middle
            half = rng.integers(2, 8)
            level[middle - half : middle + half] = 1
            marks[i, middle] = ACTION
            marks[i, middle - 15] = BACKGROUND
        scores[i, :n] = 1 / (1 + np.exp(-(4 * level - 2 + rng.normal(0, 1, n))))

    def ours() -> NDArray[np.float32]:
        return search_sequences(scores, marks, lengths)[1]

    begin = clock()
    plain = [
        plain_search(scores[i, :n], marks[i, :n].tolist(), 25, 0.1)
        for i, n in enumerate(lengths[:loop_pairs])
    ]
    seconds = (clock() - begin) * lengths.sum() / lengths[:loop_pairs].sum()
    np.testing.assert_allclose(ours()[:loop_pairs], plain, atol=2e-3)  # near ties may go either way
    report(f"LAC: search of {pairs} (video, class) pairs", best(ours, repeats), seconds)


# ------------------------------------------------------------------------------------- pseudo segments


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


def pseudo_segments(videos: int, loop_videos: int, repeats: int) -> None:
    config = resolve_config("asm_loc", "thumos14")
    assert isinstance(config, ASMLocConfig)
    data = thumos_like(replace(SIZES["published"], dim=8, videos=videos))
    method = ASMLoc(config, dim=8, classes=data.weak.classes)
    scores = activations(data, config.snippets)
    some = scores[:loop_videos]
    grids = config.pseudo_on_cas, config.pseudo_on_attention, 0.0
    begin = clock()
    expected = plain_pseudo_segments(some, config)
    plain = (clock() - begin) * sum(map(length, scores)) / sum(map(length, some))
    assert len(method._segments(some, *grids)) == sum(map(len, expected))
    report(
        f"ASM-Loc: pseudo segments of {videos} videos",
        best(lambda: method._segments(scores, *grids), repeats),
        plain,
    )


def length(scores: SnippetScores) -> int:
    return len(scores.foreground)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    head("what", "ours", "plain loops", "ratio")
    for classes in (1, 2):
        suppression(300, 400, classes, args.repeats)
    search(220, 400, 8, args.repeats)
    pseudo_segments(200, 40, args.repeats)


if __name__ == "__main__":
    main()
