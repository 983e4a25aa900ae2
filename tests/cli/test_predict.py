"""From a rendered video to segments in every format, through the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("av")
pytest.importorskip("cv2")

from weaktal import Run
from weaktal.cli import main
from weaktal.core import Detections
from weaktal.demo import render
from weaktal.formats import load_detections
from weaktal.train.calibration import Calibration, HeldOut, Pair, identity


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny demo, its features, and a run that is hardly trained."""
    folder = tmp_path_factory.mktemp("predict")
    render(folder, train=4, test=2, seconds=(12.0, 16.0), size=(80, 60), fps=15, workers=2)
    run = folder / "run"
    data, out = folder / "demo.yaml", folder / "features"
    few = ["--set", "epochs=4", "--set", "class_threshold=0.0"]
    for words in (
        ["extract", folder / "videos", "--out", out, "--workers", "2"],
        ["train", "asm_loc", "--data", data, "--recipe", "demo", *few, "--out", run],
        ["localize", run],
    ):
        assert main([str(w) for w in words]) == 0
    return folder


def predict(folder: Path, out: Path, *words: str) -> int:
    videos = [str(folder / f"videos/demo_test_00{k}.mp4") for k in range(2)]
    return main(["predict", str(folder / "run"), *videos, "--out", str(out), "--workers", "2", *words])


def assert_same_segments(found: Detections, expected: Detections) -> None:
    """Rank by rank the same class and score, and each a partner. Between segments of one class that score the
    same rounding decides: a batch of one video rounds unlike one of two."""
    assert found.names == expected.names
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
    columns = ("video", "label", "start", "end", "score")
    a, b = (np.column_stack([getattr(d, c) for c in columns]) for d in (found, expected))
    near = np.abs(a[:, None] - b).max(axis=2) < 1e-4
    assert near.any(axis=0).all()
    assert near.any(axis=1).all()


def test_segments_in_every_format(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(trained, tmp_path) == 0
    found = load_detections(tmp_path / "detections.json")
    localized = load_detections(trained / "run/detections.json")
    assert len(found) > 0
    assert_same_segments(found, localized)  # the same features, the same network
    assert len(load_detections(tmp_path / "detections.csv")) == len(found)
    text = (tmp_path / "segments/demo_test_000.srt").read_text()
    assert " --> " in text
    assert (tmp_path / "segments/demo_test_000.vtt").read_text().startswith("WEBVTT\n\n00:")
    assert "* FROM CLIP NAME: demo_test_000.mp4" in (tmp_path / "segments/demo_test_000.edl").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "demo_test_001" in page
    assert "<polyline" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "demo_test_000: " in capsys.readouterr().out


def test_pieces_give_the_same_segments(trained: Path, tmp_path: Path) -> None:
    assert predict(trained, tmp_path / "whole") == 0
    assert predict(trained, tmp_path / "pieces", "--chunk", "8") == 0
    whole, pieces = (load_detections(tmp_path / f"{n}/detections.json") for n in ("whole", "pieces"))
    assert_same_segments(pieces, whole)


def test_other_features_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(trained, tmp_path / "out", "--set", "stride=8") == 2
    assert "rate 1.875, trained on 3.75" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert predict(trained, tmp_path / "out", "--chunk", "0") == 2
    assert "at least 2 snippets" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["os:system", "evil.py:Backbone"])
def test_code_that_a_run_names_is_not_loaded(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('ran', 'w')\nBackbone = None\n")
    shutil.copytree(trained / "run", "run")
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    config["data"]["features"]["extractor"] = {"name": name, "options": {"command": "touch ran"}}
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    words = ["predict", "run", str(trained / "videos/demo_test_000.mp4"), "--out", "out"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "code is not loaded because a file names it" in told
    assert "--backbone" in told
    assert not Path("ran").exists()
    assert not Path("out").exists()


def test_bad_videos_do_not_stop_the_others(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    good = trained / "videos/demo_test_000.mp4"
    words = ["predict", str(trained / "run"), str(bad), str(good), "--out", str(tmp_path / "out")]
    assert main([*words, "--workers", "1"]) == 2
    assert "bad.mp4: cannot be read as a video" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "out/detections.json").read_text())["results"]) == {"demo_test_000"}


def test_every_video_shows_its_best_segment(trained: Path, tmp_path: Path) -> None:
    assert predict(trained, tmp_path) == 0
    found = load_detections(tmp_path / "detections.json")
    for k in range(2):
        best = found.of(f"demo_test_00{k}").score.max()
        assert f"({best:.2f})" in (tmp_path / f"segments/demo_test_00{k}.srt").read_text()
    assert predict(trained, tmp_path, "--threshold", "1e9") == 0
    assert (tmp_path / "segments/demo_test_000.srt").read_text() == ""


def test_a_method_with_a_base_locator(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained / "tspnet"
    # a wide sigma: soft suppression would turn a tie that rounding decides into other scores
    few = ["--set", "steps=4", "--set", "base.steps=4", "--set", "sigma=1e9"]
    for words in (
        ["train", "tspnet", "--data", trained / "demo.yaml", "--recipe", "demo", *few, "--out", run],
        ["localize", run],
    ):
        assert main([str(w) for w in words]) == 0
    videos = [str(trained / f"videos/demo_test_00{k}.mp4") for k in range(2)]
    words = ["predict", str(run), *videos, "--workers", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    found, localized = (load_detections(f / "detections.json") for f in (tmp_path / "out", run))
    assert len(found) > 0
    assert_same_segments(found, localized)
    assert main([*words, "--chunk", "8", "--out", str(tmp_path / "pieces")]) == 0
    pieces = load_detections(tmp_path / "pieces/detections.json")
    assert_same_segments(pieces, found)
    alone = ["predict", str(run / "base"), *videos, "--workers", "2", "--out", str(tmp_path / "base")]
    assert main(alone) == 0  # the base locator is a run like any other
    (run / "base").rename(run / "gone")  # as after training from a file of proposals
    assert main([*words, "--out", str(tmp_path / "never")]) == 2
    assert "re-scores segments of a base locator, and this run has none" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_times_are_those_of_a_player_and_names_stay_as_they_are(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same video twice, once with three seconds of sound before the picture and a name like those that
    download tools give: all is 3 s later, and the odd name stops nothing."""
    from tests.features.extract.media import remux

    plain = trained / "videos/demo_test_000.mp4"
    late = remux(plain, tmp_path / "title [x7Qk3]\n2.mp4", shift=3.0, sound=True)
    words = ["predict", str(trained / "run"), str(plain), str(late), "--out", str(tmp_path / "out")]
    assert main([*words, "--workers", "1", "--threshold", "0"]) == 0
    found = load_detections(tmp_path / "out/detections.json")
    a, b = found.of("demo_test_000"), found.of(late.stem)
    assert len(a) > 0
    np.testing.assert_allclose(b.start, a.start + 3, atol=1e-3)
    np.testing.assert_allclose(b.end, a.end + 3, atol=1e-3)
    segments = tmp_path / "out/segments"
    assert {p.name for p in segments.iterdir()} == {
        f"{v.stem}.{kind}" for v in (plain, late) for kind in ("srt", "vtt", "edl")
    }
    edl = (segments / f"{late.stem}.edl").read_text()
    assert r"* FROM CLIP NAME: title [x7Qk3]\n2.mp4" in edl
    assert sum(line[:3].isdigit() for line in edl.splitlines()) == (
        segments / f"{late.stem}.srt"
    ).read_text().count(" --> ")
    assert r"title [x7Qk3]\n2.mp4: the picture begins 3.00 s" in capsys.readouterr().err


def test_a_calibrated_run_shows_what_keeps_to_the_rate(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "it")
    folder, run = tmp_path / "it", Run.open(tmp_path / "it/run")
    found = load_detections(run.folder / "detections.json")
    best = {name: found.of(name).score.max() for name in found.names}
    low, high = sorted(best, key=lambda name: float(best[name]))
    # forty videos without any class, of which one may show some at 5 %: the second best lies between the two
    between = float(best[low] + best[high]) / 2
    held_out = [
        HeldOut(video=f"v{i}", fold=0, labels=(), found={c: Pair(score=score) for c in run.config.classes})
        for i, score in enumerate([between + 1, *np.linspace(between, between - 1, 39).tolist()])
    ]
    made = Calibration(
        run=identity(run), subset="train", folds=2, classes=run.config.classes, videos=tuple(held_out)
    )
    (run.folder / "calibration.json").write_text(made.model_dump_json())
    assert made.threshold(0.05) == np.nextafter(between, np.inf)
    assert predict(folder, tmp_path / "default") == 0
    said, told = capsys.readouterr()
    assert f"{low}: nothing found" in said
    assert f"{high}: nothing found" not in said
    assert f"{high}: " in said
    assert "videos show nothing, so that false alarms stay at 5 %; --false-alarms 0.2 shows more" in told
    assert (tmp_path / f"default/segments/{low}.srt").read_text() == ""
    assert (
        "false alarms in at most 5 % of the videos, whatever the class"
        in (tmp_path / "default/report.html").read_text()
    )
    rows = (tmp_path / "default/segments.csv").read_text()
    assert high in rows
    assert low not in rows
    assert len(load_detections(tmp_path / "default/detections.json")) == len(found)
    assert predict(folder, tmp_path / "default", "--per", "class") == 0
    said, told = capsys.readouterr()
    assert f"{low}: nothing found" in said
    assert "--false-alarms 0.2 --per class shows more" in told
    assert (
        "false alarms in at most 5 % of the videos without a class"
        in (tmp_path / "default/report.html").read_text()
    )
    for rate in ("0.9", "off"):  # everything, and what has 0.7 of each video's best
        assert predict(folder, tmp_path / rate, "--false-alarms", rate) == 0
        assert "nothing found" not in capsys.readouterr().out
    for words, message in (
        (["--false-alarms", "0.01"], "so few held-out videos"),
        (["--false-alarms", "0.05", "--threshold", "0.2"], "not both"),
        (["--false-alarms", "1.5"], "above 0 and below 1"),
    ):
        assert predict(folder, tmp_path / "refused", *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
