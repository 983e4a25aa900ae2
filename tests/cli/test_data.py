"""`weaktal data`: what people see, what programs read, and exit code 2 for wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from weaktal import formats
from weaktal.cli import main
from weaktal.core import Annotations, Detections, Instances, Points, Video
from weaktal.features.store import FeatureStore

ANNOTATIONS = Annotations.of(
    ["run", "jump"],
    [
        Video("a", "train", 20.0, 30.0, Instances([1, 5], [2, 5], [0, 1]), Points([1.5], [0]), (0, 1)),
        Video("b", "test", 10.0, 30.0, Instances([1], [30], [0]), None, (0,), np.array([[1, 2]])),
        Video("c", "test", 10.0, 30.0, Instances([1], [3], [0]), None, (0,)),
    ],
)


pytestmark = pytest.mark.filterwarnings("ignore::weaktal.core.CoverageWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    formats.save_annotations(ANNOTATIONS, tmp_path / "gt.json")
    (tmp_path / "features").mkdir()
    for name, length in (("a", 40), ("b", 20), ("x", 30)):
        np.save(tmp_path / f"features/{name}.npy", np.ones((length, 4), np.float32))
    (tmp_path / "data.yaml").write_text("annotations: gt.json\nfeatures: {path: features, rate: 2}\n")
    return tmp_path


def test_inspect_a_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(folder / "data.yaml"), "--json", str(folder / "out.json")]) == 0
    text, about = capsys.readouterr().out, json.loads((folder / "out.json").read_text())
    for line in (
        "annotations: 3 videos, 4 instances, 2 classes, 1 clicks, 1 ambiguous intervals",
        "test: 2 videos, 2 instances",
        "taken as train: train, test: test",
        "! 1 videos with instances without length (a)",
        "! 1 videos with instances that end after the video (b)",
        "3 videos, 90 snippets, width 4, rate 2 snippets per second",
        "2 lengths held against durations: they imply 2 snippets per second",
        "coverage: 2 of 3 annotated videos have features; 1 without features: c; 1 with features and without",
        "! a reduced set of features",
    ):
        assert line in text, text
    assert about["kind"] == "dataset"
    assert about["coverage"]["without_features"] == ["c"]
    assert about["features"]["provenance"]["rate"] == 2
    assert about["annotations"]["roles"] == {"train": "train", "test": "test"}


def test_inspect_a_folder_of_features_beside_annotations(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "inspect", str(folder / "features"), "--annotations", str(folder / "gt.json")]
    assert main([*words, "--rate", "2"]) == 0
    text = capsys.readouterr().out
    assert "coverage: 2 of 3 annotated videos have features; 1 without features: c" in text
    assert "! a reduced set of features" in text


def test_inspect_features_names_the_cause(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "inspect", str(folder / "features"), "--annotations", str(folder / "gt.json")]
    assert main([*command, "--rate", "1.5625"]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 videos have another length than duration x rate" in text
    assert "the lengths imply 2 snippets per second" in text


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gt.json", "annotations"),
        ("d.json", "2 detections in 1 videos, 1 classes"),
        ("d.csv", "! 1 detections without length"),
        ("p.csv", "1 clicks in 1 videos"),
        ("p.txt", "1 clicks in 1 videos"),
        ("a.txt", "1 ambiguous intervals in 1 videos"),
        ("arrays", "2 classes"),
        ("gt.csv", "4 instances"),
    ],
)
def test_inspect_finds_out_what_a_file_is(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, line: str
) -> None:
    found = Detections(("a",), ("run",), [0, 0], [1, 2], [2, 2], [0, 0], [0.5, 0.25])
    formats.save_detections(found, folder / "d.json")
    formats.save_detections(found, folder / "d.csv")
    formats.save_annotations(ANNOTATIONS, folder / "arrays")
    formats.save_annotations(ANNOTATIONS, folder / "gt.csv")
    (folder / "p.csv").write_text("class,video_id,point\nrun,a,45\n")
    (folder / "p.txt").write_text("\na,1.5,run\n")
    (folder / "a.txt").write_text("a  1 2\n")
    assert main(["data", "inspect", str(folder / name)]) == 0
    assert line in capsys.readouterr().out


def test_convert_annotations_and_say_what_is_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "convert", str(folder / "gt.json"), str(folder / "arrays")]) == 0
    assert "not held by this format: clicks" in capsys.readouterr().out
    assert main(["data", "convert", str(folder / "gt.json"), str(folder / "t"), "--to", "csv"]) == 0
    assert (
        "not held by this format: the order of classes, clicks, ambiguous intervals"
        in capsys.readouterr().out
    )
    assert main(["data", "convert", str(folder / "gt.json"), str(folder / "copy.json")]) == 0
    assert "not held" not in capsys.readouterr().out
    back = formats.load_annotations(folder / "copy.json")
    assert (back.classes, list(back)) == (ANNOTATIONS.classes, list(ANNOTATIONS))


def test_convert_clicks(folder: Path) -> None:
    (folder / "p.txt").write_text("a,1.5,run\n")
    assert main(["data", "convert", str(folder / "p.txt"), str(folder / "p.csv"), "--fps", "30"]) == 0
    assert (folder / "p.csv").read_text() == "class,class_index,video_id,point\nrun,0,a,45\n"
    back = ["data", "convert", str(folder / "p.csv"), str(folder / "q.txt")]
    assert main([*back, "--annotations", str(folder / "gt.json")]) == 0
    assert (folder / "q.txt").read_text() == "a,1.5,run\n"


@pytest.mark.parametrize("to", ["pack", "safetensors", "npy"])
def test_convert_features(folder: Path, to: str) -> None:
    command = ["data", "convert", str(folder / "features"), str(folder / "new"), "--rate", "2", "--to", to]
    assert main(command) == 0
    store = FeatureStore.open(folder / "new")
    assert store.names == ("a", "b", "x")
    assert store.rate == (None if to == "npy" else 2)
    np.testing.assert_array_equal(store.load("a"), np.ones((40, 4)))
    assert main(command) == 2  # never over something that is there


@pytest.mark.parametrize("to", ["pack", "safetensors", "npy"])
def test_unsound_features_leave_nothing_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    np.save(folder / "features/x.npy", np.full((3, 4), np.nan, np.float32))
    before = sorted(folder.rglob("*"))
    command = ["data", "convert", str(folder / "features"), str(folder / "new"), "--rate", "2", "--to", to]
    assert main(command) == 2
    assert "x.npy: snippet 0: features that are not finite" in capsys.readouterr().err
    assert [p for p in sorted(folder.rglob("*")) if p.name != "new"] == before


def test_convert_keeps_two_streams_and_their_origin(folder: Path) -> None:
    from weaktal.features.store import write_video_features

    x = {"rgb": np.ones((3, 2)), "flow": np.zeros((3, 5))}
    write_video_features(
        folder / "ours/a.safetensors", x, rate=2.0, window=1.0, backbone="i3d", source_hash="ff"
    )
    assert main(["data", "convert", str(folder / "ours"), str(folder / "p")]) == 0
    assert main(["data", "convert", str(folder / "p"), str(folder / "q"), "--to", "safetensors"]) == 0
    before, after = (FeatureStore.open(folder / n) for n in ("ours", "q"))
    assert after.streams == before.streams == (2, 5)
    assert after.provenance == before.provenance


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["inspect", "nowhere"], "no such file or folder"),
        (["inspect", "empty.json"], "line 1, column 1: malformed JSON"),
        (
            ["inspect", "notes.md"],
            "notes.md: line 1: not a file that WeakTAL knows: found '# Notes, and more'",
        ),
        (["inspect", "other.json"], "neither annotations nor detections"),
        (["convert", "gt.json", "x.foo"], "the suffix names no format: found '.foo'"),
        (["convert", "gt.json", "x", "--to", "pack"], "no format for annotations: found 'pack'"),
        (["convert", "gt.json", "gt.json"], "source and target are the same"),
        (["convert", "data.yaml", "x"], "this is not converted: found dataset"),
        (["convert", "features", "x", "--to", "safetensors"], "the rate of these features is not known"),
        (["inspect", "features", "--rate", "-1"], "a rate is in snippets per second"),
    ],
)
def test_wrong_input_is_exit_code_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    Path("empty.json").touch()
    Path("notes.md").write_text("\n# Notes, and more\n")
    Path("other.json").write_text('{"a": 1}')
    before = sorted(p.name for p in folder.iterdir())
    assert main(["data", *command]) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before
