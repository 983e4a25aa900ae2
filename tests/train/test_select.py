"""TL: what chooses without test labels; the checkpoint rule and the stop that it needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.toy import TINY, toy_dataset
from tests.train.linear_mil import LinearMIL, LinearMILConfig
from weaktal import train_run
from weaktal.core import InputError, SnippetScores, TimeAxis, WeakLabels
from weaktal.core.annotations import WeakVideo
from weaktal.testing import toy_data
from weaktal.train import checkpoint, fit
from weaktal.train.measure import weak_choice
from weaktal.train.select import label_likelihood, training_likelihood


def of_video(name: str, scores: list[float]) -> SnippetScores:
    video = np.array(scores, np.float32)
    return SnippetScores(name, np.zeros((1, len(scores))), np.zeros(1), video, TimeAxis.uniform(1, 1.0))


def test_it_is_the_mean_log_at_the_known_labels_alone() -> None:
    weak = WeakLabels(("a", "b", "c"), (WeakVideo("v", (0, 2)), WeakVideo("w", (1,))))
    scores = [of_video("v", [0.5, 0.9, 0.25]), of_video("w", [0.9, 0.0, 0.9])]
    expected = (np.log(0.5) + np.log(0.25) + np.log(1e-8)) / 3  # no score counts as less than 1e-8
    assert label_likelihood(scores, weak) == pytest.approx(expected)
    with pytest.raises(InputError, match="nothing to choose by"):
        label_likelihood([of_video("v", [0.5])], WeakLabels(("a",), (WeakVideo("v", ()),)))


def test_a_trained_method_fits_better_and_its_mode_stays() -> None:
    data = toy_data()
    torch.manual_seed(0)
    method = LinearMIL(LinearMILConfig(steps=60), dim=data.bank.dim, classes=data.weak.classes).train()
    before = training_likelihood(method, data)
    assert method.training
    assert training_likelihood(method, data) == before  # evaluation mode: no dropout
    method.eval()
    assert training_likelihood(method, data) == before
    assert not method.training


def test_training_stops_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def train(out: Path, **options: object) -> int:
        data = toy_data()
        torch.manual_seed(0)
        method = LinearMIL(LinearMILConfig(), dim=data.bank.dim, classes=data.weak.classes)
        return fit(method, data, out, device="cpu", progress=False, **options).steps  # type: ignore[arg-type]

    assert train(tmp_path / "whole") == 18  # stages of 12 and 6 steps
    for share, steps in ((0.3, 6), (0.3, 0), (12 / 18, 6), (0.7, 1), (1.0, 5)):
        assert train(tmp_path / "cut", until=share, resume=True) == steps
    one, other = (checkpoint.load(tmp_path / x / "checkpoints/last") for x in ("whole", "cut"))
    assert one is not None
    assert other is not None
    assert all(torch.equal(one.weights[k], other.weights[k]) for k in one.weights)
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


def test_the_weak_rule_keeps_the_epoch_of_the_highest_likelihood(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path)
    settings = {**TINY, "epochs": 6, "learning_rate": 0.05}
    run = train_run("asm_loc", data, tmp_path / "run", settings=settings, choose="weak", evaluate_every=1).run
    lines = [json.loads(x) for x in (run.folder / "log.jsonl").read_text().splitlines()]
    found = [x["evaluation"] for x in lines if "evaluation" in x]
    assert len(found) == 6
    assert all(x.keys() == {"likelihood"} for x in found)  # the test subset is not looked at
    best = checkpoint.load(run.checkpoint())
    assert best is not None
    assert best.path.name == "best"
    assert best.best == max(x["likelihood"] for x in found)
    assert not (run.folder / "metrics.json").exists()


def test_both_choices_are_told_where_test_and_labels_are_looked_at(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path)
    options = {"settings": TINY, "choose": "best-on-test", "evaluate_every": 1}
    trained = train_run("asm_loc", data, tmp_path / "run", **options)  # type: ignore[arg-type]
    assert trained.metrics is not None
    assert trained.metrics["weak"] == weak_choice(trained.run.folder / "log.jsonl")
    assert trained.metrics["weak"]["average"] <= 100 * trained.metrics["average_mAP"] + 1e-9


def test_a_log_tells_the_choice_by_labels(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert weak_choice(log) == {}
    each = [{"average": 3.0, "likelihood": -2.0}, {"average": 1.0, "likelihood": -1.0}, {"average": 9.0}]
    lines = [{"total_step": i, "stage": "base", "evaluation": e} for i, e in enumerate(each)]
    log.write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert weak_choice(log) == {"average": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choose": "weak"}, "weak chooses among evaluations"),
        ({"until": 0.0}, "not a share of the schedule"),
        ({"until": 1.5}, "not a share of the schedule"),
    ],
)
def test_what_cannot_be_chosen_is_said(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_run("asm_loc", toy_dataset(tmp_path), tmp_path / "run", settings=TINY, **options)  # type: ignore[arg-type]
