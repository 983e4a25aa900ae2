"""What every method must do, tested over all methods that exist."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.methods import tiny
from weaktal import testing
from weaktal.methods.protocol import Method, TrainingData
from weaktal.train import checkpoint, fit

KILLS = int(os.environ.get("WEAKTAL_KILLS", "3"))

# children are forked from a process that has everything imported
FORK = mp.get_context("forkserver")
FORK.set_forkserver_preload(["tests.methods.jobs"])


@pytest.fixture(params=tiny.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(name: str, check: Callable[[testing.Subject, Path], None], tmp_path: Path) -> None:
    check(tiny.subject(name), tmp_path)


def test_mixed_precision_trains_to_nearly_the_same_losses(name: str, tmp_path: Path) -> None:
    """bf16 has 8 bits of mantissa: the first losses agree to about one in a hundred, term by term.

    In the median of three seeds: among snippets of nearly equal score, rounding may decide which is mined.
    """
    differences = []
    for seed in range(3):
        logs = []
        for precision in ("32-true", "bf16-mixed"):
            out = tmp_path / f"{precision}-{seed}"
            options: dict[str, Any] = {"device": "cpu", "precision": precision, "progress": False}
            fit(tiny.build(name), tiny.data(name), out, seed=seed, **options)
            logs.append([json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()])
        assert [x["total"] for x in logs[0]] != [x["total"] for x in logs[1]]
        # a term that is next to nothing counts against the total
        size = {k: max(abs(v), abs(logs[0][0]["total"]) / 100) for k, v in terms(logs[0][0]).items()}
        differences.append({k: abs(v - logs[0][0][k]) / size[k] for k, v in terms(logs[1][0]).items()})
    median = {k: float(np.median([d[k] for d in differences])) for k in differences[0]}
    assert max(median.values()) < 0.03, median


def terms(line: dict[str, Any]) -> dict[str, float]:
    """The losses in a line of the log."""
    return {k: v for k, v in line.items() if k not in ("total_step", "stage", "step")}


def test_killed_at_random_moments_a_run_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    """SIGKILL hits one run several times, in any step, event or write; the seed makes failures repeatable."""
    rng = np.random.default_rng(len(name))
    method, data = tiny.build(name), tiny.data(name)
    steps = sum(s.steps for s in method.stages(data))
    run_job(name, tmp_path / "whole")
    out = tmp_path / "killed"
    for kill in range(KILLS):
        seen = FORK.Value("i", 0)
        process = FORK.Process(target=jobs().train, args=(name, out, seen))
        process.start()
        found = checkpoint.load(out / "checkpoints/last") if kill else None
        left = steps - (resumed_at(method, data, found) if found else 0)
        wanted, begin = int(rng.integers(0, max(left, 1))), time.monotonic()
        while seen.value <= wanted and process.is_alive():
            assert time.monotonic() - begin < 120
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        assert process.pid is not None
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == 0:  # it reached the end first: start again, as a run that is not done
            for file in sorted((out / "checkpoints/last").iterdir()):
                file.unlink()
            (out / "checkpoints/last").rmdir()
    run_job(name, out)
    for file in ("weights.safetensors", "state.pt"):
        whole, killed = (tmp_path / r / "checkpoints/last" / file for r in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()
    assert (tmp_path / "whole/log.jsonl").read_text() == (out / "log.jsonl").read_text()


def test_two_processes_train_like_one(name: str, tmp_path: Path) -> None:
    """Same total batch, no dropout, float64: what differs is the order of sums, and its growth over steps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one, two = tmp_path / "one", tmp_path / "two"
    group = [
        FORK.Process(target=jobs().train_in_double, args=(name, out, rank, processes, port))
        for out, rank, processes in ((one, 0, 1), (two, 0, 2), (two, 1, 2))
    ]
    for process in group:
        process.start()
    while any(p.is_alive() for p in group) and not any(p.exitcode for p in group):
        time.sleep(0.01)
    for process in group:
        process.kill() if any(p.exitcode for p in group) else process.join()
    assert [p.exitcode for p in group] == [0, 0, 0]
    first, second = (
        [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()] for out in (one, two)
    )
    assert len(first) == len(second) > 3
    for a, b in zip(first, second, strict=True):
        assert (a.pop("stage"), a.keys()) == (b.pop("stage"), b.keys())
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)  # losses are logged in float32
    a, b = (load_file(out / "checkpoints/last/weights.safetensors") for out in (one, two))
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-5, atol=1e-6)


def jobs():  # type: ignore[no-untyped-def]
    from tests.methods import jobs

    return jobs


def run_job(name: str, out: Path) -> None:
    process = FORK.Process(target=jobs().train, args=(name, out))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def resumed_at(method: Method, data: TrainingData, found: checkpoint.Checkpoint) -> int:
    return sum(s.steps for s in list(method.stages(data))[: found.position.stage]) + found.position.step
