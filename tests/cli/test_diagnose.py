"""`weaktal diagnose` and intervals as a person asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weaktal
from weaktal.cli import main

SHARED = Path(__file__).parents[3] / "shared/data/thumos14"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Ground truth of four videos, good detections, and some that find the second half only."""
    database, good, half = {}, {}, {}
    for v in range(4):
        rows = [{"segment": [10.0 * i, 10.0 * i + 4 + i], "label": "ab"[i % 2]} for i in range(4)]
        database[f"v{v}"] = {"subset": "test", "duration": 60.0, "annotations": rows}
        good[f"v{v}"] = [{**r, "score": 0.9 - 0.1 * i - 0.01 * v} for i, r in enumerate(rows)]
        half[f"v{v}"] = [{"segment": [50.0, 55.0], "label": "a", "score": 1.0}, *good[f"v{v}"][2:]]
    paths = tmp_path / "gt.json", tmp_path / "good.json", tmp_path / "half.json"
    for path, content in zip(
        paths, ({"database": database}, {"results": good}, {"results": half}), strict=True
    ):
        path.write_text(json.dumps(content))
    return paths


def test_tables_page_and_json(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, good, half = files
    page, plain = truth.with_name("page.html"), truth.with_name("out.json")
    words = ["diagnose", half, "--ground-truth", truth, "--against", good, "--out", page, "--json", plain]
    assert main([str(w) for w in words]) == 0
    shown = capsys.readouterr().out
    assert "12 detections, 16 instances, 2 classes" in shown
    assert "background" in shown
    assert "8 kept, 8 repaired, 0 broken, 0 missed" in shown
    found = json.loads(plain.read_text())
    assert found["kinds"]["0.5"]["background"] == 4
    assert found["repair"]["missed"] > 0
    assert found["comparison"]["broken"] == 0
    assert found["seconds"]["missed"]["all classes"] > 0
    html = page.read_text()
    assert "good.json" in html
    assert "http" not in html.replace("http://www.w3.org", "")  # nothing is fetched


def test_the_function_takes_what_is_in_memory(files: tuple[Path, Path, Path]) -> None:
    truth, good, _ = files
    found = weaktal.diagnose(
        weaktal.load_detections(good), ground_truth=weaktal.load_annotations(truth), tiou=(0.5, 0.75)
    )
    assert found.diagnosis.average_map == 1
    assert set(found.diagnosis.sensitivity()) == {"coverage", "length", "instances"}
    assert found.confusion.counts[:-1, -1].sum() == 0


def test_bad_input(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, good, _ = files
    for words, said in (
        (["--tiou", "0.05"], "between 0.1 and 1"),
        (["--subset", "tset"], "did you mean"),
        (["--buckets", "thumos"], "invalid choice"),
    ):
        assert main(["diagnose", str(good), "--ground-truth", str(truth), *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_intervals(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, good, half = files
    plain = truth.with_name("out.json")
    words = [
        "evaluate",
        half,
        "--ground-truth",
        truth,
        "--intervals",
        "200",
        "--against",
        good,
        "--json",
        plain,
    ]
    assert main([str(w) for w in words]) == 0
    shown = capsys.readouterr().out
    assert "95 % interval" in shown
    assert "95 % difference" in shown
    found = json.loads(plain.read_text())
    assert found["intervals"]["average"]["n"] == 200
    assert found["differences"]["average"]["low"] > 0


@pytest.mark.skipif(not SHARED.exists(), reason="needs the public detections in ../shared/data")
def test_the_real_base_detections(capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers of docs/diagnosis.md."""
    base = SHARED / "proposals/detection_result_base_test.json"
    words = ["diagnose", base, "--ground-truth", SHARED / "gt.json", "--buckets", "thumos14", "--tiou", "0.5"]
    assert main([str(w) for w in words]) == 0
    shown = capsys.readouterr().out
    assert "average mAP 34.10, normalised 36.02" in shown
