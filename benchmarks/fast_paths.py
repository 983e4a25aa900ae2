"""What each fast path of `weaktal.nn` saves against its plain twin.

    python benchmarks/fast_paths.py                       published size (minutes, gigabytes)
    python benchmarks/fast_paths.py --size narrow         width 128

A row is a method's training step (see `steps.py`: CPU seconds of one thread, the best of all steps, each in a
process of its own) with the fast path and with its twin in its place, in turn. The features of TSPNet's
proposals are made once in a training and for every video in localization, so they are measured by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import torch
from harness import SIZES, best, head, row
from steps import measure
from torch import Tensor

from weaktal.methods import asm_loc, lac, sal
from weaktal.nn import dropout
from weaktal.nn.factored import adam_naive
from weaktal.nn.roi_align import roi_align, roi_align_naive
from weaktal.nn.segment_attention import segment_attention_naive
from weaktal.nn.temporal_conv import convolve_rows_naive


def convolve_video_rows(rows: Tensor, video: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`convolve_rows_naive`, called as `convolve_rows` is."""
    return convolve_rows_naive(rows, torch.bincount(video).tolist(), weight, bias)


# of each fast path: its name, the module that calls it, its twin, the methods (and their parts) that use it
PATHS: dict[str, tuple[object, Callable[..., object], Sequence[tuple[str, int]]]] = {
    "FactoredAdam": (sal, adam_naive, [("sal", 0)]),
    "convolve_rows": (lac, convolve_video_rows, [("lac", 0)]),
    "segment_attention": (asm_loc, segment_attention_naive, [("asm_loc", 1)]),
    "dropout_mask": (
        dropout,
        dropout.dropout_mask_naive,
        [("sal", 0), ("issf", 0), ("hr_pro_snippets", 0), ("stcl_net", 0)],
    ),
}


def child(path: str, twin: bool, name: str, size: str, place: int, steps: int) -> dict[str, float]:
    """`steps.measure` in a process of its own, perhaps with a twin in the place of a fast path."""
    command = [sys.executable, __file__, "--child", path, str(int(twin)), name, size, str(place), str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def steps_with_and_without(paths: Sequence[str], size: str, steps: int, rounds: int) -> None:
    """A row for every fast path and every method that it is used in."""
    for path in paths:
        for name, place in PATHS[path][2]:
            found = [[child(path, t, name, size, place, steps) for t in (False, True)] for _ in range(rounds)]
            fast, plain = (min(r[i]["seconds"] for r in found) for i in (0, 1))
            memory = [f"{max(r[i]['memory'] for r in found):.2f} GiB" for i in (0, 1)]
            times = [f"{1000 * s:.0f} ms" for s in (fast, plain)]
            row(f"`{path}`, step of {name}", *times, f"{plain / fast:.2f}", *memory)


def proposals(dim: int, count: int = 3000, snippets: int = 400, share: int = 30) -> None:
    """Aligned bins of a long video's proposals; the twin takes every `share`-th, and its time is scaled."""
    torch.manual_seed(0)
    features = torch.randn(snippets, dim)
    start = torch.rand(count) * (snippets - 10)
    end = (start + 40 * torch.rand(count)).clamp(max=snippets)
    first = torch.zeros(count, dtype=torch.int64)
    every = first, first + snippets, start, end
    some = [x[::share] for x in every]
    error = (roi_align(features, *some, 12) - roi_align_naive(features, *some, 12)).abs().max()
    assert error < 1e-3, error
    fast = best(lambda: roi_align(features, *every, 12))
    plain = best(lambda: roi_align_naive(features, *some, 12)) * count / len(some[0])
    times = [f"{1000 * s:.0f} ms" for s in (fast, plain)]
    row(f"`roi_align`, {count:,} proposals of width {dim}", *times, f"{plain / fast:.1f}", "", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("paths", nargs="*", default=[*PATHS, "roi_align"], help="fast paths to measure (default: all)")
    add("--size", choices=list(SIZES), default="published")
    add("--steps", type=int, default=2, help="steps in a process; the first allocates")
    add("--rounds", type=int, default=1, help="processes, in turn")
    add("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        path, twin, name, size, place, steps = args.child
        if int(twin):
            module, plain, _ = PATHS[path]
            setattr(module, path, plain)
        print(json.dumps(measure(name, size, int(place), int(steps), None)))
        return
    torch.set_num_threads(1)
    head("what", "fast", "plain twin", "plain / fast", "memory, fast", "memory, plain")
    steps_with_and_without([p for p in args.paths if p in PATHS], args.size, args.steps, args.rounds)
    if "roi_align" in args.paths:
        proposals(SIZES[args.size].dim)


if __name__ == "__main__":
    main()
