"""What the contract tests run in processes of their own."""

from __future__ import annotations

from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from tests.methods import tiny
from weaktal.methods.protocol import Batch, TrainingData
from weaktal.train import fit

for _name in tiny.NAMES:
    tiny.method_class(_name)


def train(name: str, out: Path, seen: Synchronized[int] | None = None) -> None:
    """Train a tiny method, or go on with it; a checkpoint every other step; `seen` counts steps."""
    torch.set_num_threads(1)
    method = tiny.build(name)
    draw = method.draw

    def counted(stage: int, step: int, data: TrainingData) -> Batch:
        if seen is not None:
            seen.value += 1
        return draw(stage, step, data)

    method.draw = counted  # type: ignore[method-assign]
    fit(method, tiny.data(name), out, resume=True, device="cpu", progress=False, checkpoint_steps=2)
