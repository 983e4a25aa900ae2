"""What the benchmarks share: clocks, data of THUMOS14's size, methods at a size, tables.

Nothing here is measured; each other file answers one question, says so at its top, and prints a table.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from weaktal.core import Detections, Points, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods import METHODS, find_method
from weaktal.methods.protocol import Method, TrainingData

RATE, CLASSES = 25 / 16, 20
METHOD_NAMES = list(METHODS)
Losses = Callable[[Any], dict[str, torch.Tensor]]
CLICKS, PROPOSALS = 15, 170  # of a video, as in THUMOS14
VIDEOS = 200  # of its training subset

# -- clocks and tables ---------------------------------------------------------------------------------------


def clock() -> float:
    """Seconds; of a process with one thread on a CPU its own time, so that other programs do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def best(run: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        begin = clock()
        run()
        seconds.append(clock() - begin)
    return min(seconds)


def peak_memory() -> float:
    """GiB that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def row(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """Print the head of a table."""
    row(*cells)
    print("|" + "---|" * len(cells), flush=True)


def report(what: str, ours: float, plain: float) -> None:
    """Print what a fast path saves against its plain twin, in seconds each."""
    row(what, f"{1000 * ours:.1f} ms", f"{1000 * plain:.1f} ms", f"{plain / ours:.2f}")


# -- data and methods ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How large networks and data are.

    Attributes:
        dim: width of the features.
        videos: training videos.
        length: median snippets of a video.
        settings: by method, what differs from the published settings for THUMOS14.
    """

    dim: int
    videos: int
    length: float
    settings: dict[str, dict[str, Any]]


# of ASM-Loc's refinement stages, which are alike, there is one
_ONE_REFINEMENT: dict[str, dict[str, Any]] = {"asm_loc": {"num_steps": 1, "epochs": 200}}
SIZES = {
    "published": Size(2048, VIDEOS, 220, _ONE_REFINEMENT),
    # a wide network is made as narrow as the features; all else is as published
    "narrow": Size(
        128,
        VIDEOS,
        220,
        _ONE_REFINEMENT
        | {
            "lac": {"hidden": 128},
            "sal": {"hidden": 128},
            "stcl_net": {"attention_dim": 64, "key_dim": 128},
        },
    ),
    "small": Size(
        16,
        12,
        20,
        {
            "asm_loc": {
                "snippets": 24,
                "heads": 2,
                "num_steps": 1,
                "epochs": 6,
                "epochs_per_step": 2,
                "batch_size": 4,
            },
            "hr_pro": {"epochs": 4, "batch_size": 3},
            "hr_pro_snippets": {"heads": 2, "feedforward": 8, "steps": 8, "batch_size": 4},
            "issf": {"epochs": 9, "batch_size": 3, "momentum_start": 4, "memory_slots": 2},
            "lac": {"hidden": 8, "steps": 30, "batch_size": 4, "search_every": 3},
            "sal": {"hidden": 8, "segments": 20, "epochs": 4, "batch_size": 3},
            "stcl_net": {
                "attention_dim": 8,
                "key_dim": 8,
                "exemplar_videos": 2,
                "snippets": 20,
                "batch_size": 6,
                "pairs": 2,
                "iterations": 20,
            },
            "tspnet": {"steps": 30, "batch_size": 3, "update_every": 4, "update_threshold": 0.3},
        },
    ),
}


def thumos_like(size: Size, seed: int = 0) -> TrainingData:
    """Random features with labels, clicks and proposals: as many, and as long, as in THUMOS14.

    Values are like those behind a ReLU. How large they are matters: numbers that underflow take a processor
    many times longer, in ISSF's softmax over products of snippets above all.
    """
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(size.length), 0.8, size.videos), 20, 2300).astype(int)
    names = [f"video_{v:05}" for v in range(size.videos)]
    arrays = [np.maximum(0.1 + 0.25 * rng.standard_normal((n, size.dim), np.float32), 0) for n in lengths]
    bank = FeatureBank.of(names, arrays, RATE)
    weak, segments = [], []
    for v, (name, axis) in enumerate(zip(names, bank.axes, strict=True)):
        label = v % CLASSES
        weak.append(
            WeakVideo(name, (label,), Points(np.sort(rng.uniform(0, axis.end, CLICKS)), [label] * CLICKS))
        )
        start = rng.uniform(0, 0.9, PROPOSALS) * axis.end
        end = np.minimum(start + rng.uniform(1, 20, PROPOSALS), axis.end)
        segments.append((v, start, end, label, rng.random(PROPOSALS)))
    classes = tuple(f"class_{c}" for c in range(CLASSES))
    return TrainingData(bank, WeakLabels(classes, tuple(weak)), seed, _detections(names, classes, segments))


def _detections(names: Sequence[str], classes: tuple[str, ...], segments: list[Any]) -> Detections:
    rows = [np.broadcast_arrays(*s) for s in segments]
    return Detections(tuple(names), classes, *map(np.concatenate, zip(*rows, strict=True)))


def build(name: str, size: Size, data: TrainingData, **settings: Any) -> Method:
    """A method with fresh weights."""
    from weaktal.train.loop import seed_torch

    kind: type[Method] = find_method(name)
    config = kind.Config(**{**size.settings.get(name, {}), **settings})
    seed_torch(0)
    return kind(config, dim=data.bank.dim, classes=data.weak.classes)


@dataclass(frozen=True)
class Part:
    """A stretch of a method's training whose steps are alike.

    Attributes:
        name: for the table.
        stage: of the schedule.
        first: step at which it begins.
        period: steps from one periodic event (search, votes) to the next; 0 without.
        steps: how many the published schedule has.
    """

    name: str
    stage: int
    first: int
    period: int
    steps: int


def parts(method: Method, data: TrainingData) -> list[Part]:
    """The parts of a method's training that are worth a row."""
    c, name = method.config, method.name
    stages = method.stages(data)
    if name == "asm_loc":
        published, epoch = type(c)(), stages[0].epoch
        base = published.epochs_per_step
        return [
            Part("asm_loc, base", 0, 0, 0, base * epoch),
            Part("asm_loc, refinement", 1, 0, 0, (published.epochs - base) * epoch),
        ]
    first = 0
    if name == "issf":  # once its memory is in use, as in all but the first epochs
        first = c.memory_start * len(data) // c.batch_size
    period = {"lac": "search_every", "tspnet": "update_every"}.get(name)
    return [Part(name, 0, first, getattr(c, period) if period else 0, stages[0].steps)]


def begin(method: Method, data: TrainingData, part: Part) -> float:
    """Bring a method to the first step of a part; seconds of a periodic event, 0 without."""
    from weaktal.train.loop import seed_torch

    seed_torch(0, 1, part.stage)
    if method.name == "asm_loc" and part.stage:
        # an untrained network finds no sensible segments; these are like those of a trained one
        method.load_training_state({"stage": 0, "missing": [], "pseudo": []})
        method.begin_stage(0, data)
        method.load_training_state({"stage": part.stage, "missing": [], "pseudo": [_pseudo_segments(data)]})
    else:
        method.begin_stage(part.stage, data)
    seconds = 0.0
    if part.first:
        method.before_step(part.stage, part.first, data)
    if part.period:
        start = clock()
        method.before_step(part.stage, part.first + part.period, data)
        seconds = clock() - start
    method.train()
    return seconds


def _pseudo_segments(data: TrainingData, seed: int = 1) -> dict[str, Any]:
    """An action of some seconds every 15 seconds or so, as `Method.training_state` of ASM-Loc holds them."""
    rng = np.random.default_rng(seed)
    columns = []
    for v, (video, axis) in enumerate(zip(data.weak.videos, data.bank.axes, strict=True)):
        start = np.arange(rng.uniform(0, min(15, axis.end / 2)), axis.end, 15)
        end = np.minimum(start + rng.lognormal(1.0, 0.6, len(start)), axis.end)
        columns.append(
            (np.full(len(start), v), start, end, np.full(len(start), video.labels[0]), rng.random(len(start)))
        )
    video, start, end, label, score = (
        torch.from_numpy(np.concatenate(c)) for c in zip(*columns, strict=True)
    )
    names = list(data.bank.names)
    return {"names": names, "video": video, "start": start, "end": end, "label": label, "score": score}


def train_step(losses: Losses, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    """Forward, backward, optimizer."""
    losses(batch)["total"].backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
