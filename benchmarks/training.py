"""Training speed and memory of the engine, in one run on one machine.

::

    python benchmarks/training.py                 every method, D 128, against a plain loader-per-file loop
    python benchmarks/training.py --memory        peak memory at 200, 2,000 and 20,000 videos
    python benchmarks/training.py --dim 2048      published widths (minutes, gigabytes)

The plain loop is what the published code of the field does, written by us: for every sample of every step it
reads the video's RGB and flow files again, chooses the snippets one by one in Python, stacks them, and
fetches each loss as it comes. Network, losses and optimizer are the same objects in both loops, so the ratio
is the engine's own; how much faster our networks are than plain ones is measured in benchmarks/METHOD.py.
Where a method draws more than features (labels, click positions, boxes, proposals), the plain loop gets that
for nothing. "Batch" is what it takes to have the features of a step ready.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from weaktal.core import Detections, Points, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods import METHODS, find_method
from weaktal.methods.protocol import Batch, Method, TrainingData
from weaktal.train import at_device, fit
from weaktal.train.loop import seed_torch

RATE, CLASSES = 25 / 16, 20
RNG = np.random.default_rng(0)


def clock() -> float:
    """Wall time; of a process with one thread on a CPU its own time, so that other programs do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


# Sizes of the published THUMOS14 configurations; a wide network is made as narrow as the features. Long
# schedules are cut, so that a few steps of every stage fit; what a step does stays as published.
NARROW: dict[str, dict[str, Any]] = {
    "asm_loc": {"num_steps": 0},
    "lac": {"hidden": 128, "search_every": 10**6},
    "sal": {"hidden": 128},
    "stcl_net": {"attention_dim": 64, "key_dim": 128},
}


def make_files(folder: Path, videos: int, dim: int) -> list[str]:
    """Feature files as users have them: rgb/NAME.npy and flow/NAME.npy, half of the width each."""
    rng = np.random.default_rng(0)
    names = [f"video_{v:05}" for v in range(videos)]
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir()
        for name in names:
            length = int(np.clip(np.random.default_rng(hash_of(name)).lognormal(5.4, 0.8), 30, 3000))
            np.save(folder / stream / f"{name}.npy", rng.standard_normal((length, dim // 2), np.float32))
    return names


def hash_of(name: str) -> int:
    return int(name.removeprefix("video_"))


def make_data(folder: Path, names: list[str], seed: int = 0) -> TrainingData:
    """The same features in memory, with labels, clicks and proposals."""
    arrays = [np.concatenate([np.load(folder / s / f"{n}.npy") for s in ("rgb", "flow")], 1) for n in names]
    bank = FeatureBank.of(names, arrays, RATE)
    rng = np.random.default_rng(seed)
    weak, segments = [], []
    for v, (name, axis) in enumerate(zip(names, bank.axes, strict=True)):
        label = v % CLASSES
        clicks = np.sort(rng.uniform(0, axis.end, 8))
        weak.append(WeakVideo(name, (label,), Points(clicks, [label] * 8)))
        start = rng.uniform(0, 0.9, 100) * axis.end
        end = np.minimum(start + rng.uniform(1, 20, 100), axis.end)
        segments.append((np.full(100, v), start, end, np.full(100, label), rng.random(100)))
    classes = tuple(f"class_{c}" for c in range(CLASSES))
    columns = map(np.concatenate, zip(*segments, strict=True))
    return TrainingData(
        bank, WeakLabels(classes, tuple(weak)), seed, Detections(tuple(names), classes, *columns)
    )


def build(name: str, dim: int, data: TrainingData) -> Method:
    kind: type[Method] = find_method(name)
    settings = NARROW.get(name, {}) if dim <= 128 else {}
    seed_torch(0)
    return kind(kind.Config(**settings), dim=dim, classes=data.weak.classes)


def plain_video(folder: Path, name: str, snippets: int | None) -> torch.Tensor:
    """One sample of the plain loop: read two files, choose a snippet per bin in Python."""
    rgb, flow = np.load(folder / "rgb" / f"{name}.npy"), np.load(folder / "flow" / f"{name}.npy")
    features = np.concatenate([rgb, flow], axis=1)
    if snippets is None:
        return torch.from_numpy(features)
    length = len(features)
    rows = []
    for i in range(snippets):
        low, high = int(i * length / snippets), int((i + 1) * length / snippets)
        rows.append(low if high == low else RNG.choice(range(low, min(high + 1, length))))
    return torch.from_numpy(features[rows])


def plain_batch(batch: Any, folder: Path, uniform: bool) -> Any:
    """The features of a step of the plain loop; `batch` gives what goes with them."""
    snippets = batch.features.shape[1] if uniform else None
    videos = [plain_video(folder, name, snippets) for name in batch.names]
    features = torch.nn.utils.rnn.pad_sequence(videos, batch_first=True)
    if hasattr(batch, "exemplars"):  # exemplar videos of every class are samples like any other
        classes, m, size = batch.exemplars.shape
        first = batch.bank.offsets.searchsorted(batch.exemplars[..., 0].numpy(), side="right") - 1
        names = [batch.bank.names[v] for v in first.reshape(-1)]
        torch.stack([plain_video(folder, n, size) for n in names]).reshape(classes, m, size, -1)
    if isinstance(batch, Batch) and features.shape == batch.features.shape:
        return replace(batch, features=features.to(batch.features.device))
    return batch


def plain_step(method: Method, optimizer: torch.optim.Optimizer, batch: Any) -> float:
    """A step of the plain loop on its batch."""
    losses = method.training_step(batch)
    optimizer.zero_grad()
    losses["total"].backward()
    optimizer.step()
    return sum(loss.item() for loss in losses.values())


def plain_loop(
    method: Method, data: TrainingData, folder: Path, steps: int, warm: int
) -> tuple[float, float]:
    """Seconds of the batches and of the rest of `steps` steps of the plain loop; our own draw not counted."""
    method.begin_stage(0, data)
    method.train()
    optimizer = method.optimizer(0)
    seconds = np.zeros(2)
    for step in range(warm + steps):
        method.before_step(0, step, data)
        batch = method.draw(0, step, data)
        sizes = set(batch.lengths.tolist()) if isinstance(batch, Batch) else set()
        begin = clock()
        plain = plain_batch(batch, folder, uniform=len(sizes) == 1)
        middle = clock()
        plain_step(method, optimizer, plain)
        if step >= warm:
            seconds += middle - begin, clock() - middle
    return float(seconds[0]), float(seconds[1])


class Enough(Exception):
    """Ends the engine's loop after the steps that are wanted."""


def engine(
    method: Method, data: TrainingData, device: str, steps: int, warm: int
) -> tuple[float, float, float]:
    """Seconds of the draws and of all of `steps` steps of `weaktal.train.fit`, and FLOPs of one step."""
    times: list[float] = []
    drawn: list[float] = []
    flops = 0.0
    before, inner, draw = method.before_step, method.training_step, method.draw

    def timed_draw(stage: int, step: int, known: TrainingData) -> Any:
        begin = clock()
        batch = draw(stage, step, known)
        drawn.append(clock() - begin)
        return batch

    def counted(batch: Any) -> dict[str, torch.Tensor]:
        nonlocal flops
        if len(times) == 1:  # a warm step that is not timed
            with FlopCounterMode(display=False) as counter:
                losses = inner(batch)
                losses["total"].backward()
            method.zero_grad(set_to_none=True)
            flops = counter.get_total_flops()
        return inner(batch)

    def timed(stage: int, step: int, known: TrainingData) -> None:
        before(stage, step, known)
        if device.startswith("cuda") and step in (warm, warm + steps):
            torch.cuda.synchronize()
        times.append(clock())
        if step == warm + steps:
            raise Enough

    method.before_step, method.training_step = timed, counted  # type: ignore[method-assign]
    method.draw = timed_draw  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        try:
            fit(method, data, out, device=device, progress=False, checkpoint_seconds=1e9)
        except Enough:
            return sum(drawn[warm:]), times[warm + steps] - times[warm], flops
    raise SystemExit(f"{method.name}: fewer than {warm + steps} steps in the first stage")


def kernel_share(method: Method, data: TrainingData, steps: int) -> float:
    """Share of the time of a step in which a kernel runs on the GPU."""
    device = torch.device("cuda")
    method.to(device).train()
    method.begin_stage(0, data)
    optimizer = method.optimizer(0)

    def run() -> None:
        for step in range(steps):
            method.training_step(method.draw(0, step, data).to(device))["total"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()

    run()
    begin = clock()
    run()
    wall = clock() - begin
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
    busy = sum(e.self_device_time_total for e in profile.key_averages()) / 1e6
    return busy / wall


def peak_flops(device: str) -> float:
    """FLOP/s of a large float32 matrix product, what this device can do at best."""
    n = 4096 if device.startswith("cuda") else 1536
    a = torch.randn(n, n, device=device)
    best = 0.0
    for _ in range(5):
        begin = clock()
        a @ a
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (clock() - begin))
    return best


def speed(args: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    peak = peak_flops(device)
    threads = torch.get_num_threads()
    print(f"{device}, {threads} threads, D {args.dim}, peak {peak / 1e9:.0f} GFLOP/s (matrix product)")
    gpu = " kernels busy |" if device == "cuda" else ""
    columns = "batch, ms: plain | engine | ratio | videos/s: plain | engine | ratio | of peak FLOP/s |"
    print(f"| method | {columns}{gpu}")
    print("|---" * 8 + "|" + ("---|" if gpu else ""), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = make_files(folder, args.videos, args.dim)
        data = make_data(folder, names)
        data = replace(data, bank=at_device(data.bank, torch.device(device)))
        for name in args.methods:
            method = build(name, args.dim, data)
            drawing, seconds, flops = engine(method, data, device, args.steps, args.warm)
            method = build(name, args.dim, data).to(device)
            size = len(method.draw(0, 0, data).names)
            reading, rest = plain_loop(method, data, folder, args.steps, args.warm)
            plain = reading + rest
            row = [name, *(f"{1000 * s / args.steps:.1f}" for s in (reading, drawing))]
            row += [f"{reading / drawing:.1f}", *(f"{args.steps * size / s:.0f}" for s in (plain, seconds))]
            row += [f"{plain / seconds:.1f}", f"{flops * args.steps / seconds / peak:.0%}"]
            if gpu:
                row.append(f"{kernel_share(build(name, args.dim, data), data, args.steps):.0%}")
            print("| " + " | ".join(row) + " |", flush=True)


def memory_of(videos: int, dim: int, folder: Path) -> None:
    """Train on a memory-mapped file of that many videos and print the peak memory (a process of its own)."""
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
    data = TrainingData(bank, weak)
    method = build("asm_loc", dim, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, seconds, _ = engine(method, data, "cpu", 20, 2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = path.stat().st_size / 2**30
    path.unlink()
    print(f"| {videos:,} | {size:.2f} | {before / 2**10:.0f} | {after / 2**10:.0f} | {20 / seconds:.1f} |")


def memory(args: argparse.Namespace) -> None:
    print(f"ASM-Loc (base), D {args.dim}, memory-mapped, 20 steps of 16 videos")
    print(
        "| videos | features, GiB | before training, MiB | peak, MiB | steps/s |\n|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        for videos in (200, 2_000, 20_000):
            command = [sys.executable, __file__, "--memory-of", str(videos), "--dim", str(args.dim)]
            subprocess.run([*command, "--scratch", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("methods", nargs="*", default=list(METHODS), help="methods to measure (default: all)")
    add("--dim", type=int, default=128, help="width of the features (published: 2048)")
    add("--videos", type=int, default=200)
    add("--steps", type=int, default=10, help="steps timed")
    add("--warm", type=int, default=2, help="steps before that")
    add("--cpu", action="store_true", help="not on the GPU")
    add("--memory", action="store_true", help="measure peak memory in place of speed")
    add("--memory-of", type=int, help=argparse.SUPPRESS)
    add("--scratch", type=Path, help="folder for memory-mapped files")
    args = parser.parse_args()
    if args.memory_of:
        memory_of(args.memory_of, args.dim, args.scratch)
    elif args.memory:
        memory(args)
    else:
        speed(args)


if __name__ == "__main__":
    main()
