"""Loggers: what `log.jsonl` holds arrives, below the run directory. Those not installed are skipped."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal.core import InputError
from weaktal.testing import toy_data
from weaktal.train import fit
from weaktal.train.log import logged_course
from weaktal.train.loggers import make_loggers
from weaktal.train.loop import launch, seed_torch


def train(out: Path, logger: str) -> list[float]:
    """Train with a logger; the total loss of every step, from `log.jsonl`."""
    fabric = launch("cpu", loggers=make_loggers([logger], out))
    fabric.launch()
    seed_torch(0)
    data = toy_data()
    method = LinearMIL(LinearMILConfig(), dim=data.bank.dim, classes=data.weak.classes)
    fit(method, data, out, fabric=fabric, progress=False)
    return [json.loads(line)["total"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    totals = train(tmp_path / "run", "tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = [t for t in events.Tags()["scalars"] if t.endswith("/total")]
    logged = sorted((e.step, e.value) for t in tags for e in events.Scalars(t))
    assert [v for _, v in logged] == pytest.approx(totals)


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("pytorch_lightning")
    monkeypatch.chdir(tmp_path)
    totals = train(Path("run"), "mlflow")
    with sqlite3.connect("run/mlflow.db") as database:
        rows = database.execute("select value from metrics where key like '%/total' order by step")
        assert [v for (v,) in rows] == pytest.approx(totals)
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "nothing is written elsewhere"


def test_wandb_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    pytest.importorskip("pytorch_lightning")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    train(tmp_path / "run", "wandb")
    wandb.finish()
    (made,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"total" in made.read_bytes()


def test_an_unknown_logger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown logger.*tensorboard"):
        make_loggers(["tensorbord"], tmp_path)


def test_the_course_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert len(logged_course(path).step) == 0
    lines = [
        {"total_step": 0, "stage": "a", "step": 0, "total": 2.0, "part": 1.0},
        {"total_step": 1, "stage": "a", "evaluation": {"average": 7.5, "likelihood": -1.0}},
        {"total_step": 1, "stage": "b", "step": 0, "total": float("inf")},
        {"total_step": 2, "stage": "b", "evaluation": {"likelihood": -0.5}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"total_')
    course = logged_course(path)
    assert (course.step.tolist(), course.total.tolist()) == ([0, 1], [2.0, float("inf")])
    assert (course.evaluated.tolist(), course.average.tolist()) == ([1], [7.5])
    assert course.diverged == 1
