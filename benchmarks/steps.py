"""How long a training step takes on a CPU, and how much memory it needs.

    python benchmarks/steps.py                                 every method, published size and width 128
    python benchmarks/steps.py --against /path/to/other/src    beside another version of the package, in turn

A step is draw, forward, backward and optimizer, in the middle of training: ISSF's memory is in use, LAC has
searched, TSPNet has voted, ASM-Loc refines its segments. Published batch sizes and snippet counts. CPU
seconds of one thread, so that other programs on the machine count for little: the best of all steps. Every
measurement is a process of its own, whose peak resident memory, less the features, is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from harness import (
    METHOD_NAMES,
    SIZES,
    begin,
    build,
    clock,
    head,
    parts,
    peak_memory,
    row,
    thumos_like,
    train_step,
)

OURS = Path(__file__).resolve().parents[1] / "src"


def measure(name: str, size_name: str, place: int, steps: int, videos: int | None) -> dict[str, float]:
    """Seconds of a step of a part of a method's training, and its peak memory in GiB."""
    torch.set_num_threads(1)
    size = SIZES[size_name]
    size = size if videos is None else replace(size, videos=videos)
    data = thumos_like(size)
    method = build(name, size, data)
    part = parts(method, data)[place]
    begin(method, data, part)
    optimizer = method.optimizer(part.stage)
    seconds = []
    for step in range(part.first, part.first + steps):
        start = clock()
        batch = method.draw(part.stage, step, data)
        train_step(method.training_step, optimizer, batch)
        seconds.append(clock() - start)
    return {"seconds": min(seconds), "memory": peak_memory() - data.bank.data.nbytes / 2**30}


def child(source: Path, arguments: list[str]) -> dict[str, float]:
    """`measure` in a process of its own, with the package of a source tree."""
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", *arguments]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def compare(args: argparse.Namespace, size_name: str, name: str) -> None:
    """A row for every part of a method."""
    size = replace(SIZES[size_name], videos=12)
    data = thumos_like(size)
    sources = [OURS] if args.against is None else [args.against, OURS]
    for place, part in enumerate(parts(build(name, size, data), data)):
        arguments = [name, size_name, str(place), str(args.steps), str(args.videos or "")]
        found = [[child(s, arguments) for s in sources] for _ in range(args.rounds)]
        seconds = [min(r[i]["seconds"] for r in found) for i in range(len(sources))]
        memory = [max(r[i]["memory"] for r in found) for i in range(len(sources))]
        cells = [f"{1000 * s:.0f}" for s in seconds]
        if len(sources) > 1:
            cells.append(f"{seconds[-1] / seconds[0]:.2f}")
        row(part.name, size_name, *cells, *(f"{m:.2f}" for m in memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("methods", nargs="*", default=METHOD_NAMES, help="methods to measure (default: all)")
    add("--against", type=Path, help="source folder of another version (the folder that holds weaktal/)")
    add("--sizes", nargs="+", choices=list(SIZES), default=["published", "narrow"])
    add("--steps", type=int, default=3, help="steps in a process; the first allocates")
    add("--rounds", type=int, default=2, help="processes a version, in turn")
    add("--videos", type=int, help="training videos (default: those of the size)")
    add("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, size, place, steps, videos = args.child
        print(json.dumps(measure(name, size, int(place), int(steps), int(videos) if videos else None)))
        return
    if args.against:
        columns = ("before, ms", "after, ms", "after / before", "before, GiB", "after, GiB")
    else:
        columns = ("step, ms", "memory, GiB")
    head("training", "size", *columns)
    for size in args.sizes:
        for name in args.methods:
            compare(args, size, name)


if __name__ == "__main__":
    main()
