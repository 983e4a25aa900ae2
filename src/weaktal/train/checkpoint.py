"""Checkpoints: folders that are there whole or not at all, whenever the process is killed.

A folder holds ``weights.safetensors``, ``state.pt`` (optimizer, the method's state, where training stands)
and ``meta.json`` (of which method and classes it is, and the SHA-256 of all three). Of the checkpoint
``last`` the one before is kept as ``previous``, for the case that a disk loses a part of a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from weaktal.core import CoverageWarning, InputError
from weaktal.methods.protocol import Method
from weaktal.train.log import DivergedError

WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "meta.json"


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
        path: the folder.
        meta: what ``meta.json`` says. The first versions wrote neither "classes" nor "sha256".
        weights: the method's state dict.
        optimizer: the optimizer's state dict, or None between stages.
        training_state: `Method.training_state`.
        position: where training stands.
        best: criterion of the best evaluation so far, or None.
        scaler: state of the loss scaling of 16-bit training; empty otherwise.
    """

    path: Path
    meta: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    training_state: dict[str, Any]
    position: Position
    best: float | None
    scaler: dict[str, Any]

    def into(self, method: Method) -> None:
        """Load into a method of the same configuration; its training state first, as it may shape modules.

        Raises:
            InputError: the weights are of another method, configuration, type of number, or of other classes.
        """
        for field, expected in (("method", method.name), ("classes", list(method.classes))):
            if self.meta.get(field, expected) != expected:
                raise InputError(
                    "this checkpoint belongs to another method or to other classes",
                    file=self.path / META,
                    field=field,
                    found=_short(self.meta[field]),
                    expected=_short(expected),
                    hint="was config.yaml changed after training?",
                )
        try:
            method.load_training_state(self.training_state)
            for name, value in method.state_dict().items():
                if name in self.weights and self.weights[name].dtype != value.dtype:
                    raise ValueError(f"{name} is {self.weights[name].dtype}, expected {value.dtype}")
            method.load_state_dict(self.weights)
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                "this checkpoint belongs to another method or configuration",
                file=self.path,
                found=_short(error),
            ) from error

    def into_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Load the optimizer's state.

        Raises:
            InputError: it is of another optimizer.
        """
        try:
            optimizer.load_state_dict(self.optimizer or {})
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                "this checkpoint is of another optimizer", file=self.path, found=_short(error)
            ) from error


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
    """A folder being written; one that is whole and about to take its place; the one that it replaced."""
    replaced = "previous" if _keeps_previous(path) else f".{path.name}.old"
    return (
        path.with_name(f".{path.name}.partial"),
        path.with_name(f".{path.name}.new"),
        path.with_name(replaced),
    )


def _keeps_previous(path: Path) -> bool:
    return path.name == "last"


def recover(path: Path) -> None:
    """Finish or undo a replacement that was cut short; afterwards `path` is whole or absent.

    For the process that saves; others `load`, which changes nothing.
    """
    partial, new, old = _siblings(path)
    if not path.exists() and new.exists():
        new.rename(path)
    for leftover in (partial, new) if _keeps_previous(path) else (partial, new, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def _plain(value: Any, where: str) -> Any:
    """A value as it is written; raises unless it can be loaded again without running code.

    A pickle tells whether two equal strings are one object, which those of a resumed run no longer are. Here
    they are, so that equal states are equal bytes.
    """
    if isinstance(value, Mapping):
        return {_plain(k, where): _plain(item, f"{where}.{k}") for k, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if type(value) is str:
        return sys.intern(value)
    if value is None or isinstance(value, Tensor) or type(value) in (bool, int, float):
        return value
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
    `load` finds the old or the new one. One process at a time may save.

    Raises:
        DivergedError: a weight is not finite; nothing is written.
    """
    weights = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in method.state_dict().items()}
    if wrong := _not_finite(weights):
        raise DivergedError(
            "training diverged",
            field=f"stage {position.stage}, step {position.step}",
            found=f"weights that are not finite: {wrong}",
            hint="lower the learning rate, or train in 32-true; the last checkpoint is intact",
        )
    recover(path)
    partial, new, old = _siblings(path)
    partial.mkdir(parents=True)
    save_file(weights, partial / WEIGHTS)
    state = {
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "training_state": method.training_state(),
        "position": asdict(position),
        "best": best,
        "scaler": dict(scaler or {}),
    }
    torch.save(_plain(state, "state"), partial / STATE)
    about = {"method": method.name, **asdict(position), **(meta or {}), "classes": list(method.classes)}
    about["sha256"] = {file: _sha256(partial / file) for file in (WEIGHTS, STATE)} | {META: _digest(about)}
    (partial / META).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    for file in partial.iterdir():
        file.chmod(0o666 & ~_umask())  # safetensors makes its file private
        _fsync(file)
    _fsync(partial)
    partial.rename(new)
    if path.exists():
        if old.exists():
            shutil.rmtree(old)
        path.rename(old)
    new.rename(path)
    _fsync(path.parent)
    if old.exists() and not _keeps_previous(path):
        shutil.rmtree(old)


def load(path: Path) -> Checkpoint | None:
    """The checkpoint in a folder, on the CPU; None if there is none.

    Changes nothing, so that a run may be read while it is trained, and where it may not be written. In place
    of a ``last`` that is damaged comes ``previous``, with a warning.

    Raises:
        InputError: the folder is damaged, and there is none before it.
    """
    _, new, old = _siblings(path)
    # where saving was cut between its two renamings, the folder has another name
    folder = next((f for f in (path, new) if f.exists()), None)
    if folder is None:
        return None
    seen = folder.stat().st_ino
    try:
        return _read(folder)
    except InputError as damage:
        if path.exists() and path.stat().st_ino != seen:  # it was replaced while we read
            return load(path)
        if not (_keeps_previous(path) and old.exists()):
            raise
        try:
            found = _read(old)
        except InputError:
            raise damage from None
        warnings.warn(
            f"{damage}; the one before it is taken: {old}, stage "
            f"{found.meta.get('stage_name', found.position.stage)}, step {found.position.step}",
            CoverageWarning,
            stacklevel=2,
        )
        return found


def _read(folder: Path) -> Checkpoint:
    """A checkpoint folder.

    Raises:
        InputError: it is damaged.
    """
    try:
        meta = _checked_meta(json.loads((folder / META).read_bytes()), folder)
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        weights = load_file(folder / WEIGHTS)
        if wrong := _not_finite(weights):
            raise ValueError(f"weights that are not finite: {wrong}")
        return Checkpoint(folder, meta, weights, **_checked_state(state))
    except Exception as error:  # whatever a damaged file makes torch or json say
        raise InputError("this checkpoint cannot be read", file=folder, found=_short(error)) from error


_WITHOUT_CHECKSUMS = {"method", "stage", "step", "begun", "stage_name", "seed", "source"}


def _checked_meta(meta: Any, folder: Path) -> dict[str, Any]:
    """What ``meta.json`` holds, if the folder is as its checksums say.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(meta, dict):
        raise ValueError(f"{META} holds a {type(meta).__name__}")
    if meta.keys() <= _WITHOUT_CHECKSUMS:  # of a version before they were written
        return meta
    about = {k: v for k, v in meta.items() if k != "sha256"}
    digests = {file: _sha256(folder / file) for file in (WEIGHTS, STATE)} | {META: _digest(about)}
    for file, digest in digests.items():
        if meta["sha256"][file] != digest:
            raise ValueError(f"{file} is not what was written: its checksum is another one")
    return meta


def _checked_state(state: Any) -> dict[str, Any]:
    """The fields of ``state.pt``, of the types that `Checkpoint` names."""
    kinds = {
        "optimizer": (dict, type(None)),
        "training_state": (dict,),
        "position": (dict,),
        "best": (float, int, type(None)),
        "scaler": (dict,),
    }
    if not isinstance(state, dict):
        raise ValueError(f"{STATE} holds a {type(state).__name__}")
    for field, kind in kinds.items():
        if not isinstance(state.get(field, NotImplemented), kind):
            raise ValueError(f"{STATE}: {field} is {type(state.get(field)).__name__}")
    where = state["position"]
    whole = where.keys() == {"stage", "step", "begun"} and type(where["begun"]) is bool
    if not (whole and all(type(where[k]) is int and where[k] >= 0 for k in ("stage", "step"))):
        raise ValueError(f"{STATE}: position is {where}")
    return {**{k: state[k] for k in kinds}, "position": Position(**where)}


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """Names of tensors that hold NaN or infinity."""
    return ", ".join(k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all())


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
