"""Every method at a size that trains in a second, for the tests that all methods must pass."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tests.train.linear_mil import LinearMIL
from weaktal.methods import METHODS, find_method
from weaktal.methods.protocol import Method, MethodConfig, TrainingData
from weaktal.testing import Subject

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
    "hr_pro": {"epochs": 4, "batch_size": 3, "lr": 1e-3, "clip_refined": True},
    "hr_pro_snippets": {"heads": 2, "feedforward": 8, "steps": 8, "batch_size": 4, "lr": 1e-3},
    "issf": {"epochs": 7, "batch_size": 3, "momentum_start": 4, "memory_slots": 2},
    "lac": {"hidden": 8, "steps": 12, "batch_size": 4, "search_every": 3, "lr": 1e-3},
    "p_mil": {"epochs": 6, "batch_size": 3, "ramp_up": 3, "lr": 1e-3},
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
    "student": {"hidden": 8, "levels": 3, "rows": 24, "steps": 6, "rounds": 2, "batch_size": 4, "lr": 1e-3},
    "student_points": {"hidden": 8, "levels": 3, "upsampling": 2, "steps": 8, "batch_size": 3, "lr": 1e-3},
    "tspnet": {"steps": 12, "batch_size": 3, "update_every": 4, "update_threshold": 0.3, "lr": 1e-3},
}
NAMES = ["linear_mil", *(n for n, where in METHODS.items() if find_spec(where.split(":")[0]))]
DIM, CLASSES = 16, 3


def method_class(name: str) -> type[Method]:
    return LinearMIL if name == "linear_mil" else find_method(name)


def config(name: str, **changes: Any) -> MethodConfig:
    return method_class(name).Config(**{**SIZES.get(name, {}), **changes})


def subject(name: str, **changes: Any) -> Subject:
    """What `weaktal.testing` checks."""
    return Subject(method_class(name), config(name, **changes), DIM, CLASSES)


def data(name: str, videos: int = 8) -> TrainingData:
    """Toy videos with the supervision that the method asks for."""
    return subject(name).data(videos)


def build(name: str, **changes: Any) -> Method:
    return subject(name, **changes).build()
