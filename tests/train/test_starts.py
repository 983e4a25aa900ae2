"""Several starts of a method, as real processes: the pick, what stays, going on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.bench.toy import TINY, toy_dataset
from weaktal import Run, localize_run, train_run, train_starts
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.dataset import Dataset
from weaktal.train import training_data
from weaktal.train.select import training_likelihood

SETTINGS = {**TINY, "epochs": 4, "learning_rate": 1e-3}
OPTIONS = {"settings": SETTINGS, "device": "cpu", "jobs": 2}


def weights(run: Path) -> bytes:
    return (run / "checkpoints/last/weights.safetensors").read_bytes()


def test_the_best_start_becomes_the_run_and_the_rest_can_be_kept(tmp_path: Path) -> None:
    data, out = toy_dataset(tmp_path), tmp_path / "run"
    found = train_starts("asm_loc", data, out, starts=3, seed=4, keep=True, evaluate=True, **OPTIONS)  # type: ignore[arg-type]
    assert [s.seed for s in found.starts] == [4, 5, 6]
    # a start is what `train` makes of its seed, and TL is that of its weights
    alone = train_run("asm_loc", data, tmp_path / "alone", settings=SETTINGS, seed=5, device="cpu").run
    assert weights(out / "starts/seed5") == weights(alone.folder)
    weak = training_data(Dataset.load(data), "video")
    assert found.starts[1].likelihood == training_likelihood(alone.method(), weak)
    best = max(found.starts, key=lambda s: s.likelihood or 0)
    assert found.pick == best.seed == Run.open(out).config.seed
    assert weights(out) == weights(best.folder)
    assert (out / "log.jsonl").read_bytes() == (best.folder / "log.jsonl").read_bytes()
    # the log is no link: going on with one must not change the other
    assert not os.path.samefile(out / "log.jsonl", best.folder / "log.jsonl")
    assert len(localize_run(out).detections)
    assert found.metrics is not None
    assert json.loads((out / "metrics.json").read_text())["average_mAP"] == found.metrics["average_mAP"]
    assert f"{best.seed:4}  {best.likelihood:.4f}  this is the run" in str(found)
    assert len(found.runs) == 3
    with pytest.raises(InputError, match="a run in this folder already"):
        train_starts("asm_loc", data, out, starts=3, seed=4, **OPTIONS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="other seeds"):
        train_starts("asm_loc", data, out, starts=2, resume=True, **OPTIONS)  # type: ignore[arg-type]
    other = OPTIONS | {"settings": SETTINGS | {"epochs": 5}}
    with pytest.raises(InputError, match="another setting"):
        train_starts("asm_loc", data, out, starts=3, seed=4, resume=True, **other)  # type: ignore[arg-type]
    # cut short while the pick became the run: the rest is done again
    (out / "config.yaml").unlink()
    shutil.rmtree(out / "checkpoints")
    (out / ".checkpoints.partial").mkdir()
    again = train_starts("asm_loc", data, out, starts=3, seed=4, resume=True, **OPTIONS)  # type: ignore[arg-type]
    assert weights(out) == weights(alone.folder if found.pick == 5 else out)
    assert again.pick == found.pick
    assert again.runs == ()
    assert "--keep" in str(again)
    assert len(localize_run(out).detections)


def test_only_the_best_goes_on_after_an_early_choice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = toy_dataset(tmp_path), tmp_path / "run"
    words = [f"--set={k}={v}" for k, v in SETTINGS.items()]
    words += ["--starts", "2", "--early", "0.5", "--keep", "--device", "cpu", "--out", str(out)]
    assert main(["train", "asm_loc", "--data", str(data), *words]) == 0
    said = capfd.readouterr()
    assert "after 50 % of the schedule" in said.out
    steps = {p.name: len((p / "log.jsonl").read_text().splitlines()) for p in (out / "starts").iterdir()}
    pick = json.loads((out / "starts.json").read_text())["pick"]
    assert steps[f"seed{pick}"] == 8
    assert steps[f"seed{1 - pick}"] == 4
    alone = train_run("asm_loc", data, tmp_path / "alone", settings=SETTINGS, seed=pick, device="cpu").run
    assert weights(out) == weights(alone.folder)


def test_a_start_that_fails_is_told_and_others_go_on(tmp_path: Path) -> None:
    data, out = toy_dataset(tmp_path), tmp_path / "run"
    damaged = out / "starts/seed1/checkpoints/last"
    damaged.mkdir(parents=True)
    (damaged / "meta.json").write_text("{}")
    found = train_starts("asm_loc", data, out, starts=2, resume=True, **OPTIONS)  # type: ignore[arg-type]
    assert found.pick == 0
    assert found.starts[1].likelihood is None
    assert "checkpoint cannot be read" in str(found)
    assert json.loads((out / "starts.json").read_text())["starts"][1]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["asm_loc", "--early", "0.3"], "--early goes with --starts"),
        (["asm_loc", "--starts", "0"], "whole number from 1"),
        (["asm_loc", "--starts", "2", "--early", "1"], "below 1"),
        (["tspnet", "--starts", "2"], "start lac several times"),
        (["asm_loc", "--starts", "2", "--until", "0.5"], "--until"),
        (["asm_loc", "--starts", "2", "--set", "epoch=3"], "did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_started_is_one_line(
    tmp_path: Path, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = toy_dataset(tmp_path)
    assert main(["train", *words, "--data", str(data), "--out", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
