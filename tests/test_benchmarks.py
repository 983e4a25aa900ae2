"""Benchmarks run: at a small size, without a look at their numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.toy import toy_dataset
from weaktal.methods import METHODS

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(FOLDER / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    ).stdout.splitlines()


def test_training_on_a_gpu_is_measured_for_every_method() -> None:
    """Eager; `tests/train/test_compile.py` compiles every method."""
    lines = run("gpu.py", "--cpu", "--size", "small", "--ways", "eager", "--seconds", "0.01")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert {r[0].split(",")[0] for r in rows} == set(METHODS)
    assert {(r[1], r[2]) for r in rows} == {("eager", "32-true"), ("eager", "bf16-mixed")}
    assert all(float(r[3]) > 0 for r in rows)


def test_false_alarms_of_calibrated_runs_are_measured(tmp_path: Path) -> None:
    arguments = (str(tmp_path / "out"), "--methods", "sal", "--seeds", "1", "--folds", "2")
    lines = run("false_alarms.py", *arguments, "--data", f"toy={toy_dataset(tmp_path)}")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| toy")]
    # four videos can promise no less
    assert [(r[1], r[3]) for r in rows] == [("sal", "20 % of videos"), ("sal", "20 % a class")]
    again = run("false_alarms.py", *arguments, "--table")
    assert again == lines[-len(again) :]
