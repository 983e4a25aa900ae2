"""`report_runs` and `localize_run`: what they write, and where there is nothing to evaluate against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.toy import TINY, toy_dataset
from weaktal import (
    Dataset,
    Detections,
    InputError,
    Run,
    load_detections,
    localize_run,
    report_runs,
    train_run,
)
from weaktal.cli import main
from weaktal.core import CoverageWarning
from weaktal.evaluate import intervals


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a run that is hardly trained, with its detections."""
    folder = tmp_path_factory.mktemp("reports")
    data = toy_dataset(folder)
    localize_run(train_run("asm_loc", data, folder / "run", settings=TINY).run)
    return folder


@pytest.fixture
def labels_only(trained: Path) -> Path:
    """The same data set as a newcomer has it: which classes occur in which video, and no more."""
    truth = json.loads((trained / "gt.json").read_text())["database"]
    rows = [f"{name},{v['annotations'][0]['label']},{v['subset']}" for name, v in truth.items()]
    (trained / "labels.csv").write_text("video,label,subset\n" + "\n".join(rows) + "\n")
    path = trained / "weak.yaml"
    path.write_text("name: weak\nannotations: labels.csv\nfeatures: {path: features, rate: 1.5625}\n")
    return path


def test_a_page_of_one_run_and_of_several(trained: Path, tmp_path: Path) -> None:
    run = Run.open(trained / "run")
    alone = report_runs(run, figures=tmp_path / "figures", format="svg")
    assert alone.path == run.folder / "report.html"
    assert alone.evaluated
    assert {p.name for p in alone.figures} == {"map.svg", *(f"v{i}.svg" for i in range(4, 8))}
    assert all(p.read_bytes() for p in alone.figures)
    both = [run, run.folder / "detections.json"]
    page = report_runs(both, tmp_path / "both.html", most=1, chance=False, resamples=50).path.read_text()
    truth = Dataset.load(trained / "data.yaml").subset("test")
    spread = intervals(load_detections(both[1], truth.classes), truth, resamples=50).average
    cell = f"<td>{100 * spread.low:.1f} to {100 * spread.high:.1f}</td>"
    assert page.count(cell) == 2
    assert "<td>+0.0: 0.0 to 0.0</td>" in page  # the same detections on both sides
    assert "resamples of the videos" not in alone.path.read_text()
    assert "asm_loc" in page
    assert "detections.json" in page
    assert "more than half of the 2 runs" in page
    for text in ("More than half", "What most of the runs find", "Thresholds by false alarms"):
        assert text not in alone.path.read_text()
    assert "chance" in alone.path.read_text()
    assert "uniformly placed proposals" not in page


def test_weak_labels_alone_give_a_page_of_what_was_found(
    trained: Path, labels_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.html"
    assert main(["report", str(trained / "run"), "--data", str(labels_only), "--out", str(out)]) == 0
    assert "the page shows what was found" in capsys.readouterr().err
    page = out.read_text()
    found = load_detections(trained / "run/detections.json")
    best = found.of("v4").score.max()
    assert f"confidence {best:.3g}" in page
    assert all(f"v{i}" in page for i in range(4, 8))
    assert "nobody annotated instances" in page
    assert "<polyline" in page  # its snippet scores
    written = report_runs(trained / "run/detections.json", tmp_path / "file.html", data=labels_only)
    assert not written.evaluated
    copies = [tmp_path / f"copy{i}.json" for i in range(2)]
    for copy in copies:
        copy.write_text((trained / "run/detections.json").read_text())
    assert not report_runs([trained / "run", *copies], out, data=labels_only).evaluated
    page = out.read_text()
    assert "what more than half of the 3 runs find" in page
    assert "confidence 1" in page  # all three show the same
    assert out.with_name("segments.csv").exists()


def test_a_run_that_cannot_be_written_to_is_localized_elsewhere(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").symlink_to(trained / "run/config.yaml")
    (folder / "checkpoints").symlink_to(trained / "run/checkpoints")
    (folder / "scores").write_text("a file where a folder should be: whoever runs this may write everywhere")
    with pytest.raises(OSError, match="scores"):
        localize_run(folder)
    with pytest.warns(CoverageWarning, match="scores are not kept"):
        found = localize_run(folder, out=tmp_path / "out.json")
    assert found.path == tmp_path / "out.json"
    expected = load_detections(trained / "run/detections.json")
    assert isinstance(found.detections, Detections)
    assert found.detections.score.tolist() == expected.score.tolist()
    assert [s.video for s in found.scores] == ["v4", "v5", "v6", "v7"]


def test_localizing_again_from_scores_needs_no_features(trained: Path, tmp_path: Path) -> None:
    again = localize_run(
        trained / "run", from_scores=True, settings={"class_threshold": 0.0}, out=tmp_path / "a.csv"
    )
    assert len(load_detections(again.path)) == len(again.detections) > 0


def test_what_is_missing_is_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to report on"):
        report_runs([])
    with pytest.raises(InputError, match="the same run is named twice"):
        report_runs([trained / "run", trained / "run"])
    (tmp_path / "new").mkdir()
    (tmp_path / "new/config.yaml").symlink_to(trained / "run/config.yaml")
    with pytest.raises(InputError, match="no detections yet"):
        report_runs(tmp_path / "new")
    with pytest.raises(InputError, match="no data set"):
        report_runs(trained / "run/detections.json", tmp_path / "x.html")
