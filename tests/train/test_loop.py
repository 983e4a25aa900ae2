"""The loop: exact resume after any kind of stop, checkpoints that survive a kill, divergence, choosing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch._dynamo.utils import counters

from tests.methods import tiny
from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal.core import InputError
from weaktal.methods.protocol import Batch, Method
from weaktal.testing import toy_data
from weaktal.train import DivergedError, checkpoint, fit
from weaktal.train.checkpoint import Position
from weaktal.train.loop import seed_torch


def fresh() -> LinearMIL:
    data = toy_data()
    seed_torch(0)
    return LinearMIL(LinearMILConfig(), dim=data.bank.dim, classes=data.weak.classes)


def train(out: Path, method: Method | None = None, **options: object) -> Method:
    method = method or fresh()
    fit(method, toy_data(), out, device="cpu", progress=False, **options)  # type: ignore[arg-type]
    return method


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "checkpoints/last").iterdir())}


class Stop(Exception):
    """Ends training in the middle of a step."""


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    seed_torch(0)
    method = LinearMIL(LinearMILConfig(steps=60, refine_steps=0, dropout=0), dim=6, classes="abc")
    fit(method, toy_data(), tmp_path, device="cpu", progress=False)
    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(60))
    assert lines[-1]["mil"] < 0.7 * lines[0]["mil"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_is_the_same_training(tmp_path: Path) -> None:
    counters.clear()
    losses = []
    for compiled in (False, True):
        seed_torch(0)
        method = LinearMIL(LinearMILConfig(steps=6, refine_steps=0, dropout=0), dim=6, classes="abc")
        out = tmp_path / str(compiled)
        fit(method, toy_data(), out, device="cpu", progress=False, compile=compiled)
        losses.append([json.loads(x)["total"] for x in (out / "log.jsonl").read_text().splitlines()])
        assert bool(counters["stats"]["unique_graphs"]) == compiled
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_seed_of_a_step_depends_on_its_place_alone(tmp_path: Path) -> None:
    method = LinearMIL(LinearMILConfig(steps=258, refine_steps=3), dim=6, classes="abc")
    inner, found = method.training_step, []

    def step(batch: Batch) -> dict[str, torch.Tensor]:
        found.append(torch.initial_seed())
        return inner(batch)

    method.training_step = step  # type: ignore[method-assign]
    fit(method, toy_data(), tmp_path, seed=7, device="cpu", progress=False)
    places = [(0, n) for n in range(258)] + [(1, n) for n in range(3)]
    assert len(set(found)) == len(places)
    for seed, place in zip(found, places, strict=True):
        seed_torch(7, 2, *place)
        assert seed == torch.initial_seed()


def test_the_log_has_what_a_step_reported_though_the_next_step_changes_it(tmp_path: Path) -> None:
    method = LinearMIL(LinearMILConfig(steps=5, refine_steps=0), dim=6, classes="abc")
    inner, count = method.training_step, torch.zeros(())

    def step(batch: Batch) -> dict[str, torch.Tensor]:
        count.add_(1)
        return {**inner(batch), "count": count}

    method.training_step = step  # type: ignore[method-assign]
    fit(method, toy_data(), tmp_path, device="cpu", progress=False)
    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["count"] for x in lines] == [1, 2, 3, 4, 5]


def test_orders_are_permutations_that_nobody_else_can_change() -> None:
    data = toy_data()
    first = data.order(1, 0)
    assert sorted(first) == list(range(len(data)))
    assert first.tolist() == data.rng(1, 0).permutation(len(data)).tolist()
    assert first.tolist() != data.order(1, 1).tolist()
    expected = first.tolist()
    first[:] = 0
    assert data.order(1, 0).tolist() == expected


@pytest.mark.parametrize("at", [0, 1, 5, 11, 12, 13, 17])
def test_resume_gives_the_same_bits(tmp_path: Path, at: int) -> None:
    """Stopped in the step `at`, before and after a change of stages; checkpoints every third step."""
    train(tmp_path / "whole", checkpoint_steps=3)

    stopped = fresh()
    inner, count = stopped.training_step, iter(range(10**6))

    def step(batch: Batch) -> dict[str, torch.Tensor]:
        if next(count) == at:
            raise Stop
        return inner(batch)

    stopped.training_step = step  # type: ignore[method-assign]
    with pytest.raises(Stop):
        train(tmp_path / "cut", stopped, checkpoint_steps=3)
    train(tmp_path / "cut", resume=True, checkpoint_steps=3)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert (tmp_path / "cut/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()


def test_when_checkpoints_are_written_changes_nothing(tmp_path: Path) -> None:
    train(tmp_path / "a", checkpoint_steps=1, evaluate=lambda m: {"average": float(m.norm.training)})
    train(tmp_path / "b")
    assert files(tmp_path / "a")["weights.safetensors"] == files(tmp_path / "b")["weights.safetensors"]


def test_killed_runs_resume_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at three moments of a process that does nothing but train and write checkpoints."""
    train(tmp_path / "whole")
    for moment in (0, 5, 14):
        out = tmp_path / f"killed{moment}"
        process = subprocess.Popen([sys.executable, "-m", "tests.train.kill_me", str(out)])
        log = out / "log.jsonl"
        begin = time.monotonic()
        while not (log.exists() and log.read_text().count("\n") > moment) and process.poll() is None:
            assert time.monotonic() - begin < 60
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        train(out, resume=True)
        assert files(out)["weights.safetensors"] == files(tmp_path / "whole")["weights.safetensors"]
        assert (out / "log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    class Diverging(LinearMIL):
        def training_step(self, batch: Batch) -> dict[str, torch.Tensor]:
            losses = super().training_step(batch)
            seen = int(self.norm.num_batches_tracked)
            return losses | ({"pair": losses["pair"] / 0, "total": losses["total"] / 0} if seen == 8 else {})

    method = Diverging(LinearMILConfig(), dim=6, classes=("a", "b", "c"))
    with pytest.raises(DivergedError, match=r"stage base, step 7: training diverged: found .*pair = inf"):
        train(tmp_path, method, checkpoint_steps=4)
    found = checkpoint.load(tmp_path / "checkpoints/last")
    assert found is not None
    assert found.position == Position(0, 4, True)


def test_best_on_test_keeps_the_best_weights_through_a_resume(tmp_path: Path) -> None:
    def evaluator(values: list[float]):  # type: ignore[no-untyped-def]
        given = iter(values)
        return lambda method: {"average": next(given)}

    values = [0.1, 0.5, 0.3, 0.4, 0.2, 0.5]  # 3 steps an epoch, 18 steps
    options = {"choose": "best-on-test", "evaluate_every": 1}
    train(tmp_path, evaluate=evaluator(values), **options)
    best = checkpoint.load(tmp_path / "checkpoints/best")
    assert best is not None
    assert best.position == Position(0, 6, True)
    assert best.best == 0.5
    # resumed after the end: nothing is trained, and what was evaluated is still known
    summary = fit(fresh(), toy_data(), tmp_path, resume=True, device="cpu", progress=False)
    assert summary.steps == 0
    assert [x["average"] for x in summary.evaluations] == values


def test_evaluation_sees_evaluation_mode(tmp_path: Path) -> None:
    modes = []
    train(tmp_path, evaluate=lambda m: modes.append(m.training) or {"x": 0.0}, evaluate_every=2)
    assert modes == [False] * 3


def test_an_unknown_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tpu2000"):
        fit(fresh(), toy_data(), tmp_path, device="tpu2000", progress=False)


@pytest.mark.parametrize("name", ["linear_mil", "sal"])
def test_scaled_losses_of_half_precision_train_and_resume(tmp_path: Path, name: str) -> None:
    """What a GPU does with 16-mixed: the scaler looks into every gradient, and its state is resumed."""

    def train(out: Path, stop: int = -1) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
        fabric.launch()
        method = tiny.build(name)
        inner, count = method.training_step, iter(range(10**6))

        def step(batch: Batch) -> dict[str, torch.Tensor]:
            if next(count) == stop:
                raise Stop
            return inner(batch)

        method.training_step = step  # type: ignore[method-assign]
        data, resume = tiny.data(name), stop < 0
        fit(method, data, out, fabric=fabric, progress=False, resume=resume, checkpoint_steps=2)

    train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "cut", stop=5)
    found = checkpoint.load(tmp_path / "cut/checkpoints/last")
    assert found is not None
    assert found.scaler["scale"] == 2.0**10
    train(tmp_path / "cut")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    first = [json.loads(x)["total"] for x in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    fit(tiny.build(name), tiny.data(name), tmp_path / "float32", device="cpu", progress=False)
    exact = [json.loads(x)["total"] for x in (tmp_path / "float32/log.jsonl").read_text().splitlines()]
    assert first[0] == pytest.approx(exact[0], rel=0.02)
    assert first == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b'{"total_step": "0"}',
        b'{"total_step": true}',
        b'{"stage": "base"}',
        b'{"total_step": 1, "evaluation": 3}',
        b'{"total_step": 1, "evaluation": {"average": "high"}}',
        b"[" * 100_000,
        b"9" * 10_000,
        b"\xff\xfe",
        b"\x00",
    ],
)
def test_a_log_of_another_shape_is_named(tmp_path: Path, line: bytes) -> None:
    train(tmp_path)
    log, last = tmp_path / "log.jsonl", files(tmp_path)
    good = log.read_bytes()
    log.write_bytes(good.replace(b"\n", b"\n" + line + b"\n", 1))
    with pytest.raises(InputError, match=r"log.jsonl: line 2: this is no line of a training's log") as said:
        train(tmp_path, resume=True)
    assert len(str(said.value)) < 700
    assert files(tmp_path) == last
    log.write_bytes(good + line)  # a torn last line
    train(tmp_path, resume=True)
    assert log.read_bytes() == good
