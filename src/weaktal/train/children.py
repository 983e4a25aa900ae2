"""Commands of ours as processes of their own, as many at a time as the machine takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from weaktal.train.data import available_memory

RUN_MEMORY = 3 * 2**30  # what a run of ours needs, features of a benchmark data set included
GLANCE = 0.05  # seconds between looks at the processes


@dataclass(frozen=True)
class Child:
    """A command.

    Attributes:
        name: for people.
        command: the words after ``weaktal``.
        output: the file that what it says is appended to.
    """

    name: str
    command: tuple[str, ...]
    output: Path

    @property
    def last_line(self) -> str:
        """Of what it said."""
        if not self.output.exists():
            return "no output"
        lines = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus(device: str) -> int:
    """CUDA devices that a run with this ``--device`` may take."""
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count()


def at_once(gpus: int) -> int:
    """How many runs this machine takes at once: by its cores and free memory, or by its GPUs."""
    return gpus or max(1, min(cores(), available_memory() // RUN_MEMORY))


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    slot: int
    begun: float


def run_children(
    children: Sequence[Child],
    *,
    device: str,
    jobs: int | None = None,
    began: Callable[[Child], None] = lambda child: None,
    ended: Callable[[Child, int, float], None] = lambda child, code, seconds: None,
    glance: Callable[[], None] = lambda: None,
) -> None:
    """Run all of them; one that fails does not stop the others.

    Interrupted, those that run are asked to end, and waited for.

    Args:
        children: in this order.
        device: on which they run, as for ``--device``; of several GPUs they take one each, in turn.
        jobs: so many at a time, which share the cores; None: what the machine takes.
        began, ended: told as a process begins, and as it ends with its exit code after so many seconds.
        glance: called many times a second as they run.
    """
    devices = gpus(device)
    most = jobs or at_once(devices)
    waiting, running, free = list(children), list[tuple[Child, _Running]](), list(range(most))
    threads = max(1, cores() // most)
    try:
        while waiting or running:
            while waiting and free:
                child, slot = waiting.pop(0), free.pop(0)
                running.append((child, _start(child, slot, threads, devices)))
                began(child)
            time.sleep(GLANCE)
            glance()
            for child, one in list(running):
                code = one.process.poll()
                if code is None:
                    continue
                one.output.close()
                running.remove((child, one))
                free.append(one.slot)
                ended(child, code, time.monotonic() - one.begun)
    finally:
        for _, one in running:
            one.process.terminate()
        for _, one in running:
            one.process.wait()
            one.output.close()


def _start(child: Child, slot: int, threads: int, gpus: int) -> _Running:
    child.output.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % gpus)
    output = child.output.open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "weaktal", *child.command],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    return _Running(process, output, slot, time.monotonic())


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent is killed, so that nothing trains on behind its back."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
