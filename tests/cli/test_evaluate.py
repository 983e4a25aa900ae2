"""`weaktal evaluate` as a person runs it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from weaktal.cli import main
from weaktal.cli.options import thresholds

DATA = Path(__file__).parents[3] / "shared/data/thumos14"
BASE = DATA / "proposals/detection_result_base_test.json"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real annotations are not here")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two test videos and one training video, all found."""
    database = {
        name: {
            "subset": subset,
            "duration": 60.0,
            "annotations": [
                {"segment": [0.0, 6.4], "label": "Jump"},
                {"segment": [12.8, 25.6], "label": "Wave"},
            ],
        }
        for name, subset in (("walk_1", "test"), ("walk_2", "test"), ("walk_3", "train"))
    }
    truth = tmp_path / "gt.json"
    truth.write_text(json.dumps({"database": database}))
    results = {
        name: [{**a, "score": 1 - 0.1 * i} for i, a in enumerate(video["annotations"])]  # type: ignore[arg-type]
        for name, video in database.items()
    }
    found = tmp_path / "found.json"
    found.write_text(json.dumps({"results": results}))
    return str(found), str(truth)


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_table_and_json(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = files
    out = tmp_path / "metrics.json"
    assert main(["evaluate", found, "--ground-truth", truth, "--json", str(out), "--per-class"]) == 0
    text = capsys.readouterr().out
    assert "subset test: 2 of 2 annotated videos" in text
    assert "activitynet v1 100.00 100.00" in text
    assert "Jump" in text
    stored = json.loads(out.read_text())
    assert stored["protocol"] == "activitynet"
    assert stored["average_mAP"] == 1
    assert stored["detections"] == 4
    assert len(stored["annotation_sha256"]) == 64


def test_all_protocols(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = files
    out = tmp_path / "metrics.json"
    arguments = ["--protocol", "all", "--tiou", "0.5:0.9:0.2", "--snap", "--json", str(out)]
    assert main(["evaluate", found, "--ground-truth", truth, *arguments]) == 0
    assert "The protocol alone moves" in capsys.readouterr().out
    stored = json.loads(out.read_text())["protocols"]
    assert list(stored) == ["activitynet", "wtalc", "wtalc-raw", "integer-grid", "integer-grid-wtalc"]
    assert stored["wtalc"]["tiou"] == [0.5, 0.7, 0.9]


def test_data_set_names_subset_and_protocol(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = files
    data = tmp_path / "data.yaml"
    data.write_text("annotations: gt.json\nsubsets: {test: train}\nprotocol: wtalc\n")
    assert main(["evaluate", found, "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert "subset train: 1 of 1" in text
    assert "wtalc v1" in text


def test_ignored_intervals(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, truth = files
    ignore = tmp_path / "Ambiguous_test.txt"
    ignore.write_text("walk_1  13.0 20.0\n")
    assert main(["evaluate", found, "--ground-truth", truth, "--ignore", str(ignore)]) == 0
    assert "1 removed in ambiguous intervals" in capsys.readouterr().out


def test_coverage_is_said(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = files
    edit(found, '"walk_2"', '"walk_22"')
    assert main(["evaluate", found, "--ground-truth", truth]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 annotated videos" in text
    assert "all missed: 1 video (walk_2)" in text
    assert "2 detections are false positives: 1 video (walk_22) (did you mean 'walk_2'?)" in text


@pytest.mark.parametrize(
    ("change", "extra", "message"),
    [
        (("Wave", "Wavee"), [], "did you mean 'Wave'?"),
        (("walk_", "run"), [], "no detection lies in an annotated video"),
        (None, ["--subset", "validaton"], "no video in this subset"),
        (None, ["--protocol", "activitynt"], "did you mean 'activitynet'?"),
        (None, ["--tiou", "0.1-0.7"], "no tIoU thresholds"),
        (None, ["--ignore", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_bad_input(  # type: ignore[no-untyped-def]
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], change, extra, message
) -> None:
    found, truth = files
    if change:
        edit(found, *change)
    out = tmp_path / "metrics.json"
    assert main(["evaluate", found, "--ground-truth", truth, "--json", str(out), *extra]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_missing_files(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = files
    assert main(["evaluate", "nowhere.json", "--ground-truth", truth]) == 2
    assert "nowhere.json" in capsys.readouterr().err
    assert main(["evaluate", found, "--ground-truth", "nowhere.json"]) == 2
    assert main(["evaluate", found, "--data", "nowhere.yaml"]) == 2


@pytest.mark.parametrize("text", ["", "0.5:0.1", "0.1:0.7:0", "0:1:0.5", "a,b", "0.9:0.1:0.1", "1.5"])
def test_bad_thresholds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        thresholds(text)


def test_thresholds_are_the_decimal_ones() -> None:
    assert thresholds("0.5:0.95:0.05")[3] == 0.65
    assert len(thresholds("0.5:0.95:0.05")) == 10
    assert thresholds("0.5,0.75") == (0.5, 0.75)


def test_starts_without_torch(files: tuple[str, str]) -> None:
    found, truth = files
    code = (
        "import sys; from weaktal.cli import main;"
        f"code = main(['evaluate', {found!r}, '--ground-truth', {truth!r}]);"
        "heavy = {'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'{heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@real
@pytest.mark.parametrize(
    ("truth", "protocol", "expected"),
    [
        ("gt.json", "activitynet", "69.09 63.13 54.24 44.59 33.94 23.28 12.47     42.96"),
        ("wtalc", "wtalc", "68.06 62.84 53.99 45.51 36.34 24.69 12.33     43.39"),
    ],
)
def test_real_detections(
    truth: str, protocol: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(DATA / truth)
    arguments = ["evaluate", str(BASE), "--ground-truth", path, "--subset", "test", "--protocol", protocol]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    if protocol == "activitynet" and expected not in text:  # equal overlaps on a processor without AVX2
        expected = "69.10 63.13 54.24 44.59 33.94 23.28 12.47     42.96"
    assert expected in text
