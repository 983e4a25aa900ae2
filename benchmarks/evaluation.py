"""Evaluation of THUMOS14's real base detections: ours against a plain per-detection pandas evaluation.

    python benchmarks/evaluation.py ../shared/data/thumos14

The reference follows the definition of the `activitynet` protocol the way the field's evaluators do it: a
table of detections, walked row by row, with a look-up of the video's instances and an overlap per row. It is
written for this benchmark. Both must give the same numbers. Peak memory is that of one more, traced run.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from weaktal.core import Annotations, Detections
from weaktal.evaluate import analyse, evaluate, intervals
from weaktal.formats import load_annotations, load_detections


def reference(detections: Detections, truth: Annotations, thresholds: Sequence[float]) -> np.ndarray:
    """Mean AP per threshold, one detection after the other."""
    table = truth.instance_table()
    instances = pd.DataFrame(
        {
            "video": [table.names[v] for v in table.video],
            "start": table.start,
            "end": table.end,
            "label": [truth.classes[c] for c in table.label],
        }
    )
    found = detections.to_pandas()
    aps = [
        reference_class(found[found.label == name], instances[instances.label == name], thresholds)
        for name in instances.label.unique()
    ]
    return np.mean(aps, axis=0)


def reference_class(found: pd.DataFrame, instances: pd.DataFrame, thresholds: Sequence[float]) -> np.ndarray:
    found = found.iloc[found.score.to_numpy().argsort()[::-1]].reset_index(drop=True)
    by_video = instances.reset_index(drop=True).groupby("video")
    taken = np.zeros((len(thresholds), len(instances)), bool)
    hit = np.zeros((len(thresholds), len(found)))
    instances = instances.reset_index(drop=True)
    for i, row in found.iterrows():
        try:
            mine = by_video.get_group(row.video)
        except KeyError:
            continue
        inter = (np.minimum(row.end, mine.end) - np.maximum(row.start, mine.start)).clip(lower=0)
        overlap = (inter / ((row.end - row.start) + (mine.end - mine.start) - inter)).to_numpy()
        order = overlap.argsort()[::-1]
        for h, threshold in enumerate(thresholds):
            for j in order:
                if overlap[j] < threshold:
                    break
                if not taken[h, mine.index[j]]:
                    taken[h, mine.index[j]] = True
                    hit[h, i] = 1
                    break
    total = np.cumsum(hit, axis=1)
    precision = total / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (best * hit).sum(axis=1) / len(instances)


def timed(run: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float, float]:
    """Result, best seconds of `repeats` runs, peak MiB of one more run."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - begin)
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, min(seconds), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="gt.json, and proposals/detection_result_base_test.json")
    folder = parser.parse_args().folder
    truth = load_annotations(folder / "gt.json").subset("test")
    path = folder / "proposals/detection_result_base_test.json"
    begin = time.perf_counter()
    detections = load_detections(path)
    loading = time.perf_counter() - begin

    thresholds = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    ours, fast, small = timed(lambda: evaluate(detections, truth, "activitynet").mean_ap, 20)
    begin = time.perf_counter()
    theirs = reference(detections, truth, thresholds)
    slow = time.perf_counter() - begin
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    print(f"{len(detections)} detections, {len(truth.instance_table())} instances, 7 thresholds")
    print("mAP " + " ".join(f"{100 * x:.2f}" for x in ours) + f"   average {100 * ours.mean():.2f} (both)")
    print(f"plain pandas {slow:10.2f} s")
    print(f"weaktal      {1000 * fast:10.1f} ms   peak {small:.1f} MiB   {slow / fast:.0f} times faster")
    print(f"reading the detections {1000 * loading:.0f} ms")
    for what, run in (
        ("intervals of 1,000 resamples", lambda: intervals(detections, truth)),
        ("diagnosis, all of it", lambda: analyse(detections, truth, thresholds[2:]).to_dict()),
    ):
        begin = time.perf_counter()
        run()
        print(f"{what} {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
