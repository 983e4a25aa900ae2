"""Checkpoints: folders that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from weaktal.core import InputError
from weaktal.methods.protocol import Method


@dataclass(frozen=True)
class Position:
    """Where training stands: `step` is the next step of `stage`; `begun` if the stage has been set up."""

    stage: int = 0
    step: int = 0
    begun: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        weights: the method's state dict.
        optimizer: the optimizer's state dict, or None between stages.
        training_state: `Method.training_state`.
        position: where training stands.
        best: criterion of the best evaluation so far, or None.
        scaler: state of the loss scaling of 16-bit training; empty otherwise.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    training_state: dict[str, Any]
    position: Position
    best: float | None
    scaler: dict[str, Any]

    def into(self, method: Method) -> None:
        """Load into a method of the same configuration; its training state first, as it may shape modules."""
        method.load_training_state(self.training_state)
        method.load_state_dict(self.weights)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _siblings(path: Path) -> tuple[Path, Path, Path]:
    return tuple(path.with_name(f".{path.name}.{kind}") for kind in ("partial", "new", "old"))  # type: ignore


def recover(path: Path) -> None:
    """Finish or undo a replacement that was cut short; afterwards `path` is whole or absent."""
    partial, new, old = _siblings(path)
    if not path.exists():
        if new.exists():
            new.rename(path)
        elif old.exists():
            old.rename(path)
    for leftover in (partial, new, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def _plain(value: Any, where: str) -> None:
    """Raise unless a value can be loaded again without running code."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _plain(key, where)
            _plain(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _plain(item, f"{where}[{i}]")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise TypeError(f"{where} holds a {type(value).__name__}; tensors and plain values only")


def save(
    path: Path,
    method: Method,
    optimizer: torch.optim.Optimizer | None,
    position: Position,
    *,
    best: float | None = None,
    scaler: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Replace the checkpoint folder `path`.

    The new folder is written and synced beside it and takes its place by renaming; killed at any moment,
    `load` finds the old or the new one.
    """
    recover(path)
    partial, new, old = _siblings(path)
    partial.mkdir(parents=True)
    weights = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in method.state_dict().items()}
    save_file(weights, partial / "weights.safetensors")
    state = {
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "training_state": method.training_state(),
        "position": asdict(position),
        "best": best,
        "scaler": dict(scaler or {}),
    }
    _plain(state, "state")
    torch.save(state, partial / "state.pt")
    text = json.dumps({"method": method.name, **asdict(position), **(meta or {})}, indent=2)
    (partial / "meta.json").write_text(text + "\n", encoding="utf-8")
    for file in partial.iterdir():
        file.chmod(0o666 & ~_umask())  # safetensors makes its file private
        _fsync(file)
    _fsync(partial)
    partial.rename(new)
    if path.exists():
        path.rename(old)
    new.rename(path)
    _fsync(path.parent)
    if old.exists():
        shutil.rmtree(old)


def load(path: Path) -> Checkpoint | None:
    """The checkpoint in a folder, on the CPU; None if there is none.

    Raises:
        InputError: the folder is damaged.
    """
    recover(path)
    if not path.exists():
        return None
    try:
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        return Checkpoint(
            load_file(path / "weights.safetensors"),
            state["optimizer"],
            state["training_state"],
            Position(**state["position"]),
            state["best"],
            state["scaler"],
        )
    except Exception as error:
        raise InputError("this checkpoint cannot be read", file=path, found=error) from error
