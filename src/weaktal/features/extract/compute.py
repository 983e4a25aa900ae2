"""What backbones with networks share: device, precision, threads that work ahead."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from weaktal.core import InputError

T = TypeVar("T")
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


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made ahead in a thread, at most `depth` of them waiting.

    An error of the maker is raised at its place in the order. Leaving early stops the maker.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
        except BaseException as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
