"""Calibration, as real refits in real processes, and what predict and the rest make of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tests.bench.toy import TINY, toy_dataset
from weaktal import Run, calibrate, fuse_runs, localize_run, report_runs, train_run
from weaktal.cli import main
from weaktal.core import Detections, InputError, Instances, Video
from weaktal.dataset import Dataset
from weaktal.formats import load_detections
from weaktal.localize.fusion import Scale, fuse_detections
from weaktal.train import refits
from weaktal.train.calibration import Calibration, HeldOut, Pair, Per, least_shown, read_calibration
from weaktal.train.localize import found_by
from weaktal.train.refits import Folds, carried_over, fold_of, refit_fold

SETTINGS = {**TINY, "epochs": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, two calibrated runs of two folds each, and their fusion."""
    folder = tmp_path_factory.mktemp("calibration")
    data = toy_dataset(folder)
    words = [f"--set={k}={v}" for k, v in SETTINGS.items()]
    words += ["--data", str(data), "--device", "cpu", "--out", str(folder / "run0")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refits, "FOLDS", 2)
        assert main(["train", "asm_loc", *words, "--calibrate"]) == 0
    train_run("asm_loc", data, folder / "run1", settings=SETTINGS, seed=1, device="cpu")
    fuse_runs([folder / "run0", folder / "run1"], folder / "fused", device="cpu")
    return folder


def test_refits_see_the_other_folds_alone(trained: Path, tmp_path: Path) -> None:
    run, data = Run.open(trained / "run0"), Dataset.load(trained / "data.yaml")
    plan = Folds.of(run, data, 2)
    calibration = read_calibration(run)
    assert calibration is not None
    assert sorted(v.video for v in calibration.videos) == sorted(plan.fold) == ["v0", "v1", "v2", "v3"]
    for fold in (0, 1):
        folder = run.folder / f"calibration/fold{fold}"
        assert Run.open(folder).config.data["left_out"] == plan.held_out(fold)
        alone = train_run(
            "asm_loc",
            data,
            tmp_path / f"alone{fold}",
            settings=SETTINGS,
            leave_out=plan.held_out(fold),
            device="cpu",
        ).run
        # what is kept is what the refit finds in the videos that it has not seen, on the scale of the run
        again = found_by(alone, data, "train", device="cpu").detections
        assert load_detections(folder / "found.json", again.classes) == again
        scores = carried_over(again, found_by(run, data, "train", device="cpu").detections, plan, fold)
        for video in (v for v in calibration.videos if v.fold == fold):
            assert video.labels == tuple(
                data.classes[c] for c in data.subset("train").video(video.video).labels
            )
            of = again.video == again.names.index(video.video)
            for c, name in enumerate(again.classes):
                found = scores[of & (again.label == c)]
                assert (name in video.found) == bool(len(found))
                if len(found):
                    assert video.found[name].score == pytest.approx(found.max(), abs=1e-6)
                    assert all(np.isclose(found, x, atol=1e-6).any() for x in video.found[name].segments)


def test_it_goes_on_and_is_made_anew_for_another_state_of_the_run(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run0", run)
    kept = (run / "calibration.json").read_bytes()
    (run / "calibration.json").unlink()
    seen = {p: p.stat().st_mtime_ns for p in run.rglob("found.json")}
    assert len(seen) == 2
    calibrate(run, folds=2, device="cpu")
    assert (run / "calibration.json").read_bytes() == kept
    assert {p: p.stat().st_mtime_ns for p in run.rglob("found.json")} == seen
    # one refit alone, as a job of its own would train it
    shutil.rmtree(run / "calibration/fold1")
    assert main(["calibrate", str(run), "--folds", "2", "--fold", "1", "--device", "cpu", "--keep"]) == 0
    assert (run / "calibration/fold1/checkpoints/last/weights.safetensors").exists()
    assert not (run / "calibration/fold0/checkpoints").exists()
    assert (run / "calibration/fold1/found.json").read_bytes() == next(
        p.read_bytes() for p in (trained / "run0").rglob("fold1/found.json")
    )
    # trained on: neither the calibration nor the refits count any more
    meta = run / "checkpoints/last/meta.json"
    meta.write_text(meta.read_text() + "\n")
    assert read_calibration(run) is None
    assert least_shown(Run.open(run), None)[2] == (
        "the calibration is of an earlier state of the run, and not used",
    )
    with pytest.raises(InputError, match="trained on since"):
        least_shown(Run.open(run), 0.3)
    refit_fold(run, 0, folds=3, device="cpu")
    assert not (run / "calibration/fold1").exists()


def test_a_fused_run_is_calibrated_on_its_own_scale(trained: Path) -> None:
    run, data = Run.open(trained / "fused"), Dataset.load(trained / "data.yaml")
    assert main(["calibrate", str(run.folder), "--device", "cpu"]) == 0
    calibration = read_calibration(run)
    assert calibration is not None
    assert calibration.folds == 2  # as its first member was begun with, whose refits are used again
    members = [trained / "run0", trained / "run1"]
    plan = Folds.of(Run.open(members[0]), data, 2)
    found = [load_detections(m / "calibration/fold0/found.json", data.classes) for m in members]
    others = [np.isin(d.video, [d.names.index(n) for n in plan.others(0)]) for d in found]
    fused = fuse_detections(found, scales=[Scale.of(d[o]) for d, o in zip(found, others, strict=True)])
    scores = carried_over(fused, found_by(run, data, "train", device="cpu").detections, plan, 0)
    for video in (v for v in calibration.videos if v.fold == 0):
        of = scores[fused.video == fused.names.index(video.video)]
        assert max(p.score for p in video.found.values()) == pytest.approx(of.max(), abs=1e-6)
    by_scores = fuse_runs(members, trained / "fused-scores", by="scores", device="cpu")
    assert len(calibrate(by_scores, folds=2, device="cpu").videos) == 4


def made(**about: Any) -> Calibration:
    """A calibration of forty videos of two classes; of the other class they score from 0.01 to 0.4."""
    videos = [
        HeldOut(
            video=f"v{i}",
            fold=i % 2,
            labels=("class0" if i % 2 else "class1",),
            found={
                ("class1" if i % 2 else "class0"): Pair(score=(i + 1) / 100, segments=((i + 1) / 100,)),
                ("class0" if i % 2 else "class1"): Pair(
                    score=(i + 10) / 100, segments=((i + 10) / 100, 0.001)
                ),
            },
        )
        for i in range(40)
    ]
    about = {"run": "x", "subset": "train", "folds": 2, "classes": ("class0", "class1"), **about}
    return Calibration(videos=tuple(videos), **about)


def test_the_table_says_what_each_rate_costs() -> None:
    calibration = made()
    # 41 x 0.05 - 1 = 1.05 of 40 videos may be wrong: one, the best of which scores 0.4
    assert calibration.threshold(0.05) == calibration.threshold(0.05, "class") == np.nextafter(0.39, 1)
    point = calibration.at(calibration.threshold(0.05))
    assert point.false_alarms == pytest.approx(1 / 40)
    assert point.recall == pytest.approx(10 / 40)
    assert point.segments == pytest.approx((1 + 10) / 40)
    text = str(calibration)
    assert "40 videos, held out in 2 folds" in text
    assert "1 %  too few videos to promise it" in text
    assert "  5 %       0.39             2.5 %    2.5 %    0.25  0.28" in text
    with pytest.raises(InputError, match=r"found 0.01 with 40 videos, expected 0.025 or more"):
        calibration.threshold(0.01)
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration
    assert again.threshold(0.05) == calibration.threshold(0.05)


def test_a_rate_of_videos_counts_a_video_once() -> None:
    quiet = [
        HeldOut(
            video=f"v{i}",
            fold=0,
            labels=(),
            found={"class0": Pair(score=(i + 1) / 100), "class1": Pair(score=(40 - i) / 100)},
        )
        for i in range(40)
    ]
    calibration = made().model_copy(update={"videos": tuple(quiet)})
    # 41 x 0.1 - 1 = 3.1 of 40 videos may be wrong: three pairs of either class, or the two videos at 0.4
    assert calibration.threshold(0.1, "class") == np.nextafter(0.37, 1)
    assert calibration.threshold(0.1) == np.nextafter(0.39, 1)
    assert calibration.at(calibration.threshold(0.1)).wrong_videos == 2 / 40
    for per in get_args(Per):
        point = calibration.table([0.1], per)[0.1]
        assert point is not None
        assert point.threshold == calibration.threshold(0.1, per)
    with pytest.raises(InputError, match=r"found 0.02 with 40 videos, expected 0.025 or more"):
        calibration.threshold(0.02)


def test_what_is_unknown_is_no_false_alarm() -> None:
    calibration = made()
    open_ = [v.model_copy(update={"complete": i % 4 > 1}) for i, v in enumerate(calibration.videos)]
    some = calibration.model_copy(update={"videos": tuple(open_)})
    some = Calibration.model_validate(some.model_dump())
    assert some.absent.sum() == 20
    assert some.present.sum() == 40
    assert some.at(0.35).false_alarms == pytest.approx(4 / 20)  # those that are known, from 0.35 to 0.4


def test_negatives_are_held_out_and_videos_of_unknown_labels_are_not(trained: Path, tmp_path: Path) -> None:
    data = Dataset.load(trained / "data.yaml")
    run = Run.open(trained / "run0")
    assert data.annotations is not None

    def change(video: Video) -> Video:
        if video.name == "v0":
            return replace(video, labels=(), complete=True, instances=Instances())
        if video.name == "v1":
            return replace(video, labels=(), complete=False, instances=Instances())
        return replace(video, complete=video.name != "v2")

    plan = Folds.of(run, replace(data, annotations=data.annotations.map(change)), 3)
    assert sorted(plan.fold) == ["v0", "v2", "v3"]
    assert Folds.of(Run.open(trained / "run1"), data).folds in (2, 4)  # begun with, or one for each video
    assert plan.labels["v0"] == ()
    assert plan.complete == {"v0", "v3"}


def test_what_is_shown_follows_the_rate(trained: Path, tmp_path: Path, capfd: Any) -> None:
    run = Run.open(trained / "run0")
    assert least_shown(run, "off") == (None, None, ())
    # four videos can promise 0.2 and no less: what is not asked for is left out, with a word
    least, rate, notes = least_shown(run, None)
    assert (least, rate) == (None, None)
    assert "so few held-out videos" in notes[0]
    assert (
        main(["localize", str(run.folder), "--false-alarms", "0.05", "--out", str(tmp_path / "x.json")]) == 2
    )
    assert "expected 0.2 or more" in capfd.readouterr().err
    assert not (tmp_path / "x.json").exists()
    calibration = read_calibration(run)
    assert calibration is not None
    every = localize_run(run, device="cpu", out=tmp_path / "all.json").detections
    for rate in (0.3, 0.9):
        kept = localize_run(run, device="cpu", out=tmp_path / "some.json", false_alarms=rate).detections
        assert len(kept) == (every.score >= calibration.threshold(rate)).sum()
    with pytest.raises(InputError, match="own checkpoint and settings"):
        localize_run(run, device="cpu", settings={"nms_threshold": 0.3}, false_alarms=0.3)
    with pytest.raises(InputError, match=r"no calibration.*weaktal calibrate"):
        localize_run(trained / "run1", device="cpu", false_alarms=0.3)


def test_the_report_shows_the_table_of_thresholds(trained: Path, tmp_path: Path) -> None:
    run = Run.open(trained / "run0")
    localize_run(run, device="cpu")
    calibration = read_calibration(run)
    assert calibration is not None
    page = report_runs(run, tmp_path / "page.html", chance=False).path.read_text()
    point = calibration.at(calibration.threshold(0.2))
    assert "run0: false alarms asked for" in page
    assert (
        f"<td>at most 20 %</td><td>{point.threshold:.3g}</td><td>{100 * point.wrong_videos:.1f} %</td>"
        in page
    )
    assert "at most 5 %" not in page


def test_the_page_of_unknown_videos_says_nothing_found(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "it")
    folder = tmp_path / "it"
    truth = json.loads((folder / "gt.json").read_text())
    for entry in truth["database"].values():
        if entry["subset"] == "test":
            entry["annotations"] = []
    (folder / "gt.json").write_text(json.dumps(truth))
    run = Run.open(folder / "run0")
    localize_run(run, folder / "data.yaml", device="cpu")
    with pytest.warns(UserWarning, match="the calibration is not used"):
        shown = report_runs(run, data=folder / "data.yaml")
    assert not shown.evaluated
    assert "nothing found" not in shown.path.read_text()
    calibration = read_calibration(run)
    assert calibration is not None
    strict = made(run=calibration.run, classes=run.config.classes)
    (run.folder / "calibration.json").write_text(strict.model_dump_json())
    page = report_runs(run, data=folder / "data.yaml").path.read_text()
    assert "false alarms in at most 5 %" in page
    assert "nothing found" in page


def test_folds_spread_every_class() -> None:
    rng = np.random.default_rng(0)
    labels = [tuple(np.flatnonzero(rng.random(6) < [0.5, 0.3, 0.3, 0.1, 0.1, 0.05])) for _ in range(100)]
    fold = np.array(fold_of(labels, 5))
    for c in range(6):
        count = np.bincount(fold[[c in row for row in labels]], minlength=5)
        assert count.max() - count.min() <= (1 if c >= 3 else 6)
    assert np.bincount(fold).min() >= 15
    assert fold_of([[0]] * 6, 3) == fold_of([[0]] * 6, 3)


def test_scores_are_carried_over_by_rank() -> None:
    labels = {f"v{i}": (0,) for i in range(10)}
    plan = Folds("train", 2, {f"v{i}": i % 2 for i in range(10)}, labels, frozenset(labels), ("a", "b"))
    rng = np.random.default_rng(0)
    names = tuple(plan.fold)
    columns = (np.arange(10), np.zeros(10), np.ones(10), np.zeros(10, int))
    own = Detections(names, ("a", "b"), *columns, rng.random(10))
    # a refit whose scores are the same but for a straight line gets the run's
    again = Detections(names, ("a", "b"), *columns, np.sort(own.score)[np.arange(10) // 2 * 2] * 7 - 3)
    out = carried_over(again, own, plan, 0)
    order = np.argsort(again.score, kind="stable")
    assert (np.diff(out[order]) >= 0).all()
    same = carried_over(Detections(names, ("a", "b"), *columns, own.score * 7 - 3), own, plan, 0)
    assert np.isfinite(same).all()
    nothing = carried_over(Detections.empty(names, ("a", "b")), own, plan, 0)
    assert len(nothing) == 0


def test_what_cannot_be_calibrated_is_one_line(trained: Path, tmp_path: Path, capfd: Any) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run1", run)
    for words, message in (
        ([run, "--folds", "5"], "that many folds cannot be made: found 5, expected 2 to 4"),
        ([run, "--folds", "2", "--fold", "2"], "no such fold"),
        ([tmp_path], "no run directory"),
    ):
        assert main(["calibrate", *map(str, words)]) == 2
        assert message in capfd.readouterr().err
    truth = json.loads((trained / "gt.json").read_text())
    for entry in truth["database"].values():
        one = entry["annotations"][0]
        entry["annotations"] = [one | {"label": f"class{c}"} for c in (0, 1)]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    text = (trained / "data.yaml").read_text().replace("path: features", f"path: {trained / 'features'}")
    (tmp_path / "data.yaml").write_text(text)
    assert main(["calibrate", str(run), "--folds", "2", "--data", str(tmp_path / "data.yaml")]) == 2
    assert "nothing tells what a false alarm is" in capfd.readouterr().err
    (run / "calibration.json").write_text('{"run": 1}')
    assert main(["localize", str(run), "--false-alarms", "0.3"]) == 2
    assert "calibration.json" in capfd.readouterr().err
    assert main(["train", "asm_loc", "--calibrate", "--until", "0.5", "--out", str(tmp_path / "new")]) == 2
    assert "calibrate when the training is done" in capfd.readouterr().err
