"""Fused runs, through the functions and commands that work on any run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.bench.toy import TINY, toy_dataset
from weaktal import Run, evaluate_detections, fuse_runs, localize_run, report_runs, train_run
from weaktal.cli import main
from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.dataset import Dataset
from weaktal.formats import load_detections
from weaktal.localize.fusion import Scale, fuse_detections, fuse_scores
from weaktal.train.localize import Found
from weaktal.train.predict import predictor_of

BASE = {**TINY, "epochs": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, two runs of ASM-Loc's base network, and one of SAL."""
    folder = tmp_path_factory.mktemp("fuse")
    data = toy_dataset(folder)
    for seed in (0, 1):
        train_run("asm_loc", data, folder / f"asm{seed}", settings=BASE, seed=seed, device="cpu")
    sal = {"hidden": 4, "segments": 16, "steps": 3, "batch_size": 2}
    train_run("sal", data, folder / "sal", settings=sal, device="cpu")
    return folder


def test_runs_of_any_methods_are_one_run_for_every_command(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs, out, data = (
        [trained / n for n in ("asm0", "sal", "asm1")],
        tmp_path / "fused",
        trained / "data.yaml",
    )
    assert main(["fuse", *map(str, runs), "--out", str(out), "--device", "cpu"]) == 0
    assert main(["localize", str(out), "--device", "cpu"]) == 0
    found = load_detections(out / "detections.json", Dataset.load(data).classes)
    each = [localize_run(r, out=tmp_path / f"{r.name}.json").detections for r in runs]
    ranges = [
        Scale.of(localize_run(r, subset="train", out=tmp_path / f"{r.name}-train.json").detections)
        for r in runs
    ]
    expected = fuse_detections(each, scales=ranges)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(np.sort(found.score), np.sort(expected.score), atol=1e-6)
    assert evaluate_detections(found, data).result.average >= 0
    localize_run(runs[0])
    report_runs([out, runs[0]], tmp_path / "page.html", data=data)
    page = (tmp_path / "page.html").read_text()
    assert "detections of 3 runs, fused" in page
    assert "sal seed 0" in page
    # a video by itself gets what it got among the others: the ranges of scores are fixed
    dataset = Dataset.load(data)
    name = next(iter(dataset.subset("test").videos))
    alone, _ = predictor_of(Run.open(out))(name, np.array(dataset.store.load(name)), dataset.store.axis(name))
    np.testing.assert_allclose(np.sort(alone.score), np.sort(expected.of(name).score), atol=1e-4)
    assert "have to stay where they are" in capfd.readouterr().err


def test_scores_are_averaged_and_localized_again(trained: Path, tmp_path: Path) -> None:
    runs = [trained / "asm0", trained / "asm1"]
    fused = fuse_runs(runs, tmp_path / "fused", by="scores")
    found = localize_run(fused)
    each = [localize_run(r, out=tmp_path / "x.json").scores for r in runs]
    for mine, its in zip(found.scores, fuse_scores(each), strict=True):
        np.testing.assert_allclose(mine.cas, its.cas, atol=1e-6)
    again = localize_run(fused, from_scores=True, out=tmp_path / "again.json").detections
    assert np.array_equal(again.score, found.detections.score)
    fewer = localize_run(fused, settings={"nms_threshold": 0.05}, out=tmp_path / "y.json").detections
    assert len(fewer) < len(again)
    dataset = Dataset.load(trained / "data.yaml")
    name = next(iter(dataset.subset("test").videos))
    alone, curve = predictor_of(fused)(name, np.array(dataset.store.load(name)), dataset.store.axis(name))
    assert curve is not None
    np.testing.assert_allclose(np.sort(alone.score), np.sort(found.detections.of(name).score), atol=1e-4)


@pytest.mark.parametrize("odd_is_sure", [False, True])
def test_a_start_that_collapsed_is_left_out_and_said(
    trained: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    odd_is_sure: bool,
) -> None:
    """The toy's trainings share too few segments to tell, so what they find in training is given here."""
    start, classes = 10.0 * np.arange(60), Run.open(trained / "asm0").config.classes
    for seed in (1, 2):
        shutil.copytree(trained / f"asm{seed - 1}", tmp_path / f"seed{seed}")

    def found_by(run: Run, *_: object, **__: object) -> Found:
        odd = run.folder.name in ("seed2", "sal")
        none = np.zeros(60, np.int64)
        score = np.linspace(0, 1, 60) * (-1 if odd else 1)
        zeros = np.zeros((4, 2), np.float32)
        sure = np.full(2, 0.8 if odd == odd_is_sure else 0.4, np.float32)
        scores = [
            SnippetScores(v, zeros, zeros[:, 0], sure, TimeAxis.uniform(4, 2.0)) for v in ("v0", "v1", "v2")
        ]
        found = Detections(("v0",), classes, none, start, start + 5, none, score)
        return Found(found, tuple(scores), classes)

    monkeypatch.setattr("weaktal.train.fuse.found_by", found_by)
    odd = tmp_path / "seed2"
    runs = [trained / "asm0", tmp_path / "seed1", odd, trained / "sal"]
    assert main(["fuse", *map(str, runs), "--out", str(tmp_path / "fused"), "--device", "cpu"]) == 0
    said = capfd.readouterr().err
    config = yaml.safe_load((tmp_path / "fused/config.yaml").read_text())["config"]
    if odd_is_sure:  # then the two others may be those that are wrong
        assert len(config["members"]) == 4
        assert "left out" not in said
        return
    assert f"left out: {odd} ranks segments as no other seed of it does" in said
    assert "fused 3 runs" in said
    assert [Path(m["path"]).name for m in config["members"]] == [
        "asm0",
        "seed1",
        "sal",
    ]  # another method stays
    assert config["left_out"] == [str(odd)]
    assert len(localize_run(tmp_path / "fused").detections)


def test_seeds_may_list_their_classes_in_another_order(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, none = 10.0 * np.arange(60), np.zeros(60, np.int64)
    runs = [trained / "asm0", trained / "asm1", tmp_path / "turned"]
    shutil.copytree(trained / "asm1", runs[2])
    config = yaml.safe_load((runs[2] / "config.yaml").read_text())
    config["classes"].reverse()
    (runs[2] / "config.yaml").write_text(yaml.safe_dump(config))

    def found_by(run: Run, *_: object, **__: object) -> Found:
        first = none + run.config.classes.index("class0")
        score = np.linspace(0, 1, 60)
        return Found(
            Detections(("v0",), run.config.classes, none, start, start + 5, first, score),
            (),
            run.config.classes,
        )

    monkeypatch.setattr("weaktal.train.fuse.found_by", found_by)
    fused = fuse_runs(runs, tmp_path / "fused")
    assert len(fused.config.config["members"]) == 3


def test_a_folder_that_holds_its_members_may_move(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    for name in ("asm0", "asm1"):
        shutil.copytree(trained / name, folder / name)
    fuse_runs([folder / "asm0", folder / "asm1"], folder)
    before = localize_run(folder).detections
    folder.rename(tmp_path / "elsewhere")
    assert localize_run(tmp_path / "elsewhere").detections == before


def test_what_cannot_be_fused_is_said(trained: Path, tmp_path: Path) -> None:
    asm, sal = trained / "asm0", trained / "sal"
    for runs, options, message in (
        ([], {}, "no run to fuse"),
        ([asm, asm], {}, "named twice"),
        ([asm, sal], {"by": "scores"}, "cannot be averaged.*found sal"),
        ([asm, tmp_path], {}, "no run directory"),
    ):
        with pytest.raises(InputError, match=message):
            fuse_runs(runs, tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
    fused = fuse_runs([asm, sal], tmp_path / "fused")
    with pytest.raises(InputError, match="cannot be fused again"):
        fuse_runs([fused, sal], tmp_path / "twice")
    with pytest.raises(InputError, match="a run in this folder already"):
        fuse_runs([asm, sal], tmp_path / "fused")
    with pytest.raises(InputError, match="no network of its own"):
        fused.method()
    with pytest.raises(InputError, match="fixed when it is made"):
        localize_run(fused, settings={"nms_threshold": 0.1})


def test_a_member_that_changed_and_damaged_files_are_named(trained: Path, tmp_path: Path) -> None:
    for name in ("asm0", "asm1"):
        shutil.copytree(trained / name, tmp_path / name)
    fused = fuse_runs([tmp_path / "asm0", tmp_path / "asm1"], tmp_path / "fused")
    config = fused.folder / "config.yaml"
    good = config.read_text()
    values = yaml.safe_load(good)
    values["config"]["iou"] = 3
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"config\.yaml: config\.iou"):
        localize_run(fused.folder)
    config.write_text(good)
    scales = (fused.folder / "scales.json").read_text()
    for damaged in ("", "[]", json.dumps(json.loads(scales)[:1]), scales.replace("[", "[1e999, ", 2)):
        (fused.folder / "scales.json").write_text(damaged)
        with pytest.raises(InputError, match=r"scales\.json: cannot read the ranges"):
            localize_run(fused.folder)
    meta = tmp_path / "asm1/checkpoints/last/meta.json"
    meta.write_text(meta.read_text() + " ")
    with pytest.raises(InputError, match="has changed since it was fused"):
        localize_run(fused.folder)


def test_methods_started_and_fused_in_one_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, out = toy_dataset(tmp_path), tmp_path / "run"
    words = [f"--set=asm_loc.{k}={v}" for k, v in BASE.items()]
    words += ["--set=sal.hidden=4", "--set=sal.segments=16", "--set=sal.steps=3", "--set=sal.batch_size=2"]
    command = ["train", "asm_loc", "sal", "--data", str(data), "--out", str(out), "--starts", "2", "--fuse"]
    assert main([*command, "--device", "cpu", "--jobs", "2", *words]) == 0
    assert "this is the run" in capfd.readouterr().out
    members = yaml.safe_load((out / "config.yaml").read_text())["config"]["members"]
    assert [m["path"] for m in members] == ["asm_loc", "sal"]
    assert len(localize_run(out).detections)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["asm_loc", "sal"], "--starts N --fuse"),
        (["asm_loc", "--fuse"], "--fuse goes with --starts"),
        (["asm_loc", "sal", "--fuse", "--starts", "2", "--set", "epochs=3"], "a setting of which method"),
        (["asm_loc", "--fuse", "--starts", "2", "--early", "0.3"], "leave out --early"),
        (["asm_loc", "asm_loc", "--fuse", "--starts", "2"], "named twice"),
    ],
)
def test_a_wrong_fusion_is_one_line(
    tmp_path: Path, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = toy_dataset(tmp_path)
    assert main(["train", *words, "--data", str(data), "--out", str(tmp_path / "run")]) == 2
    assert message in capfd.readouterr().err
