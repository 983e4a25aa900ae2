"""What used to pass without a word: other features, shared videos, classes and features that say nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.bench.toy import TINY, toy_dataset
from weaktal import InputError, Run, load_detections, localize_run, report_runs, train_run
from weaktal.core import CoverageWarning, Grid


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silent")
    data = toy_dataset(folder)
    train_run("asm_loc", data, folder / "run", settings=TINY, evaluate=True)
    return folder


def described(folder: Path, features: str, name: str = "other.yaml") -> Path:
    path = folder / name
    path.write_text(f"name: other\nannotations: gt.json\nfeatures: {{path: features, {features}}}\n")
    return path


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ("rate: 0.390625", r"rate 0\.390625, trained on 1\.5625"),
        ("rate: 1.5625, offset: 2", r"offset 2\.0, trained on 0\.0"),
    ],
)
def test_localize_and_resume_compare_features(trained: Path, features: str, found: str) -> None:
    other = described(trained, features)
    before = (trained / "run/detections.json").read_bytes()
    with pytest.raises(InputError, match=f"this run was trained on other features: found {found}"):
        localize_run(trained / "run", other)
    with pytest.raises(InputError, match=f"was begun with other data: found {found}"):
        train_run("asm_loc", other, trained / "run", settings=TINY, resume=True)
    assert (trained / "run/detections.json").read_bytes() == before
    localize_run(trained / "run", described(trained, "rate: 1.5625"))  # the same under another name


def test_resuming_on_another_subset(trained: Path) -> None:
    with pytest.raises(InputError, match="subset test, trained on train"):
        train_run(
            "asm_loc", trained / "data.yaml", trained / "run", settings=TINY, resume=True, subset="test"
        )


def test_detections_carry_the_grid_of_their_features(trained: Path) -> None:
    assert load_detections(trained / "run/detections.json").grid == Grid(1.5625)
    again = localize_run(trained / "run", from_scores=True, out=trained / "again.json")
    assert again.detections.grid == Grid(1.5625)


def test_training_on_what_is_tested_is_kept_with_the_result(trained: Path, tmp_path: Path) -> None:
    assert json.loads((trained / "run/metrics.json").read_text())["notes"] == []
    run = train_run(
        "asm_loc", trained / "data.yaml", tmp_path / "run", settings=TINY, evaluate=True, subset="test"
    ).run
    notes = json.loads((run.folder / "metrics.json").read_text())["notes"]
    assert any("the run was trained on 4 of the 4 evaluated videos" in note for note in notes)


def classes_of(folder: Path) -> list[str]:
    gt = json.loads((folder / "gt.json").read_text())["database"]
    return sorted({row["label"] for v in gt.values() for row in v["annotations"]})


def test_a_class_without_a_training_video(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path)
    first, second = classes_of(tmp_path)[:2]
    gt = json.loads((tmp_path / "gt.json").read_text())
    for video in gt["database"].values():
        if video["subset"] == "train":
            video["annotations"] = [row | {"label": second} for row in video["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    with pytest.warns(
        CoverageWarning, match=f"1 classes have no training video and cannot be learnt: {first}"
    ):
        run = train_run("asm_loc", data, tmp_path / "run", settings=TINY, evaluate=True).run
    assert any("no training video" in n for n in Run.open(run.folder).config.data["notes"])
    assert any(
        "no training video" in n for n in json.loads((run.folder / "metrics.json").read_text())["notes"]
    )


def test_features_that_say_nothing(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path)
    files = sorted((tmp_path / "features").rglob("*.npy"))
    shutil.copytree(tmp_path / "features", tmp_path / "kept")
    some = np.load(files[0])
    np.save(files[0], np.zeros_like(some))
    with pytest.warns(CoverageWarning, match="training videos have the same features in all snippets"):
        train_run("asm_loc", data, tmp_path / "one", settings=TINY)
    for file in files:
        np.save(file, np.ones_like(np.load(file)))
    with pytest.raises(InputError, match="the same in all of its snippets: nothing can be learnt"):
        train_run("asm_loc", data, tmp_path / "all", settings=TINY)
    assert not (tmp_path / "all/config.yaml").exists()


def test_a_run_on_a_set_that_lacks_a_class(trained: Path, tmp_path: Path) -> None:
    """Localized with a note, evaluated and reported without refusal."""
    shutil.copytree(trained / "features", tmp_path / "features")
    gt = json.loads((trained / "gt.json").read_text())
    first, second = classes_of(trained)[:2]
    gt.pop("classes", None)
    for video in gt["database"].values():
        video["annotations"] = [row | {"label": second} for row in video["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    data = described(tmp_path, "rate: 1.5625")
    with pytest.warns(CoverageWarning, match=f"classes of the run are none of the data set's.*{first}"):
        found = localize_run(trained / "run", data, out=tmp_path / "d.json")
    assert len(found.detections)
    with pytest.warns(CoverageWarning, match="are of classes that are not annotated and take no part"):
        report_runs(tmp_path / "d.json", tmp_path / "r.html", data=data)


def test_a_rate_that_the_durations_contradict(tmp_path: Path) -> None:
    toy_dataset(tmp_path)
    data = described(tmp_path, "rate: 0.390625")
    with pytest.warns(CoverageWarning, match=r"4 of 4 training videos.*set rate: 1\.5625"):
        run = train_run("asm_loc", data, tmp_path / "run", settings=TINY).run
    assert any("another length than duration x rate" in n for n in run.config.data["notes"])
