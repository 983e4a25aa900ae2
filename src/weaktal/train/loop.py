"""The training loop."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from weaktal.core import InputError
from weaktal.methods.protocol import Method, Stage, TrainingData
from weaktal.nn.parallel import paused, world_size
from weaktal.train import checkpoint
from weaktal.train.checkpoint import Checkpoint, Position
from weaktal.train.log import DivergedError, Log
from weaktal.train.parallel import make_batch_norm_global, sum_gradients
from weaktal.train.processes import (
    ProcessLostError,
    folder_held,
    job_size,
    launch,
    losses_noticed,
    same_everywhere,
)
from weaktal.train.progress import Watch, watch
from weaktal.train.seeds import seed_stage, seed_step, seed_torch

__all__ = ["DivergedError", "ProcessLostError", "Summary", "fit", "job_size", "launch", "seed_torch"]

Evaluator = Callable[[Method], Mapping[str, float]]
Losses = Callable[[Any], dict[str, Tensor]]
# which checkpoint is a run's result: the last one; of evaluations as training goes the one with the highest
# mAP on the test subset; or the one whose class scores fit the known labels of the training videos best
Rule = Literal["last", "best-on-test", "weak"]


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


@dataclass(frozen=True)
class Habits:
    """What is done beside training, and when; see `fit`. None of it changes the training."""

    evaluate: Evaluator | None
    evaluate_every: int
    choose: Rule
    criterion: str
    until: float
    checkpoint_seconds: float
    checkpoint_steps: int | None


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
    choose: Rule = "last",
    criterion: str = "average",
    until: float = 1.0,
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
        out: run folder; holds ``log.jsonl`` and ``checkpoints/{last,previous,best}`` afterwards.
        seed: of torch's generators, by default `data.seed`.
        resume: continue from ``checkpoints/last`` where there is one.
        device, precision, loggers: see `launch`; ignored when `fabric` is given.
        compile: `torch.compile` of the training step.
        evaluate: called every `evaluate_every` epochs and at the end, with the method in evaluation mode, on
            the first process; its results are logged.
        choose: other rules than "last" also keep the weights with the highest `criterion` in
            ``checkpoints/best``.
        criterion: a key of what `evaluate` returns.
        until: share of all steps, above 0, after which to stop; resumed, training goes on from there.
        checkpoint_seconds, checkpoint_steps: how often ``checkpoints/last`` is replaced, by time and,
            optionally, by steps. Neither changes the result.
        progress: show progress on standard error.

    Raises:
        DivergedError: a loss is not finite.
        ProcessLostError: another process of the job has ended.
        InputError: the checkpoint to resume from belongs to another run or is damaged.
    """
    out, seed = Path(out), data.seed if seed is None else seed
    if fabric is None:
        fabric = launch(device, precision, loggers)
        fabric.launch()
    habits = Habits(evaluate, evaluate_every, choose, criterion, until, checkpoint_seconds, checkpoint_steps)
    with ExitStack() as held:
        if fabric.is_global_zero:
            held.enter_context(folder_held(out))
        show = held.enter_context(closing(watch(progress and fabric.is_global_zero)))
        training = _Training(method, data, out, fabric, seed, habits, show)
        training.set_up(resume=resume, compile=compile)
        with losses_noticed(fabric):
            training.run()
    method.eval()
    return training.summary


def compiled(method: Method) -> Losses:
    """The training step as `torch.compile` makes it: sizes that change from batch to batch become symbols."""
    step: Losses = torch.compile(method.training_step)
    return step


class _Training:
    """A training and where it stands.

    Attributes:
        at: the next step.
        best: the highest criterion so far.
        optimizer: of the stage that goes on; None between stages.
        saved: when a checkpoint was written last.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        out: Path,
        fabric: Fabric,
        seed: int,
        habits: Habits,
        show: Watch,
    ) -> None:
        self.method, self.data, self.fabric, self.seed = method, data, fabric, seed
        self.habits, self.show = habits, show
        self.last_path, self.best_path = out / "checkpoints/last", out / "checkpoints/best"
        self.log = Log(out / "log.jsonl", fabric)
        self.summary = Summary()
        self.at = Position()
        self.best: float | None = None
        self.optimizer: torch.optim.Optimizer | None = None

    def run(self) -> None:
        """From where it stands to the end, or to where it is to stop."""
        for s in range(self.at.stage, len(self.stages)):
            stage = self.stages[s]
            if self.total >= self.stop and stage.steps:
                return
            self.begin(s)
            for step in range(self.at.step, stage.steps):
                self.step(s, step)
                if self.log.due() or not self.at.begun:
                    self.report(step + 1)
                if self.evaluates(stage, step + 1):
                    self.evaluate(stage, step + 1)
                stops = self.total >= self.stop
                if self.saves() or stops:
                    self.save(self.last_path)
                if stops and self.at.begun:
                    return
            if not stage.steps:  # all that this stage does is to begin
                self.at = Position(s + 1)
                self.save(self.last_path)

    def set_up(self, *, resume: bool, compile: bool) -> None:
        """Weights to the device, those of the last checkpoint if there is one, and the log as it was then."""
        self.place()
        self.stages = list(self.method.stages(self.data))
        self.stop = math.ceil(self.habits.until * sum(stage.steps for stage in self.stages))
        self.resumed = self.restore() if resume else None
        if self.resumed is not None:
            self.at, self.best = self.resumed.position, self.resumed.best
        same_everywhere(self.fabric, self.method)
        self.summary.evaluations = self.log.keep_until(self.total)
        self.losses: Losses = compiled(self.method) if compile else self.method.training_step
        self.saved = time.monotonic()

    def place(self) -> None:
        """The method to the device, and as one of several processes needs it."""
        self.method.to(self.fabric.device)
        if world_size() > 1:
            make_batch_norm_global(self.method)

    def restore(self) -> Checkpoint | None:
        """The last checkpoint, loaded into the method."""
        if self.fabric.is_global_zero:
            checkpoint.recover(self.last_path)  # a training that was done saves no more
        self.fabric.barrier()
        found = checkpoint.load(self.last_path)
        if found is None:
            return None
        found.into(self.method)
        at, ends = found.position, [stage.steps for stage in self.stages]
        if at.stage > len(ends) or ((at.step or at.begun) and at.step >= [*ends, 0][at.stage]):
            raise InputError(
                "this checkpoint stands where this training has no step",
                file=self.last_path,
                found=f"stage {at.stage + 1}, step {at.step}",
                expected=f"stages of {ends} steps",
            )
        self.method.to(self.fabric.device)
        return found

    @property
    def total(self) -> int:
        """Steps of all stages that are done."""
        return sum(stage.steps for stage in self.stages[: self.at.stage]) + self.at.step

    def begin(self, s: int) -> None:
        """A stage: its networks and labels, unless it had begun already, and its optimizer."""
        if not self.at.begun:
            seed_stage(self.seed, s)
            with self.summary.timed("events"):
                self.method.begin_stage(s, self.data)
            self.place()
            same_everywhere(self.fabric, self.method)
        stage = self.stages[s]
        if not stage.steps:
            return
        self.optimizer = self.method.optimizer(s)
        if self.at.begun and self.resumed is not None and self.resumed.optimizer is not None:
            self.resumed.into_optimizer(self.optimizer)
            if self.resumed.scaler:
                self.fabric.strategy.precision.load_state_dict(self.resumed.scaler)
        self.stepped: Any = self.fabric.setup_optimizers(self.optimizer)  # steps as the precision asks for
        self.show.stage(stage.name, self.at.step, stage.steps)
        self.method.train()

    def step(self, s: int, step: int) -> None:
        """One step: what happens before it, a batch, its losses, their gradients, new weights."""
        method, stage, timed = self.method, self.stages[s], self.summary.timed
        seed_step(self.seed, s, step)
        with timed("events"):
            method.before_step(s, step, self.data)
        with timed("draw"):
            batch = method.draw(s, step, self.data).to(self.fabric.device)
        with timed("step"):
            with self.fabric.autocast():
                losses = self.losses(batch)
            self.fabric.backward(losses["total"] / world_size())
            sum_gradients(method)
            self.stepped.step()
            assert self.optimizer is not None
            self.optimizer.zero_grad(set_to_none=True)
            self.log.add(self.total, stage.name, step, losses)
        self.summary.steps += 1
        if step + 1 < stage.steps:
            self.at = Position(s, step + 1, True)
        else:
            self.at, self.optimizer = Position(s + 1), None

    def report(self, done: int) -> None:
        """Losses to the log and to whoever watches."""
        with self.summary.timed("fetch"):
            self.log.fetch()
        self.show.advance(done, self.log.latest)

    def evaluates(self, stage: Stage, done: int) -> bool:
        """Whether to evaluate now: every so many epochs, and at the end."""
        if self.habits.evaluate is None:
            return False
        return self.at.stage == len(self.stages) or done % (stage.epoch * self.habits.evaluate_every) == 0

    def evaluate(self, stage: Stage, done: int) -> None:
        """Measure on the first process, and keep the weights if they are the best so far."""
        assert self.habits.evaluate is not None
        found: dict[str, float] = {}
        with self.summary.timed("fetch"):
            self.log.fetch()
        with self.summary.timed("evaluate"):
            if self.fabric.is_global_zero:
                self.method.eval()
                with torch.no_grad(), paused():
                    found = dict(self.habits.evaluate(self.method))
                self.method.train()
                self.summary.evaluations.append(found)
                self.log.evaluation(self.total, stage.name, found)
                text = ", ".join(f"{k} {v:.4g}" for k, v in found.items())
                self.show.say(f"{stage.name} step {done}: {text}")
            self.fabric.barrier()
        if self.habits.choose != "last":
            first = self.fabric.is_global_zero
            value = self.fabric.broadcast(found[self.habits.criterion] if first else 0.0)
            if self.best is None or value > self.best:
                self.best = value
                self.save(self.best_path)

    def saves(self) -> bool:
        """Whether to write a checkpoint now: the first process's clock counts."""
        every = self.habits.checkpoint_steps
        due = (
            not self.at.begun
            or (every is not None and self.total % every == 0)
            or time.monotonic() - self.saved > self.habits.checkpoint_seconds
        )
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save(self, path: Path) -> None:
        """A checkpoint, written by the first process."""
        with self.summary.timed("fetch"):
            self.log.fetch()
        with self.summary.timed("checkpoint"):
            if self.fabric.is_global_zero:
                at_end = self.at.stage == len(self.stages)
                checkpoint.save(
                    path,
                    self.method,
                    self.optimizer,
                    self.at,
                    best=self.best,
                    meta={
                        "stage_name": "end" if at_end else self.stages[self.at.stage].name,
                        "seed": self.seed,
                    },
                    scaler=self.fabric.strategy.precision.state_dict(),
                )
            self.fabric.barrier()
        self.saved = time.monotonic()
