"""Localization at the size of THUMOS14: runs and outer-inner contrast, ours against plain loops.

    python benchmarks/localization.py

210 test videos x 20 classes x 33 thresholds on synthetic activation curves of realistic lengths. The loops do
what the field's code does: for every class and threshold, collect the positions above it, split them where
they are not consecutive, and average slices for the score. It is written for this benchmark. Both must give
the same proposals and scores.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

import numpy as np

from weaktal.localize.curves import find_runs, outer_inner_contrast

MARGIN = 0.25


def reference(curves: np.ndarray, thresholds: np.ndarray) -> list[tuple[int, int, int, int, float]]:
    """Runs (curve, threshold, start, end) with scores of one video, curve by curve."""
    out = []
    for k, curve in enumerate(curves):
        for h, threshold in enumerate(thresholds):
            above = np.where(curve >= threshold)[0]
            if not len(above):
                continue
            for run in np.split(above, np.where(np.diff(above) != 1)[0] + 1):
                first, last = int(run[0]), int(run[-1])
                length = last - first + 1
                left = list(range(max(0, int(first - MARGIN * length)), first))
                right = list(range(last + 1, min(len(curve) - 1, int(last + MARGIN * length)) + 1))
                outer = left + right
                inner = np.mean(curve[list(range(first, last + 1))])
                score = inner - (np.mean(curve[outer]) if outer else 0)
                out.append((k, h, first, last + 1, float(score)))
    return out


def ours(curves: np.ndarray, thresholds: np.ndarray):  # type: ignore[no-untyped-def]
    runs = find_runs(curves, thresholds)
    return runs, outer_inner_contrast(curves, runs, MARGIN)


def best(curves: np.ndarray, thresholds: np.ndarray, repeats: int = 3) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        ours(curves, thresholds)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def scene(videos: int, classes: int, seed: int) -> list[np.ndarray]:
    """Smooth curves in [0, 1], 24 values per snippet of 0.64 s, 2 to 8 minutes."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(videos):
        snippets = int(rng.integers(180, 750))
        coarse = rng.normal(size=(classes, snippets // 4 + 2)).cumsum(axis=1) * 0.3
        coarse += rng.normal(size=coarse.shape)
        at = np.linspace(0, coarse.shape[1] - 1, snippets * 24)
        curves = np.stack([np.interp(at, np.arange(coarse.shape[1]), row) for row in coarse])
        out.append(1 / (1 + np.exp(-curves)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--videos", type=int, default=210)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--thresholds", type=int, default=33)
    parser.add_argument("--loop-videos", type=int, default=10, help="the loops run on so many and are scaled")
    args = parser.parse_args()
    thresholds = np.linspace(0.1, 0.9, args.thresholds)
    curves = scene(args.videos, args.classes, seed=0)

    count = sum(len(find_runs(video, thresholds)) for video in curves)
    fast = [best(video, thresholds) for video in curves]
    longest = max(curves, key=lambda x: x.shape[1])
    tracemalloc.start()
    ours(longest, thresholds)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()

    slow, values = 0.0, 0
    for video in curves[: args.loop_videos]:
        begin = time.perf_counter()
        expected = reference(video, thresholds)
        slow += time.perf_counter() - begin
        runs, score = ours(video, thresholds)
        values += video.size
        actual = np.stack([runs.curve, runs.threshold, runs.start, runs.end], axis=1)
        table = np.array(expected)
        np.testing.assert_array_equal(actual, table[:, :4])
        np.testing.assert_allclose(score, table[:, 4], rtol=0, atol=1e-9)
    scaled = slow * sum(c.size for c in curves) / values
    print(f"{args.videos} videos x {args.classes} classes x {args.thresholds} thresholds: {count} runs")
    print(f"plain loops {scaled:8.1f} s (from {args.loop_videos} videos, {slow:.1f} s)")
    print(
        f"weaktal     {sum(fast):8.2f} s   peak {peak:.0f} MiB (longest video)   "
        f"{slow / sum(fast[: args.loop_videos]):.0f} times faster on the same videos"
    )


if __name__ == "__main__":
    main()
