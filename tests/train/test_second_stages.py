"""Methods that re-score a base locator's segments, on any base, through every command that works on a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.bench.toy import toy_dataset
from weaktal import Run, fuse_runs, localize_run, report_runs, train_run
from weaktal.app.work import plan
from weaktal.bench.execute import execute
from weaktal.bench.plan import Job, Plan
from weaktal.bench.search import Range, search
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.dataset import Dataset
from weaktal.formats import load_detections
from weaktal.train.config import split_settings
from weaktal.train.predict import predictor_of
from weaktal.train.refits import Folds, refit_fold

FEW: dict[str, Any] = {"epochs": 2, "batch_size": 2, "lr": 1e-3}
ASM = {"num_steps": 0, "epochs": 2, "snippets": 16, "heads": 2, "batch_size": 2}
SAL = {"hidden": 4, "segments": 16, "steps": 3, "batch_size": 2}
LAC = {"hidden": 4, "steps": 4, "search_every": 2, "batch_size": 2}
FIRST = {"heads": 2, "feedforward": 4, "steps": 3, "batch_size": 2}
# method, base where it is not the method's own choice, settings of the base
RUNS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "hr_pro": ("hr_pro", None, FIRST),
    "hr_pro_on_lac": ("hr_pro", "lac", LAC),
    "p_mil": ("p_mil", None, ASM),
    "p_mil_on_sal": ("p_mil", "sal", SAL),
}


def settings(name: str) -> dict[str, Any]:
    _, base, of_base = RUNS[name]
    other = {} if base is None else {"base": base}
    return {**FEW, **other, **{f"base.{key}": value for key, value in of_base.items()}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set with clicks, and a run of everything in `RUNS`."""
    folder = tmp_path_factory.mktemp("second")
    data = toy_dataset(folder)
    assert main(["data", "simulate-points", str(folder / "gt.json"), str(folder / "points.txt")]) == 0
    data.write_text(data.read_text() + "points: points.txt\n")
    for name, (method, _, _) in RUNS.items():
        train_run(method, data, folder / name, settings=settings(name), device="cpu")
        localize_run(folder / name)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_run_predicts_what_it_localizes(trained: Path, name: str) -> None:
    """The base first, then the method: in one video alone as in all of them."""
    run = Run.open(trained / name)
    assert Run.open(trained / name / "base").config.method == (RUNS[name][1] or type(run.build()).base)
    dataset, found = Dataset.load(trained / "data.yaml"), load_detections(trained / name / "detections.json")
    assert {found.names[v] for v in found.video} == set(dataset.subset("test").videos)
    video = found.names[0]
    alone, scores = predictor_of(run)(video, np.array(dataset.store.load(video)), dataset.store.axis(video))
    assert scores is not None  # those of the base
    np.testing.assert_allclose(np.sort(alone.score), np.sort(found.of(video).score), atol=1e-4)


@pytest.mark.parametrize("name", ["hr_pro", "p_mil_on_sal"])
def test_a_refit_holds_videos_out_of_its_base_too(trained: Path, name: str) -> None:
    run, data = Run.open(trained / name), Dataset.load(trained / "data.yaml")
    plan = Folds.of(run, data, 2)
    folder = refit_fold(run, 1, folds=2, device="cpu")
    for ours, its in ((folder, run.folder), (folder / "base", run.folder / "base")):
        assert Run.open(ours).config.config == Run.open(its).config.config
        assert Run.open(ours).config.method == Run.open(its).config.method
        assert Run.open(ours).config.data["left_out"] == plan.held_out(1)
        assert not (ours / "checkpoints").exists()
    segments = load_detections(folder / "base/proposals.json", data.classes)
    assert np.bincount(segments.video, minlength=len(segments.names)).min() > 0
    assert sorted(segments.names) == sorted(data.annotations.videos if data.annotations else ())
    found = load_detections(folder / "found.json", data.classes)
    assert {found.names[v] for v in found.video} >= set(plan.held_out(1))


def test_runs_are_fused_and_reported(trained: Path, tmp_path: Path) -> None:
    runs = [trained / name for name in RUNS]
    fused = fuse_runs(runs, tmp_path / "fused")
    assert len(localize_run(fused).detections) > 0
    report_runs([fused.folder, *runs], tmp_path / "page.html", data=trained / "data.yaml")
    page = (tmp_path / "page.html").read_text()
    assert "detections of 4 runs, fused" in page
    assert all(f"{method} seed 0" in page for method in ("hr_pro", "p_mil"))
    with pytest.raises(InputError, match="no snippet scores"):
        fuse_runs(runs[:2], tmp_path / "scores", by="scores")


def test_a_bench_trains_them_on_the_bases_of_its_plan(trained: Path, tmp_path: Path) -> None:
    methods = {name: {"method": RUNS[name][0], "set": settings(name)} for name in ("hr_pro", "p_mil_on_sal")}
    values = {"data": {"toy": str(trained / "data.yaml")}, "methods": methods, "device": "cpu"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(values))
    made = Plan.load(tmp_path / "plan.yaml")
    assert execute(made, tmp_path / "out", say=lambda text: None) == []
    for name in methods:
        folder = tmp_path / "out" / Job("toy", name, 0).folder
        assert json.loads((folder / "metrics.json").read_text())["average_mAP"] >= 0
        ours, theirs = (load_detections(f / "detections.json") for f in (folder, trained / name))
        np.testing.assert_allclose(ours.score, theirs.score, atol=1e-6)
    methods["hr_pro"]["set"] = {"base": "lac", "base.hiden": 4}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="did you mean 'hidden'"):
        Plan.load(tmp_path / "plan.yaml")


@pytest.mark.parametrize("name", ["hr_pro", "p_mil_on_sal"])
def test_a_search_looks_at_the_proposals_of_a_base(trained: Path, tmp_path: Path, name: str) -> None:
    method, options = RUNS[name][0], {"settings": FEW, "share": 0.5, "trials": 1, "device": "cpu"}
    space, data = {"lr": Range(low=1e-4, high=1e-3, log=True)}, trained / "data.yaml"
    proposals = trained / name / "base/proposals.json"
    best = search(data, method, space, tmp_path / "out", proposals=proposals, **options)
    assert 1e-4 <= best["lr"] <= 1e-3
    with pytest.raises(InputError, match="there are none"):
        search(data, method, space, tmp_path / "none", **options)


def test_the_app_knows_the_stages_of_the_base_that_was_asked_for() -> None:
    few = {**FEW, "base": "lac", "base.steps": 7}
    stages = plan("hr_pro", "own", few, 20, 20, 16, ("a", "b"))
    assert [(s["folder"], s["steps"]) for s in stages] == [("base", 7), (".", 20)]
    # with videos in which nothing occurs a schedule that counts steps is longer
    stages = plan("hr_pro", "own", few, 20, 14, 16, ("a", "b"))
    assert [(s["folder"], s["steps"]) for s in stages] == [("base", 10), (".", 20)]
    assert split_settings({"base.steps": 3, "lr": 1.0}) == ({"lr": 1.0}, None, {"steps": 3})
