"""Frames per second of decoding, flow and network, apart and together.

    python benchmarks/extraction.py                 # on a rendered video; I3D with random weights, DIS flow
    python benchmarks/extraction.py --flow tvl1     # the flow of the field's features

The pipeline overlaps its stages in threads, so with a core (or a GPU) for each, it runs as fast as its
slowest stage. Where they share the cores, the sum of their times is the bound; both ratios are printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """Frames, seconds on the clock, seconds of processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    frames = work()
    return frames, time.perf_counter() - wall, time.process_time() - cpu


def count(items: Iterator[object]) -> int:
    return sum(1 for _ in items)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="default: a rendered one")
    parser.add_argument("--frames", type=int, default=64, help="frames for the I3D stages (default 64)")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts (default 3)")
    parser.add_argument("--flow", default="dis", help="dis (default) or tvl1")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch and OpenCV")
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
    from weaktal.features.extract.motion import Motion

    cv2.setNumThreads(args.threads)
    torch.set_num_threads(args.threads)
    rows: dict[str, dict[str, float]] = {}

    def note(name: str, work: Callable[[], int]) -> float:
        frames, wall, cpu = min((timed(work) for _ in range(args.repeat)), key=lambda x: x[1])
        rows[name] = {"fps": frames / wall, "cpu_ms": 1e3 * cpu / frames}
        print(f"{name:34} {frames / wall:9.1f} frames/s {1e3 * cpu / frames:9.2f} ms of processor per frame")
        return frames / wall

    with tempfile.TemporaryDirectory() as folder:
        video = args.video
        if video is None:
            render(Path(folder), train=1, test=1, seconds=(30, 30), workers=1)
            video = Path(folder) / "videos/demo_test_000.mp4"

        def done(frames: list[np.ndarray], rows: Iterator[object]) -> int:
            return len(frames) if count(rows) else 0

        print(f"motion, {video.name}")
        motion = Motion()
        pictures = list(VideoReader(video, motion.fps, long_side=160))
        decode = note("decode", lambda: count(iter(VideoReader(video, motion.fps, long_side=160))))
        network = note(
            "flow and statistics", lambda: len(pictures) * bool(list(motion.extract(iter(pictures))))
        )

        def piped() -> int:
            reader = VideoReader(video, motion.fps, long_side=160)
            return done(pictures, motion.extract(prefetch(iter(reader), AHEAD)))

        both = note("together", piped)
        serial = 1 / (1 / decode + 1 / network)
        print(f"together / slowest stage alone: {both / min(decode, network):.2f}")
        print(f"together / one after the other: {both / serial:.2f}\n")

        print(f"i3d, {args.frames} frames, random weights, {args.flow} flow, {args.threads} threads")
        files = {}
        for stream, channels in (("rgb", 3), ("flow", 2)):
            files[stream] = str(Path(folder) / f"{stream}.pt")
            torch.save(I3D(channels).state_dict(), files[stream])
        i3d = I3DFeatures(**files, method=args.flow)

        def some() -> Iterator[np.ndarray]:
            return itertools.islice(iter(VideoReader(video, 25, short_side=256)), args.frames)

        large = list(some())
        inputs = [{"rgb": frame, "flow": np.full((*frame.shape[:2], 2), 128, np.uint8)} for frame in large]
        stages = {"decode": note("decode", lambda: count(some()))}
        method = flow_method(args.flow)
        stages["flow"] = note("flow", lambda: count(flows(iter(large), method)))
        clips = [
            {s: np.stack([p[s] for p in inputs[k : k + 16]]) for s in ("rgb", "flow")}
            for k in range(0, len(inputs) - 15, 16)
        ]

        def infer() -> int:
            for k in range(0, len(clips), i3d.batch):
                i3d._run(clips[k : k + i3d.batch])
            return 16 * len(clips)

        infer()  # the first pass allocates
        stages["network"] = note("network, both streams", infer)
        together = note(
            "together", lambda: 16 * sum(len(r["rgb"]) for r in i3d.extract(prefetch(some(), AHEAD)))
        )
        slowest = min(stages, key=lambda s: stages[s])
        serial = 1 / sum(1 / v for v in stages.values())
        print(f"together / slowest stage alone ({slowest}): {together / stages[slowest]:.2f}")
        print(f"together / one after the other: {together / serial:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB, {os.cpu_count()} cores")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
