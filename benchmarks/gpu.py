"""Training on a GPU: every method at published size, eager and compiled, in float32 and mixed precision.

    python benchmarks/gpu.py                     eight minutes of one GPU
    python benchmarks/gpu.py --cpu --size small  the same on a CPU, to see that it runs

steps/s     draw, forward, backward and optimizer; the features lie on the device
of peak     FLOPs of forward and backward (torch's counter, eager) in that time, as a share of what a large
            matrix product reaches on this device in this precision
memory      of the device at its peak, features included (on a CPU: of the process)
published   what the whole published training on THUMOS14 would take: its steps and its periodic events
            (searches, votes), without evaluation and compilation
graphs      compiled before the steps that are timed, and while they are (0: no batch compiles anew)

Eager rows come first. What does not fit into `--minutes` is left out, and said.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from harness import METHOD_NAMES, SIZES, Part, Size, begin, build, head, parts, peak_memory, row, thumos_like
from lightning_fabric import Fabric
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from weaktal.methods.protocol import Method, TrainingData
from weaktal.train import at_device
from weaktal.train.loop import compiled, launch

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Found:
    """What a row says: seconds of a step, FLOPs of a step, GiB, seconds of a periodic event, graphs."""

    step: float
    flops: float
    memory: float
    event: float
    graphs: tuple[int, int]


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_flops(fabric: Fabric) -> float:
    """FLOP/s of a large matrix product, what this device can do at best in this precision."""
    n = 8192 if fabric.device.type == "cuda" else 1024
    a, seconds = torch.randn(n, n, device=fabric.device), []
    for _ in range(5):
        synchronise(fabric.device)
        start = time.perf_counter()
        with fabric.autocast():
            a @ a
        synchronise(fabric.device)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)


def flops_of(method: Method, data: TrainingData, part: Part, fabric: Fabric) -> float:
    """FLOPs of forward and backward of a step."""
    batch = method.draw(part.stage, part.first, data).to(fabric.device)
    with FlopCounterMode(display=False) as counter:
        with fabric.autocast():
            total = method.training_step(batch)["total"]
        total.backward()
    method.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def measure(
    method: Method, data: TrainingData, part: Part, fabric: Fabric, compile: bool, seconds: float
) -> Found:
    """Train for `seconds`, and at least two steps, after some that are not timed."""
    device = fabric.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch._dynamo.reset()
    counters.clear()
    method.to(device)
    event = begin(method, data, part)
    losses = compiled(method) if compile else method.training_step
    optimizer = method.optimizer(part.stage)
    stepped = fabric.setup_optimizers(optimizer)
    flops = flops_of(method, data, part, fabric)

    def steps(numbers: Iterator[int]) -> Iterator[float]:
        for step in numbers:
            batch = method.draw(part.stage, step, data).to(device)
            with fabric.autocast():
                total = losses(batch)["total"]
            fabric.backward(total)
            stepped.step()
            optimizer.zero_grad(set_to_none=True)
            yield time.perf_counter()

    numbers = itertools.count(part.first)
    for _ in steps(itertools.islice(numbers, 4)):
        synchronise(device)
    before = counters["stats"]["unique_graphs"]
    start, count = time.perf_counter(), 0
    for now in steps(numbers):
        count += 1
        if count >= 2 and now - start > seconds:
            break
    synchronise(device)
    step = (time.perf_counter() - start) / count
    after = counters["stats"]["unique_graphs"]
    cuda = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else peak_memory()
    return Found(step, flops, memory, event, (before, after - before))


def table(names: list[str], size: Size, ways: list[str], device: str, minutes: float, seconds: float) -> None:
    """Print a row for every part of every method, each way, in both precisions."""
    end = time.monotonic() + 60 * minutes
    fabrics = {p: launch(device, p) for p in PRECISIONS}
    peaks = {p: peak_flops(f) for p, f in fabrics.items()}
    where = fabrics["32-true"].device
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or "CPU"
    products = ", ".join(f"{p / 1e12:.3g} TFLOP/s in {k}" for k, p in peaks.items())
    print(f"{name}, torch {torch.__version__}; a matrix product reaches {products}\n", flush=True)
    data = thumos_like(size)
    everywhere = at_device(data.bank, where)
    data = type(data)(everywhere, data.weak, data.seed, data.proposals)
    head("training", "way", "precision", "steps/s", "of peak", "memory, GiB", "published, h:mm:ss", "graphs")
    for way, precision in itertools.product(ways, PRECISIONS):
        for method_name in names:
            for place in range(len(parts(build(method_name, size, data), data))):
                method = build(method_name, size, data)
                part = parts(method, data)[place]
                compile = way == "compiled"
                if time.monotonic() > end:
                    row(part.name, way, precision, "left out: no time", "", "", "", "")
                    continue
                found = measure(method, data, part, fabrics[precision], compile, seconds)
                events = part.steps // part.period if part.period else 0
                row(
                    part.name,
                    way,
                    precision,
                    f"{1 / found.step:.1f}",
                    f"{found.flops / found.step / peaks[precision]:.1%}",
                    f"{found.memory:.2f}",
                    time_of(part.steps * found.step + events * found.event),
                    " + ".join(map(str, found.graphs)) if compile else "",
                )
                del method
                if where.type == "cuda":
                    torch.cuda.empty_cache()


def time_of(seconds: float) -> str:
    """Hours, minutes, seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("methods", nargs="*", default=METHOD_NAMES, help="methods to measure (default: all)")
    add("--size", choices=list(SIZES), default="published")
    add("--ways", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    add("--cpu", action="store_true", help="not on the GPU")
    add("--minutes", type=float, default=7.5, help="begin no new row after so long")
    add("--seconds", type=float, default=3.0, help="of steps that are timed, a row")
    args = parser.parse_args(argv)
    device = "cpu" if args.cpu else "auto"
    table(args.methods, SIZES[args.size], args.ways, device, args.minutes, args.seconds)


if __name__ == "__main__":
    main()
