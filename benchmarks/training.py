"""Training speed and memory of the engine, in one run on one machine.

::

    python benchmarks/training.py                 every method, D 128, against plain loops
    python benchmarks/training.py --memory        peak memory at 200, 2,000 and 20,000 videos
    python benchmarks/training.py --dim 2048      published widths (minutes, gigabytes)

The plain loops (`plain_loops.py`) do what the published code does: read the video's RGB and flow files again
for every sample, choose the snippets one by one in Python, prepare there what the losses need (boxes, pseudo
labels, exemplars, RoI features of all proposals), and evaluate networks of torch's own layers. They have the
same initial weights as ours, and "loss differs by" is how far, without dropout, their loss is from ours on
the same batch, as a share of it. "Periodic" is what is done now and then, spread over the steps between:
ASM-Loc's pseudo segments, LAC's search, TSPNet's votes and labels, and the vectors of all proposals, which
ours makes once; the plain loops do it for a fifth of the videos, and the time is scaled. ISSF runs with its
memory in use. Ours and the plain loop take turns, and the best of some rounds counts.

"Same network" is what the engine alone brings: our network, losses and preparation in both loops, with files
and Python sampling in one of them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asm_loc import activations
from plain_loops import LOOPS, PlainLoop, our_loss
from point import clock
from stcl_net import without_dropout
from torch.utils.flop_counter import FlopCounterMode

from weaktal.core import Detections, Points, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods import METHODS, find_method
from weaktal.methods.asm_loc import ASMLoc
from weaktal.methods.issf import ISSF
from weaktal.methods.lac import LAC
from weaktal.methods.protocol import Batch, Method, Stage, TrainingData
from weaktal.methods.stcl_net import STCLNet
from weaktal.methods.tspnet import TSPNet
from weaktal.train import at_device, fit
from weaktal.train.loop import seed_torch

RATE, CLASSES = 25 / 16, 20
RNG = np.random.default_rng(0)


# A wide network is made as narrow as the features; all else is as published for THUMOS14. Of ASM-Loc's
# refinement steps, which are alike, there is one.
NARROW: dict[str, dict[str, Any]] = {
    "lac": {"hidden": 128},
    "sal": {"hidden": 128},
    "stcl_net": {"attention_dim": 64, "key_dim": 128},
}
CLICKS, PROPOSALS = 15, 170  # of a video, as in THUMOS14


def make_files(folder: Path, videos: int, dim: int) -> list[str]:
    """Feature files as users have them: rgb/NAME.npy and flow/NAME.npy, half of the width each.

    Values are like those behind a ReLU. How large they are matters: numbers that underflow take a processor
    many times longer, in ISSF's softmax over products of snippets above all.
    """
    rng = np.random.default_rng(0)
    names = [f"video_{v:05}" for v in range(videos)]
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir()
        for name in names:
            length = int(np.clip(np.random.default_rng(hash_of(name)).lognormal(5.4, 0.8), 30, 3000))
            features = np.maximum(0.1 + 0.25 * rng.standard_normal((length, dim // 2), np.float32), 0)
            np.save(folder / stream / f"{name}.npy", features)
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
        clicks = np.sort(rng.uniform(0, axis.end, CLICKS))
        weak.append(WeakVideo(name, (label,), Points(clicks, [label] * CLICKS)))
        n = PROPOSALS
        start = rng.uniform(0, 0.9, n) * axis.end
        end = np.minimum(start + rng.uniform(1, 20, n), axis.end)
        segments.append((np.full(n, v), start, end, np.full(n, label), rng.random(n)))
    classes = tuple(f"class_{c}" for c in range(CLASSES))
    columns = map(np.concatenate, zip(*segments, strict=True))
    return TrainingData(
        bank, WeakLabels(classes, tuple(weak)), seed, Detections(tuple(names), classes, *columns)
    )


def build(name: str, dim: int, data: TrainingData, **settings: Any) -> Method:
    kind: type[Method] = find_method(name)
    if name == "asm_loc":
        settings = {"num_steps": 1, **settings}
    if dim <= 128:
        settings = {**NARROW.get(name, {}), **settings}
    seed_torch(0)
    return kind(kind.Config(**settings), dim=dim, classes=data.weak.classes)


@dataclass(frozen=True)
class Phase:
    """A part of a method's schedule.

    Attributes:
        name: for the table.
        stage: of the schedule.
        first: step at which the measurement begins.
        period: steps between two rounds of periodic work.
        weight: share of all steps.
    """

    name: str
    stage: int = 0
    first: int = 0
    period: int = 1
    weight: float = 1.0


def phases(method: Method, data: TrainingData) -> list[Phase]:
    c, name = method.config, method.name
    if isinstance(method, ASMLoc):
        published = type(c)()
        each, steps = published.epochs_per_step, data.steps_per_epoch(c.batch_size)
        base = each / published.epochs
        # the last refinement step is the longest; the mean of all
        refined = (published.epochs - each) * steps // published.num_steps
        return [Phase("base", weight=base), Phase("refinement", 1, period=refined, weight=1 - base)]
    if isinstance(method, ISSF):
        return [Phase(name, first=c.memory_start * len(data) // c.batch_size)]
    if isinstance(method, LAC):
        return [Phase(name, period=c.search_every)]
    return [Phase(name, period=c.update_every if isinstance(method, TSPNet) else 1)]


def prepare(method: Method, data: TrainingData, phase: Phase) -> float:
    """Bring a method into the state in which a phase is measured; seconds a step of its periodic work."""
    seconds = 0.0

    def spread(begin: float, steps: int) -> None:
        nonlocal seconds
        if data.bank.data.is_cuda:
            torch.cuda.synchronize()
        seconds += (clock() - begin) / steps

    begin = clock()
    if isinstance(method, ISSF):
        method.fill_memory(data)  # once in a training; not counted on either side
    elif isinstance(method, LAC):
        method.search(data)
        spread(begin, phase.period)
    elif isinstance(method, TSPNet):
        method.prepared(data).parts.table  # noqa: B018 (made at the first access)
        spread(begin, method.config.steps)
        begin = clock()
        method.update(data)
        method.labels(data)
        spread(begin, phase.period)
    elif isinstance(method, ASMLoc) and phase.stage:
        type(method).begin_stage(method, phase.stage, data)
        spread(begin, phase.period)
        # an untrained network finds nothing sensible; these are like those of a trained one
        c, scores = method.config, activations(data, method.config.snippets)
        begin = clock()
        method.pseudo = [method._segments(scores, c.pseudo_on_cas, c.pseudo_on_attention, 0.0)]
        method._refinement = method._plan(phase.stage, data)
        spread(begin, phase.period)
    else:
        type(method).begin_stage(method, phase.stage, data)
    return seconds


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


def same_network_loop(
    method: Method, data: TrainingData, folder: Path, phase: Phase, steps: int, warm: int
) -> float:
    """Seconds a step with our network, but files for features; our own draw is not counted."""
    prepare(method, data, phase)
    method.train()
    optimizer = method.optimizer(phase.stage)
    seconds = 0.0
    for step in range(warm + steps):
        batch = method.draw(phase.stage, phase.first + step, data)
        sizes = set(batch.lengths.tolist()) if isinstance(batch, Batch) else set()
        begin = clock()
        plain_step(method, optimizer, plain_batch(batch, folder, uniform=len(sizes) == 1))
        if step >= warm:
            seconds += clock() - begin
    return seconds / steps


def plain_seconds(loop: PlainLoop, phase: Phase, steps: int, warm: int) -> tuple[float, float, float]:
    """Seconds a step of the plain loop: drawing, all but periodic work, and that."""
    drawing = whole = 0.0
    for step in range(warm + steps):
        begin = clock()
        drawn = loop.draw(phase.first + step)
        middle = clock()
        loop.update(drawn)
        if step >= warm:
            drawing, whole = drawing + middle - begin, whole + clock() - begin
    begin = clock()
    share = loop.periodic()
    return drawing / steps, whole / steps, share * (clock() - begin) / phase.period


class Enough(Exception):
    """Ends the engine's loop after the steps that are wanted."""


def added_product(out: Any, a: Any, b: Any, **_: Any) -> int:
    """FLOPs of a product that is added in place, from shapes; torch's counter leaves these out."""
    return 2 * a[0] * a[1] * b[1]


def engine(
    method: Method, data: TrainingData, phase: Phase, device: str, steps: int, warm: int
) -> tuple[float, float, float, float]:
    """`weaktal.train.fit` in a phase: seconds a step of drawing, all, and periodic work; FLOPs of a step."""
    times: list[float] = []
    drawn: list[float] = []
    flops = periodic = 0.0
    inner, draw = method.training_step, method.draw

    def timed_draw(_stage: int, step: int, known: TrainingData) -> Any:
        begin = clock()
        batch = draw(phase.stage, phase.first + step, known)
        drawn.append(clock() - begin)
        return batch

    def counted(batch: Any) -> dict[str, torch.Tensor]:
        nonlocal flops
        if len(times) == 1:  # a warm step that is not timed
            added = {torch.ops.aten.addmm_: added_product}
            with FlopCounterMode(display=False, custom_mapping=added) as counter:
                losses = inner(batch)
                losses["total"].backward()
            method.zero_grad(set_to_none=True)
            flops = counter.get_total_flops()
        return inner(batch)

    def timed(_stage: int, step: int, _known: TrainingData) -> None:
        if device.startswith("cuda") and step in (warm, warm + steps):
            torch.cuda.synchronize()
        times.append(clock())
        if step == warm + steps:
            raise Enough

    def begin(_stage: int, known: TrainingData) -> None:
        nonlocal periodic
        periodic = prepare(method, known, phase)

    # the loop sees one stage, which is the phase; its periodic work is done once, before
    optimizer = method.optimizer
    changed: dict[str, Any] = {
        "stages": lambda known: [Stage(phase.name, warm + steps + 1, len(known))],
        "begin_stage": begin,
        "before_step": timed,
        "draw": timed_draw,
        "training_step": counted,
        "optimizer": lambda _stage: optimizer(phase.stage),
    }
    for key, value in changed.items():
        setattr(method, key, value)
    with tempfile.TemporaryDirectory() as out:
        try:
            fit(method, data, out, device=device, progress=False, checkpoint_seconds=1e9)
        except Enough:
            whole = (times[warm + steps] - times[warm]) / steps
            return sum(drawn[warm : warm + steps]) / steps, whole, periodic, flops
    raise AssertionError("the last step is never reached")


def kernel_share(method: Method, data: TrainingData, phase: Phase, steps: int) -> float:
    """Share of the time of a step in which a kernel runs on the GPU."""
    device = torch.device("cuda")
    method.to(device)
    prepare(method, data, phase)
    method.train()
    optimizer = method.optimizer(phase.stage)

    def run() -> None:
        for step in range(phase.first, phase.first + steps):
            method.training_step(method.draw(phase.stage, step, data).to(device))["total"].backward()
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


def loss_difference(
    name: str, dim: int, data: TrainingData, folder: Path, phase: Phase, device: torch.device
) -> float:
    """How far the plain loss is from ours, relative, on the same batch with the same weights, no dropout."""
    rate = {"dropout": 0.0} if "dropout" in find_method(name).Config.model_fields else {}
    method = build(name, dim, data, **rate).to(device)
    if isinstance(method, STCLNet):
        without_dropout(method)
    prepare(method, data, phase)
    method.train()
    batch = method.draw(phase.stage, phase.first, data)
    loop = LOOPS[name](method, data, folder, phase.stage, device)
    plain = loop.backward(loop.like(batch))
    return abs(our_loss(method, batch).item() - plain) / abs(plain)


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


HEAD = (
    "method",
    "batch, ms: plain",
    "ours",
    "periodic, ms: plain",
    "ours",
    "step in all, ms: plain",
    "ours",
    "videos/s: plain",
    "ours",
    "ratio",
    "same network",
    "loss differs by",
    "of peak FLOP/s",
)


def speed(args: argparse.Namespace) -> None:
    kind = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    device, peak, threads = torch.device(kind), peak_flops(kind), torch.get_num_threads()
    print(f"{kind}, {threads} threads, D {args.dim}, peak {peak / 1e9:.0f} GFLOP/s (matrix product)")
    head = [*HEAD, "kernels busy"] if kind == "cuda" else HEAD
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = make_files(folder, args.videos, args.dim)
        data = make_data(folder, names)
        data = replace(data, bank=at_device(data.bank, device))
        for name in args.methods:
            method_row(name, args, data, folder, device, peak)


def method_row(
    name: str, args: argparse.Namespace, data: TrainingData, folder: Path, device: torch.device, peak: float
) -> None:
    """Measure a method and print a row of the table, and one for every phase if there are several."""
    rows = []
    parts = phases(build(name, args.dim, data), data)
    for phase in parts:
        size = len(build(name, args.dim, data).draw(0, 0, data).names)
        method = build(name, args.dim, data).to(device)
        prepare(method, data, phase)
        loop = LOOPS[name](method, data, folder, phase.stage, device)
        rounds = []
        for _ in range(args.rounds):
            drawing, step, periodic, flops = engine(
                build(name, args.dim, data), data, phase, device.type, args.steps, args.warm
            )
            method = build(name, args.dim, data).to(device)
            same = same_network_loop(method, data, folder, phase, args.steps, args.warm)
            plain_drawing, plain, plain_periodic = plain_seconds(loop, phase, args.steps, args.warm)
            rounds.append([plain_drawing, drawing, plain_periodic, periodic, plain, step, same])
        plain_drawing, drawing, plain_periodic, periodic, plain, step, same = np.min(rounds, axis=0)
        differs = loss_difference(name, args.dim, data, folder, phase, device)
        seconds = np.array(
            [plain_drawing, drawing, plain_periodic, periodic, plain + plain_periodic, step + periodic]
        )
        shares = np.array([same / step, differs, flops / step / peak])
        if device.type == "cuda":
            busy = kernel_share(build(name, args.dim, data), data, phase, args.steps)
            shares = np.append(shares, busy)
        rows.append((phase, seconds, shares))
        if len(parts) > 1:
            print_row(f"{name}, {phase.name}", seconds, shares, size)
    weights = np.array([phase.weight for phase, *_ in rows])
    seconds = weights @ [s for _, s, _ in rows]
    ours = weights * [s[-1] for _, s, _ in rows]
    shares = ours @ [s for *_, s in rows] / ours.sum()
    shares[1] = max(s[1] for *_, s in rows)
    print_row(name, seconds, shares, size)


def print_row(name: str, seconds: np.ndarray, shares: np.ndarray, size: int) -> None:
    plain, ours = seconds[-2:]
    row = [name, *(f"{1000 * s:.1f}" for s in seconds), f"{size / plain:.0f}", f"{size / ours:.0f}"]
    row += [f"{plain / ours:.1f}", f"{shares[0]:.1f}", f"{shares[1]:.0e}", *(f"{s:.0%}" for s in shares[2:])]
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
    method = build("asm_loc", dim, data, num_steps=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, seconds, _, _ = engine(method, data, Phase("base"), "cpu", 20, 2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = path.stat().st_size / 2**30
    path.unlink()
    print(f"| {videos:,} | {size:.2f} | {before / 2**10:.0f} | {after / 2**10:.0f} | {1 / seconds:.1f} |")


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
    add("--rounds", type=int, default=3, help="ours and the plain loop take turns; the best of each counts")
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
