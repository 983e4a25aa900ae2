"""Every method at a size that trains in a second, for the tests that all methods must pass."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from tests.train.linear_mil import LinearMIL, toy_data
from weaktal.core import Detections, WeakLabels
from weaktal.features.bank import FeatureBank
from weaktal.methods import METHODS, find_method
from weaktal.methods.protocol import Method, MethodConfig, TrainingData

# a method without an entry is built from its default configuration
SIZES: dict[str, dict[str, Any]] = {
    "linear_mil": {},
    "asm_loc": {
        "snippets": 24,
        "heads": 2,
        "epochs": 6,
        "epochs_per_step": 2,
        "num_steps": 2,
        "batch_size": 4,
    },
    "issf": {"epochs": 7, "batch_size": 3, "momentum_start": 4, "memory_slots": 2},
    "lac": {"hidden": 8, "steps": 12, "batch_size": 4, "search_every": 3, "lr": 1e-3},
    "sal": {"hidden": 8, "segments": 20, "epochs": 3, "batch_size": 3, "lr": 1e-3},
    "stcl_net": {
        "attention_dim": 8,
        "key_dim": 8,
        "exemplar_videos": 2,
        "snippets": 20,
        "batch_size": 6,
        "pairs": 2,
        "iterations": 8,
        "learning_rate": 1e-3,
    },
    "tspnet": {"steps": 12, "batch_size": 3, "update_every": 4, "update_threshold": 0.3, "lr": 1e-3},
}
NAMES = ["linear_mil", *(n for n, where in METHODS.items() if find_spec(where.split(":")[0]))]
DIM, CLASSES = 16, 3


def method_class(name: str) -> type[Method]:
    return LinearMIL if name == "linear_mil" else find_method(name)


def config(name: str, **changes: Any) -> MethodConfig:
    return method_class(name).Config(**{**SIZES.get(name, {}), **changes})


def data(name: str, videos: int = 8, seed: int = 0) -> TrainingData:
    """Toy videos with the supervision that the method asks for."""
    toy = toy_data(videos, DIM, CLASSES, seed, points=method_class(name).supervision == "point")
    return replace(toy, proposals=proposals(toy.bank, toy.weak))


def proposals(bank: FeatureBank, weak: WeakLabels) -> Detections:
    """A few overlapping segments per video, around the middle third and elsewhere."""
    rng = np.random.default_rng(len(bank))
    columns = []
    for v, (axis, video) in enumerate(zip(bank.axes, weak.videos, strict=True)):
        n = 6
        start = rng.uniform(0, 0.6, n) * axis.end
        end = start + rng.uniform(0.1, 0.4, n) * axis.end
        start[0], end[0] = axis.end / 3, 2 * axis.end / 3
        label = np.full(n, (video.labels or (0,))[0])
        columns.append((np.full(n, v), start, end, label, rng.random(n)))
    return Detections(bank.names, weak.classes, *map(np.concatenate, zip(*columns, strict=True)))


def build(name: str, **changes: Any) -> Method:
    from weaktal.train.loop import seed_torch

    seed_torch(0)
    return method_class(name)(
        config(name, **changes), dim=DIM, classes=tuple(f"class_{c}" for c in range(CLASSES))
    )
