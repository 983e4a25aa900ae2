"""Frames per second of decoding, flow and network, apart and together.

    python benchmarks/extraction.py                 # on a rendered video; I3D with random weights, DIS flow
    python benchmarks/extraction.py --flow tvl1     # the flow of the field's features

The pipeline overlaps its stages in threads, so with a core (or a GPU) for each, it runs as fast as its
slowest stage. Every stage has one thread by default, as in the workers of `weaktal extract`. Stages are
measured in turns, since machines change their speed; of each the best turn counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def count(items: Iterator[object]) -> int:
    return sum(1 for _ in items)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="default: a rendered one")
    parser.add_argument("--only", choices=("motion", "i3d"))
    parser.add_argument("--frames", type=int, default=128, help="frames for the I3D stages (default 128)")
    parser.add_argument("--repeat", type=int, default=3, help="turns (default 3)")
    parser.add_argument("--flow", default="dis", help="dis (default) or tvl1")
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch and OpenCV, in each stage (default 1)"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    import cv2
    import torch

    from weaktal.demo import render
    from weaktal.features.extract.ahead import prefetch
    from weaktal.features.extract.decode import VideoReader
    from weaktal.features.extract.driver import AHEAD
    from weaktal.features.extract.flow import flow_method, flows
    from weaktal.features.extract.i3d import I3D, I3DFeatures
    from weaktal.features.extract.motion import LONG_SIDE, Motion

    cv2.setNumThreads(args.threads)
    torch.set_num_threads(args.threads)
    results: dict[str, dict[str, float]] = {}

    def measure(name: str, stages: dict[str, Callable[[], int]]) -> None:
        """Print the speed of stages, which give the number of frames they did; the last is all together."""
        wall, cpu = dict.fromkeys(stages, math.inf), dict.fromkeys(stages, math.inf)
        for _ in range(args.repeat):
            for stage, work in stages.items():
                clock, processor = time.perf_counter(), time.process_time()
                frames = work()
                wall[stage] = min(wall[stage], (time.perf_counter() - clock) / frames)
                cpu[stage] = min(cpu[stage], (time.process_time() - processor) / frames)
        for stage in stages:
            print(f"{stage:24} {1 / wall[stage]:9.1f} frames/s {1e3 * cpu[stage]:9.2f} ms of CPU a frame")
        *apart, together = stages
        slowest = max(apart, key=lambda s: wall[s])
        ratio, serial = wall[slowest] / wall[together], sum(wall[s] for s in apart) / wall[together]
        print(f"together / slowest stage alone ({slowest}): {ratio:.2f}")
        print(f"together / one after the other: {serial:.2f}\n", flush=True)
        results[name] = {s: 1 / w for s, w in wall.items()} | {"together / slowest": ratio}

    with tempfile.TemporaryDirectory() as folder:
        video = args.video
        if video is None:
            render(Path(folder), train=1, test=1, seconds=(30, 30), workers=1)
            video = Path(folder) / "videos/demo_test_000.mp4"

        if args.only != "i3d":
            motion = Motion()

            def small() -> Iterator[np.ndarray]:
                return iter(VideoReader(video, motion.fps, long_side=LONG_SIDE))

            pictures = list(small())

            def described(frames: Iterator[np.ndarray]) -> int:
                return len(pictures) if count(motion.extract(frames)) else 0

            print(f"motion, {len(pictures)} frames, {args.threads} threads a stage")
            measure(
                "motion",
                {
                    "decode": lambda: count(small()),
                    "flow and statistics": lambda: described(iter(pictures)),
                    "together": lambda: described(prefetch(small(), AHEAD)),
                },
            )
        if args.only != "motion":
            files = {}
            for stream, channels in (("rgb", 3), ("flow", 2)):
                files[stream] = str(Path(folder) / f"{stream}.pt")
                torch.save(I3D(channels).state_dict(), files[stream])
            i3d = I3DFeatures(**files, method=args.flow)
            method = flow_method(args.flow)

            def some() -> Iterator[np.ndarray]:
                return itertools.islice(iter(VideoReader(video, i3d.fps, short_side=256)), args.frames)

            large = list(some())
            inputs = [
                {"rgb": frame, "flow": np.full((*frame.shape[:2], 2), 128, np.uint8)} for frame in large
            ]
            clips = [
                {s: np.stack([p[s] for p in inputs[k : k + 16]]) for s in ("rgb", "flow")}
                for k in range(0, len(inputs) - 15, 16)
            ]

            def infer() -> int:
                for k in range(0, len(clips), i3d.batch):
                    i3d._run(clips[k : k + i3d.batch])
                return 16 * len(clips)

            i3d._run(clips[: i3d.batch])  # the first pass allocates
            print(
                f"i3d, {args.frames} frames, random weights, {args.flow} flow, {args.threads} threads a stage"
            )
            measure(
                "i3d",
                {
                    "decode": lambda: count(some()),
                    "flow": lambda: count(flows(iter(large), method)),
                    "network, both streams": infer,
                    "together": lambda: 16 * sum(len(r["rgb"]) for r in i3d.extract(prefetch(some(), AHEAD))),
                },
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB, {os.cpu_count()} cores")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
