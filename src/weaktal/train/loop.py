"""The training loop."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from weaktal.core import InputError, write_text
from weaktal.methods.protocol import Method, Stage, TrainingData
from weaktal.nn.factored import FactoredLinear
from weaktal.nn.parallel import make_batch_norm_global, paused, sum_gradients, world_size
from weaktal.train import checkpoint
from weaktal.train.checkpoint import Position
from weaktal.train.progress import watch

if sys.platform != "win32":
    import fcntl

Evaluator = Callable[[Method], Mapping[str, float]]
ONE_SECOND = 1.0
MOST_PENDING = 256  # steps whose losses may wait at the device
SEEDED = 256  # steps whose seeds are made at once


class ProcessLostError(RuntimeError):
    """Another process of a job on several devices has ended, and this one cannot go on alone."""


class DivergedError(InputError):
    """A loss is not a finite number any more; the message names the step and the part."""


@dataclass
class Summary:
    """How a training run went.

    Attributes:
        steps: optimizer steps of this call (a resumed run does not count those before).
        seconds: where the time went: "events" (`before_step`), "draw", "step" (forward, backward, optimizer),
            "fetch" (waiting for losses; on a GPU its queued work shows here), "evaluate", "checkpoint".
        evaluations: one mapping per evaluation, oldest first, those before a resume included.
    """

    steps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    evaluations: list[dict[str, float]] = field(default_factory=list)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - begin

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        parts = sorted(self.seconds.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {s:.1f} s ({s / max(total, 1e-9):.0%})" for name, s in parts)
        return f"{self.steps} steps in {total:.1f} s: {shares}"


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


def seed_torch(seed: int, *key: int) -> None:
    """Seed every generator of torch from the run's seed and a place in the run."""
    _seed_generators(_seed_at(seed, *key))


def _seed_at(seed: int, *key: int) -> int:
    return int(np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=1)
def _step_seeds(seed: int, stage: int, block: int) -> list[int]:
    """Seeds of a block of steps. Made one by one, between steps, they take ten times as long as in a row."""
    return [_seed_at(seed, 2, stage, step) for step in range(block * SEEDED, (block + 1) * SEEDED)]


def _seed_generators(number: int) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        torch.manual_seed(number)
    else:  # which would note down where it was called from, for devices that might come: 2 ms a step
        torch.default_generator.manual_seed(number)


class _Log:
    """`log.jsonl`: a line per step; losses wait at the device until many are fetched at once."""

    def __init__(self, path: Path, writes: bool, fabric: Fabric) -> None:
        self.path, self.writes, self.fabric = path, writes, fabric
        self.pending: list[tuple[int, str, int, tuple[str, ...], Tensor]] = []
        self.fetched = time.monotonic()
        self.latest: dict[str, float] = {}

    def keep_until(self, total: int) -> list[dict[str, Any]]:
        """Drop the lines of step `total` and later, and a torn last line; the lines that stay."""
        lines = []
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    break
                # an evaluation after step n stands under n + 1
                if line["total_step"] < total + ("evaluation" in line):
                    lines.append(line)
        if self.writes:
            write_text(self.path, "".join(json.dumps(x) + "\n" for x in lines))
        return lines

    def add(self, total: int, stage: Stage, step: int, losses: Mapping[str, Tensor]) -> None:
        with torch.no_grad():  # a copy: what a method reports may be a buffer that the next step changes
            values = torch.stack([v.reshape(()) for v in losses.values()]).float()
        self.pending.append((total, stage.name, step, tuple(losses), values))

    def due(self) -> bool:
        return len(self.pending) >= MOST_PENDING or time.monotonic() - self.fetched > ONE_SECOND

    def fetch(self) -> None:
        """Bring the waiting losses to the host and write them; raises when one is not finite."""
        if not self.pending:
            return
        counts = [len(names) for _, _, _, names, _ in self.pending]
        values = torch.cat([v for *_, v in self.pending]).cpu().numpy()
        lines, place, wrong = [], 0, None
        for (total, stage, step, names, _), n in zip(self.pending, counts, strict=True):
            losses = dict(zip(names, values[place : place + n].tolist(), strict=True))
            place += n
            bad = [k for k, v in losses.items() if not np.isfinite(v)]
            if bad and wrong is None:
                wrong = (stage, step, bad, losses)
            lines.append({"total_step": total, "stage": stage, "step": step, **losses})
            self.latest = losses
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(x) + "\n" for x in lines)
            if self.fabric.loggers:
                for line in lines:
                    known = ("total_step", "stage", "step")
                    metrics = {f"{line['stage']}/{k}": v for k, v in line.items() if k not in known}
                    self.fabric.log_dict(metrics, step=line["total_step"])
        self.pending, self.fetched = [], time.monotonic()
        if wrong:
            stage, step, bad, losses = wrong
            raise DivergedError(
                "training diverged",
                field=f"stage {stage}, step {step}",
                found=", ".join(f"{k} = {losses[k]}" for k in bad),
                expected="finite losses",
                hint="lower the learning rate, or train in 32-true precision; the last checkpoint is intact",
            )

    def evaluation(self, total: int, stage: Stage, found: Mapping[str, float]) -> None:
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                line = {"total_step": total, "stage": stage.name, "evaluation": dict(found)}
                file.write(json.dumps(line) + "\n")
            for name, value in found.items() if self.fabric.loggers else ():
                self.fabric.log(f"evaluation/{name}", value, step=total)


def fit(
    method: Method,
    data: TrainingData,
    out: str | Path,
    *,
    seed: int | None = None,
    resume: bool = False,
    device: str = "auto",
    precision: str = "32-true",
    compile: bool = False,
    evaluate: Evaluator | None = None,
    evaluate_every: int = 1,
    choose: Literal["last", "best-on-test"] = "last",
    criterion: str = "average",
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: int | None = None,
    loggers: Sequence[Any] = (),
    progress: bool = True,
    fabric: Fabric | None = None,
) -> Summary:
    """Train a method, stage by stage.

    The run may be killed at any moment. Resumed, it gives the same bits on a CPU as one that was never
    stopped: every random number derives from the seed and the step.

    Args:
        method: of fresh weights; changed in place.
        data: features and weak labels.
        out: run folder; holds ``log.jsonl`` and ``checkpoints/{last,best}`` afterwards.
        seed: of torch's generators, by default `data.seed`.
        resume: continue from ``checkpoints/last`` where there is one.
        device, precision, loggers: see `launch`; ignored when `fabric` is given.
        compile: `torch.compile` of the training step.
        evaluate: called every `evaluate_every` epochs and at the end, with the method in evaluation mode, on
            the first process; its results are logged.
        choose: "best-on-test" also keeps the weights with the highest `criterion` in ``checkpoints/best``.
        criterion: a key of what `evaluate` returns.
        checkpoint_seconds, checkpoint_steps: how often ``checkpoints/last`` is replaced, by time and,
            optionally, by steps. Neither changes the result.
        progress: show progress on standard error.

    Raises:
        DivergedError: a loss is not finite.
        ProcessLostError: another process of the job has ended.
        InputError: the checkpoint to resume from belongs to another run or is damaged.
    """
    seed = data.seed if seed is None else seed
    out = Path(out)
    if fabric is None:
        fabric = launch(device, precision, loggers)
        fabric.launch()
    first = fabric.is_global_zero
    lock = _locked(out) if first else None
    last_path, best_path = out / "checkpoints/last", out / "checkpoints/best"
    summary = Summary()
    method.to(fabric.device)
    if world_size() > 1:
        make_batch_norm_global(method)
    stages = list(method.stages(data))

    state = None
    if resume:
        if first:
            checkpoint.recover(last_path)
        fabric.barrier()
        state = checkpoint.load(last_path)
    position, best = Position(), None
    if state is not None:
        try:
            state.into(method)
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(
                "this checkpoint belongs to another method", file=last_path, found=error
            ) from error
        method.to(fabric.device)
        position, best = state.position, state.best
    _same_everywhere(fabric, method)

    before = np.concatenate([[0], np.cumsum([s.steps for s in stages])])
    log = _Log(out / "log.jsonl", first, fabric)
    kept = log.keep_until(int(before[position.stage]) + position.step)
    summary.evaluations = [line["evaluation"] for line in kept if "evaluation" in line]
    training_step = torch.compile(method.training_step) if compile else method.training_step
    show = watch(progress and first)
    saved = time.monotonic()

    def save(path: Path, at: Position, optimizer: torch.optim.Optimizer | None) -> None:
        nonlocal saved
        with summary.timed("checkpoint"):
            if first:
                extra = _precision_state(fabric)
                meta = {
                    "stage_name": stages[at.stage].name if at.stage < len(stages) else "end",
                    "seed": seed,
                }
                checkpoint.save(path, method, optimizer, at, best=best, meta=meta, scaler=extra)
            fabric.barrier()
        saved = time.monotonic()

    try:
        for s in range(position.stage, len(stages)):
            stage = stages[s]
            start = position.step if position.stage == s else 0
            if not (position.stage == s and position.begun):
                seed_torch(seed, 1, s)
                with summary.timed("events"):
                    method.begin_stage(s, data)
                method.to(fabric.device)
                if world_size() > 1:
                    make_batch_norm_global(method)
                _same_everywhere(fabric, method)
            if not stage.steps:  # all that this stage does is to begin
                save(last_path, Position(s + 1), None)
                continue
            optimizer = method.optimizer(s)
            if getattr(fabric.strategy.precision, "scaler", None) is not None:
                _whole_gradients(method)
            if state is not None and position.stage == s and state.optimizer is not None:
                optimizer.load_state_dict(state.optimizer)
                _load_precision_state(fabric, state.scaler)
            step_optimizer: Any = fabric.setup_optimizers(optimizer)
            show.stage(stage.name, start, stage.steps)
            method.train()
            for step in range(start, stage.steps):
                total = int(before[s]) + step
                _seed_generators(_step_seeds(seed, s, step // SEEDED)[step % SEEDED])
                with summary.timed("events"):
                    method.before_step(s, step, data)
                with summary.timed("draw"):
                    batch = method.draw(s, step, data)
                    batch = batch.to(fabric.device)
                with summary.timed("step"):
                    with fabric.autocast():
                        losses = training_step(batch)
                    fabric.backward(losses["total"] / world_size())
                    sum_gradients(method)
                    step_optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    log.add(total, stage, step, losses)
                summary.steps += 1
                done = step + 1
                if log.due() or done == stage.steps:
                    with summary.timed("fetch"):
                        log.fetch()
                    show.advance(done, log.latest)
                at = Position(s, done, True) if done < stage.steps else Position(s + 1)
                keep = optimizer if at.stage == s else None
                evaluates = evaluate is not None and (
                    (total + 1 == before[-1]) or (done % (stage.epoch * evaluate_every) == 0)
                )
                if evaluates:
                    with summary.timed("fetch"):
                        log.fetch()
                    with summary.timed("evaluate"):
                        if first:
                            found = _evaluate(method, evaluate)
                            summary.evaluations.append(found)
                            log.evaluation(total + 1, stage, found)
                            text = ", ".join(f"{k} {v:.4g}" for k, v in found.items())
                            show.say(f"{stage.name} step {done}: {text}")
                        fabric.barrier()
                    if choose == "best-on-test":
                        better = first and (best is None or found[criterion] > best)
                        if fabric.broadcast(better):
                            best = found[criterion] if first else 0.0
                            save(best_path, at, keep)
                due = (
                    done == stage.steps
                    or (checkpoint_steps is not None and (total + 1) % checkpoint_steps == 0)
                    or time.monotonic() - saved > checkpoint_seconds
                )
                if fabric.broadcast(due) if fabric.world_size > 1 else due:
                    with summary.timed("fetch"):
                        log.fetch()
                    save(last_path, at, keep)
    except RuntimeError as error:
        if fabric.world_size > 1 and _lost(error):
            raise ProcessLostError(
                "another process of this job has ended; the last checkpoint is intact: start the job again "
                f"with --resume (process {fabric.global_rank} saw: {str(error).splitlines()[0]})"
            ) from error
        raise
    finally:
        show.close()
        if lock is not None:
            lock.close()
    method.eval()
    return summary


def _lost(error: RuntimeError) -> bool:
    """Whether a collective failed because its other side is gone."""
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return any(t in str(error) for t in ("Connection closed by peer", "Connection reset", "Broken pipe"))


def _locked(out: Path) -> IO[bytes] | None:
    """Hold a run folder as long as this process lives; the system lets go of it however the process ends."""
    if sys.platform == "win32":
        return None
    out.mkdir(parents=True, exist_ok=True)
    file = (out / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(
            "another process trains in this folder", file=out, hint="wait for it, or name another folder"
        ) from None
    return file


def _evaluate(method: Method, evaluate: Evaluator | None) -> dict[str, float]:
    assert evaluate is not None
    method.eval()
    with torch.no_grad(), paused():
        found = dict(evaluate(method))
    method.train()
    return found


def _whole_gradients(method: Method) -> None:
    """Gradient scaling of 16-bit training looks into ``grad``: no layer may keep its gradient elsewhere."""
    for module in method.modules():
        if isinstance(module, FactoredLinear):
            module.factored = False


def _precision_state(fabric: Fabric) -> dict[str, Any]:
    return dict(fabric.strategy.precision.state_dict())


def _load_precision_state(fabric: Fabric, state: Mapping[str, Any]) -> None:
    if state:
        fabric.strategy.precision.load_state_dict(dict(state))


def _same_everywhere(fabric: Fabric, method: Method) -> None:
    """Check that all processes hold the same weights: they build and resume them from the same sources."""
    if fabric.world_size == 1:
        return
    digest = hashlib.sha256()
    for value in method.state_dict().values():
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    mine = digest.hexdigest()
    if fabric.broadcast(mine) != mine:
        raise InputError(
            "the processes of this job hold different weights",
            hint="start all of them with the same command, seed and files",
        )
