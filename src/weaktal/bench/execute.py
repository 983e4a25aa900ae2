"""Runs of a bench as processes of their own, as many at a time as the machine takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from weaktal.bench.plan import Job, Plan
from weaktal.core import InputError, write_text
from weaktal.train.data import available_memory

RUN_MEMORY = 3 * 2**30  # what a run of ours needs, features of a benchmark data set included


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    slot: int
    begun: float


def parallel_runs(gpus: int) -> int:
    """How many runs this machine takes at once: by its cores and free memory, or by its GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return gpus or max(1, min(cores, available_memory() // RUN_MEMORY))


def execute(
    plan: Plan,
    out: Path,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Job]:
    """Do all runs of a plan that are not done yet.

    A run is done when its ``metrics.json`` is there. One that was cut short goes on from its last
    checkpoint. A run that fails leaves its output in ``output.txt`` and does not stop the others.
    Interrupted, the running ones are ended and can go on later.

    Args:
        plan: what to run.
        out: the bench's folder.
        jobs: runs at a time; by default what the machine takes.
        say: told a line when a run begins or ends.

    Returns:
        Runs that failed.
    """
    _remember(plan, out)
    waiting = [job for job in plan.jobs() if not (out / job.folder / "metrics.json").exists()]
    done = sum(1 for _ in plan.jobs()) - len(waiting)
    say(f"{done} runs are done, {len(waiting)} to do")
    gpus = _gpus(plan)
    most = jobs or parallel_runs(gpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = list(range(most))
    running: dict[Job, _Running] = {}
    failed: list[Job] = []
    try:
        while waiting or running:
            while waiting and free:
                job, slot = waiting.pop(0), free.pop(0)
                running[job] = _start(plan, job, out, slot, max(1, cores // most), gpus)
                say(f"{_name(job)} begins")
            time.sleep(0.05)
            for job, one in list(running.items()):
                code = one.process.poll()
                if code is None:
                    continue
                one.output.close()
                del running[job]
                free.append(one.slot)
                minutes = (time.monotonic() - one.begun) / 60
                if code == 0 and (out / job.folder / "metrics.json").exists():
                    say(f"{_name(job)} is done after {minutes:.1f} min")
                else:
                    failed.append(job)
                    tail = _last_line(out / job.folder / "output.txt")
                    say(f"{_name(job)} failed with code {code}: {tail}")
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.wait()
            one.output.close()
    return failed


def _start(plan: Plan, job: Job, out: Path, slot: int, threads: int, gpus: int) -> _Running:
    folder = out / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(slot % gpus)
    output = (folder / "output.txt").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "weaktal", *plan.command(job, out)],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    return _Running(process, output, slot, time.monotonic())


def _end_with_parent() -> None:
    """Ask Linux to end this process when the bench is killed, so that nothing trains on behind its back."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _remember(plan: Plan, out: Path) -> None:
    """Keep the plan with the bench; refuse another one in the same folder, except for more runs."""
    path = out / "plan.json"
    now = plan.model_dump(mode="json")
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for part in ("data", "methods"):
            for name in before[part].keys() & now[part].keys():
                if before[part][name] != now[part][name]:
                    raise InputError(
                        "this folder holds a bench with other settings",
                        file=path,
                        field=f"{part}.{name}",
                        found=before[part][name],
                        expected=now[part][name],
                        hint="name another folder, or give the entry another name",
                    )
        if (before["evaluate_every"], before["precision"]) != (now["evaluate_every"], now["precision"]):
            raise InputError("this folder holds a bench with other settings", file=path)
    write_text(path, json.dumps(now, indent=1) + "\n")


def _gpus(plan: Plan) -> int:
    if plan.device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.device_count()


def _name(job: Job) -> str:
    return f"{job.data} {job.method} seed {job.seed}"


def _last_line(path: Path) -> str:
    lines: Sequence[str] = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
