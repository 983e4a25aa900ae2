"""What the benchmarks of whole trainings share: one training, and records to go on after.

Apart from `harness.py`, which also runs with the packages of before (`steps.py --against`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from weaktal.methods import find_method
from weaktal.methods.protocol import Method, MethodConfig, TrainingData
from weaktal.train import fit
from weaktal.train.seeds import seed_torch

R = TypeVar("R")


def kept(out: Path, kind: Callable[..., R]) -> list[R]:
    """The records of a folder, in the order in which they were made; `kind` takes their fields."""
    path = out / "records.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [kind(**json.loads(line)) for line in lines]


def keep(out: Path, fields: dict[str, Any]) -> None:
    """One more record."""
    with (out / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


def trained(
    name: str, config: MethodConfig, data: TrainingData, *, until: float = 1.0
) -> tuple[Method, float]:
    """A method after a share of its training, in evaluation mode, and the seconds of a core that it took."""
    seed_torch(data.seed, 0)
    method = find_method(name)(config, dim=data.bank.dim, classes=data.weak.classes)
    begun = time.process_time()
    with TemporaryDirectory() as folder:
        fit(method, data, folder, device="cpu", progress=False, until=until)
    return method.eval(), time.process_time() - begun
