"""Memory of a training, which shall not grow with the number of videos.

    python benchmarks/memory.py        200, 2,000 and 20,000 videos, two gigabytes of scratch

ASM-Loc's base network on memory-mapped features of width 128, 20 steps of 16 videos with
`weaktal.train.fit`. Every row is a process of its own, whose peak resident memory is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import RATE, head, peak_memory, row

from weaktal.core import TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.asm_loc import ASMLoc, ASMLocConfig
from weaktal.methods.protocol import Stage, TrainingData
from weaktal.train import fit


class Short(ASMLoc):
    """The first 20 steps."""

    def stages(self, data: TrainingData) -> list[Stage]:
        return [Stage("base", 20, 20)]


def measure(videos: int, dim: int, folder: Path) -> dict[str, float]:
    """GiB of the features and of the process, before and at its peak."""
    lengths = np.clip(np.random.default_rng(0).lognormal(5.0, 0.8, videos), 30, 3000).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    path = folder / f"{videos}.float32"
    block = np.random.default_rng(1).standard_normal((4096, dim), np.float32)
    with path.open("wb") as file:
        for start in range(0, int(offsets[-1]), len(block)):
            file.write(block[: int(offsets[-1]) - start].data)
    names = tuple(f"v{i}" for i in range(videos))
    axes = tuple(TimeAxis.uniform(int(n), RATE) for n in lengths)
    bank = FeatureBank.mapped(names, path, offsets, axes, dim)
    classes = tuple(f"class_{c}" for c in range(200))
    weak = WeakLabels(classes, tuple(WeakVideo(n, (i % 200,)) for i, n in enumerate(names)))
    before = peak_memory()
    method = Short(ASMLocConfig(num_steps=0), dim=dim, classes=classes)
    fit(method, TrainingData(bank, weak), folder / "run", device="cpu", progress=False)
    return {"features": path.stat().st_size / 2**30, "before": before, "peak": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--videos", type=int, nargs="+", default=[200, 2_000, 20_000])
    add("--dim", type=int, default=128)
    add("--scratch", type=Path, help="folder for the features")
    add("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, args.dim, args.scratch)))
        return
    head("videos", "features, GiB", "before training, MiB", "peak, MiB")
    for videos in args.videos:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            command = [
                sys.executable,
                __file__,
                "--dim",
                str(args.dim),
                "--scratch",
                folder,
                "--child",
                str(videos),
            ]
            done = subprocess.run(command, env=os.environ, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        row(
            f"{videos:,}", f"{found['features']:.2f}", *(f"{1024 * found[k]:.0f}" for k in ("before", "peak"))
        )


if __name__ == "__main__":
    main()
