"""What the contract tests run in processes of their own."""

from __future__ import annotations

import os
import time
from dataclasses import fields, replace
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from tests.methods import tiny
from weaktal.methods.protocol import Batch, TrainingData
from weaktal.train import fit

for _name in tiny.NAMES:
    tiny.method_class(_name)


def train(name: str, out: Path, seen: Synchronized[int] | None = None) -> None:
    """Train a tiny method, or go on with it; a checkpoint every other step; `seen` counts steps."""
    torch.set_num_threads(1)
    method = tiny.build(name)
    draw = method.draw

    def counted(stage: int, step: int, data: TrainingData) -> Batch:
        if seen is not None:
            seen.value += 1
        return draw(stage, step, data)

    method.draw = counted  # type: ignore[method-assign]
    fit(method, tiny.data(name), out, resume=True, device="cpu", progress=False, checkpoint_steps=2)


def train_in_double(name: str, out: Path, rank: int, processes: int, port: int) -> None:
    """One process of a data-parallel training without dropout, in float64; with `processes` 1, all of it."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if processes > 1:  # what torchrun sets
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "TORCHELASTIC_RUN_ID": "contract",
        }
    no_dropout = {"dropout": 0.0} if "dropout" in tiny.method_class(name).Config.model_fields else {}
    method = tiny.build(name, **no_dropout).double()
    for module in method.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    data = tiny.data(name)
    bank = replace(data.bank, data=data.bank.data.double())
    draw, optimizer = method.draw, method.optimizer

    def steady(stage: int) -> torch.optim.Optimizer:
        """Adam scales a gradient that is zero but for rounding to a full step; with this eps not."""
        made = optimizer(stage)
        for group in made.param_groups:
            group["eps"] = 1e-6
        return made

    method.optimizer = steady  # type: ignore[method-assign]
    method.draw = lambda *where: in_double(draw(*where))  # type: ignore[method-assign]
    fit(method, replace(data, bank=bank), out, device="cpu", progress=False)


def in_double(batch: Batch) -> Batch:
    """A batch with its float32 tensors (labels, targets) as float64."""
    found = {f.name: getattr(batch, f.name) for f in fields(batch)}
    single = {k: v for k, v in found.items() if isinstance(v, torch.Tensor) and v.dtype == torch.float32}
    return replace(batch, **{k: v.double() for k, v in single.items()})


def train_in_job(out: Path, environment: dict[str, str], seconds: float) -> None:
    """One process of a job that trains the test method, a checkpoint after every step."""
    from weaktal.nn.parallel import world_size
    from weaktal.train import log, loop

    torch.set_num_threads(1)
    os.environ |= environment
    log.MOST_PENDING = 1
    method = tiny.build("linear_mil")
    draw = method.draw

    def slow(stage: int, step: int, data: TrainingData) -> Batch:
        time.sleep(seconds)
        with (out / "sizes.txt").open("a") as file:
            file.write(f"{world_size()}\n")
        return draw(stage, step, data)

    method.draw = slow  # type: ignore[method-assign]
    out.mkdir(exist_ok=True)
    try:
        fit(
            method,
            tiny.data("linear_mil"),
            out,
            resume=True,
            device="cpu",
            progress=False,
            checkpoint_steps=1,
        )
    except loop.ProcessLostError as error:
        (out / f"error{environment['RANK']}.txt").write_text(str(error))
        os._exit(1)
