"""The processes of a job: how many, on which device, whether they agree, and what it means when one ends."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from weaktal.core import InputError

if sys.platform != "win32":
    import fcntl


class ProcessLostError(RuntimeError):
    """Another process of a job on several devices has ended, and this one cannot go on alone."""


def launch(device: str = "auto", precision: str = "32-true", loggers: Sequence[Any] = ()) -> Fabric:
    """Fabric for this process; under torchrun or Slurm one of several.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "32-true", "bf16-mixed", "16-mixed", "64-true", ...; see Lightning Fabric.

    Raises:
        InputError: no such device or precision.
    """
    kind, _, index = device.partition(":")
    everyone, local = job_size()
    several = everyone > 1
    try:
        return Fabric(
            accelerator="auto" if kind == "auto" else kind,
            devices=[int(index)] if index else local,
            num_nodes=max(1, everyone // local) if several else 1,
            strategy="ddp" if several else "auto",
            precision=precision,  # type: ignore[arg-type]
            loggers=list(loggers),
        )
    except Exception as error:
        raise InputError(
            "cannot train on this device with this precision", found=f"{device}, {precision}: {error}"
        ) from error


def job_size() -> tuple[int, int]:
    """Processes of this job, and of them on this machine: from torchrun's environment or srun's."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    # set by srun for its tasks; a plain command in a batch script or a shell of Slurm is one process
    if "SLURM_STEP_NUM_TASKS" in os.environ and "SLURM_PROCID" in os.environ:
        tasks, nodes = (int(os.environ[f"SLURM_STEP_NUM_{x}"]) for x in ("TASKS", "NODES"))
        return tasks, tasks // nodes
    return 1, 1


@contextmanager
def losses_noticed(fabric: Fabric) -> Iterator[None]:
    """Tell a lost process from other errors.

    Raises:
        ProcessLostError: in place of what a collective says when its other side is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size > 1 and _lost(error):
            raise ProcessLostError(
                "another process of this job has ended; the last checkpoint is intact: start the job again "
                f"with --resume (process {fabric.global_rank} saw: {str(error).splitlines()[0]})"
            ) from error
        raise


def _lost(error: RuntimeError) -> bool:
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return any(t in str(error) for t in ("Connection closed by peer", "Connection reset", "Broken pipe"))


@contextmanager
def folder_held(out: Path) -> Iterator[None]:
    """Hold a run folder as long as this process lives; the system lets go of it however the process ends.

    Raises:
        InputError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                "another process trains in this folder", file=out, hint="wait for it, or name another folder"
            ) from None
        yield


def same_everywhere(fabric: Fabric, module: nn.Module) -> None:
    """Check that all processes hold the same weights: they build and resume them from the same sources.

    Raises:
        InputError: they do not.
    """
    if fabric.world_size == 1:
        return
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    mine = digest.hexdigest()
    if fabric.broadcast(mine) != mine:
        raise InputError(
            "the processes of this job hold different weights",
            hint="start all of them with the same command, seed and files",
        )
