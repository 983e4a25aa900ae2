"""Point-level methods: batched RoI alignment, boundary adaptation, soft suppression, sequence search.

    python benchmarks/point.py

Ours against plain loops that follow the published procedures step by step, on the same input; both must give
the same values. The best of a few runs, in CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from weaktal.localize.boundary_adaptation import adapt_boundaries
from weaktal.localize.nms import soft_nms
from weaktal.localize.sequence_search import ACTION, BACKGROUND, FREE, search_sequences
from weaktal.nn.roi_align import roi_align_naive, segment_parts

BINS = 12


def clock() -> float:
    """Wall time; of a process with one thread on a CPU its own time, so that other programs do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def best(run: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        begin = clock()
        run()
        seconds.append(clock() - begin)
    return min(seconds)


def report(what: str, ours: float, plain: float) -> None:
    print(f"{what}: {1000 * ours:.2f} ms, plain loops {1000 * plain:.1f} ms, ratio {plain / ours:.1f}")


# ------------------------------------------------------------------------------------- segment features


def features(count: int, snippets: int, dim: int, share: int, repeats: int) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((snippets, dim)).astype(np.float32))
    start = torch.from_numpy(rng.uniform(0, snippets - 10, count)).float()
    end = (start + torch.from_numpy(rng.gamma(2.0, 8.0, count)).float()).clamp(max=snippets)
    first = torch.zeros(count, dtype=torch.int64)
    places = first, first + snippets, (end - start).max().expand(count), start, end
    # one segment after the other takes every share-th; the time is scaled
    some = [p[::share] for p in places]

    def ours() -> torch.Tensor:
        return segment_parts(x, *places, BINS)

    def plain() -> torch.Tensor:
        a, n, longest, s, e = some
        padding, quarter = torch.ceil(longest * 0.25) + 1, (e - s) / 4
        low, high = s - quarter + padding - 0.5, e + quarter + padding - 0.5
        bins = roi_align_naive(x, a, n, low, high, BINS, padding.long())
        return torch.stack([bins[:, i:j].amax(1) for i, j in ((0, 2), (2, 10), (10, 12))], 1)

    error = (ours()[::share] - plain()).abs().max()
    assert error < 1e-3, error
    seconds = [[], []]
    for _ in range(repeats):  # in turn, since a machine that others use is not always equally fast
        for kept, run in zip(seconds, (ours, plain), strict=True):
            kept.append(best(run, 3))
    scale = count / len(some[0])
    report(f"features of {count} proposals, width {dim}", min(seconds[0]), scale * min(seconds[1]))


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
    what = f"boundary adaptation and soft suppression of {count} proposals, {classes} classes"
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

    begin = time.process_time()
    plain = [
        plain_search(scores[i, :n], marks[i, :n].tolist(), 25, 0.1)
        for i, n in enumerate(lengths[:loop_pairs])
    ]
    seconds = (time.process_time() - begin) * lengths.sum() / lengths[:loop_pairs].sum()
    np.testing.assert_allclose(ours()[:loop_pairs], plain, atol=2e-3)  # near ties may go either way
    report(f"search of {pairs} (video, class) pairs", best(ours, repeats), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for dim in args.dims:
        features(3000, 400, dim, 30, args.repeats)
    for classes in (1, 2):
        suppression(300, 400, classes, args.repeats)
    search(220, 400, 8, args.repeats)


if __name__ == "__main__":
    main()
