"""What backbones with networks share: device, precision, checksums."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from weaktal.core import InputError

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """A torch device; "auto" is a GPU where there is one."""
    try:
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise InputError(
            "unknown device", found=repr(name), expected="auto, cpu, cuda, cuda:1, ..."
        ) from None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision: "32" (none), "bf16" or "16"."""
    if precision not in PRECISIONS:
        raise InputError("unknown precision", found=repr(precision), expected=" or ".join(PRECISIONS))
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@cache
def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
