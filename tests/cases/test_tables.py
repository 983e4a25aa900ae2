"""Tables as people keep them: small inputs with known right outcomes, and the cases folder where it is."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from weaktal import formats
from weaktal.cli import main
from weaktal.core import CoverageWarning, InputError
from weaktal.dataset import Dataset
from weaktal.files.evaluation import evaluate_detections
from weaktal.files.kinds import kind_of

CASES = Path(__file__).parents[3] / "shared/cases/tables"
original = pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")

GT = {
    "aa": {
        "subset": "validation",
        "duration": 60.0,
        "annotations": [
            {"segment": [5, 15], "label": "open door"},
            {"segment": [30, 40], "label": "close door"},
        ],
    },
    "bb": {
        "subset": "validation",
        "duration": 60.0,
        "annotations": [{"segment": [10, 20], "label": "open door"}],
    },
    "cc": {"subset": "training", "duration": 60.0, "annotations": [{"segment": [0, 10], "label": "pour"}]},
}
GOOD = {
    "aa": [
        {"segment": [5, 14], "label": "open door", "score": 0.9},
        {"segment": [31, 41], "label": "close door", "score": 0.8},
        {"segment": [50, 55], "label": "open door", "score": 0.7},
    ],
    "bb": [{"segment": [12, 22], "label": "open door", "score": 0.6}],
}
JUGGLE = {"segment": [1, 5], "label": "juggle", "score": 0.99}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gt.json").write_text(json.dumps({"database": GT}))
    bare = {k: {x: y for x, y in v.items() if x != "subset"} for k, v in GT.items()}
    (tmp_path / "gt_nosub.json").write_text(json.dumps({"database": bare}))
    (tmp_path / "good.json").write_text(json.dumps({"results": GOOD}))
    (tmp_path / "unknown.json").write_text(json.dumps({"results": {**GOOD, "bb": [*GOOD["bb"], JUGGLE]}}))
    (tmp_path / "twice.json").write_text('{"results": {"aa": [], "bb": [], "aa": []}}')
    return tmp_path


def test_good_detections(folder: Path) -> None:
    found = evaluate_detections(folder / "good.json", ground_truth=folder / "gt.json").result
    assert 100 * found.at(0.5) == pytest.approx(91.67, abs=0.005)
    assert 100 * found.average == pytest.approx(89.29, abs=0.005)


@pytest.mark.parametrize("subset", ["test", "train", "whatever"])
def test_without_any_subset_everything_is_the_one_asked_for(folder: Path, subset: str) -> None:
    found = evaluate_detections(
        folder / "good.json", ground_truth=folder / "gt_nosub.json", subset=subset
    ).result
    assert found.coverage.annotated == 3
    assert 100 * found.at(0.5) == pytest.approx(100 * (5 / 6 + 1 + 0) / 3)
    (folder / "gt.csv").write_text("video,start,end,label\naa,5,15,open door\nbb,10,20,open door\n")
    table = evaluate_detections(folder / "good.json", ground_truth=folder / "gt.csv", subset=subset).result
    assert (table.coverage.annotated, table.instances) == (2, 2)


def test_an_unknown_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "evaluate",
        str(folder / "unknown.json"),
        "--ground-truth",
        str(folder / "gt.json"),
        "--tiou",
        "0.5",
    ]
    assert main([*command, "--json", str(folder / "m.json")]) == 0
    said = capsys.readouterr().out
    assert "91.67" in said
    assert "'juggle' (1)" in said
    assert "juggle" in json.loads((folder / "m.json").read_text())["notes"][0]
    assert main([*command, "--strict"]) == 2
    assert "'juggle' (1 detections)" in capsys.readouterr().err


def test_a_video_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder / "twice.json"), "--ground-truth", str(folder / "gt.json")]) == 2
    said = capsys.readouterr().err
    assert "'aa'" in said
    assert said.count("\n") == 1
    (folder / "gt.json").write_text('{"database": {"a": {"annotations": [{"start": 1, "start": 2}]}}}')
    with pytest.raises(InputError, match="listed twice in one object: found 'start'"):
        formats.load_annotations(folder / "gt.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'video,start,end,label\naa,5,15,"open door\nbb,1,2,close\ncc,3,4,close\n',
            "line 2: a quote that is never",
        ),
        ('video,start,end,label\naa,5,15,"open\nbb,1,2,close"\n', "line 2: a quote that is never closed"),
        ('video,start,end,label\naa,5,15,"open" door\n', "line 2: quotes that cannot be read"),
        ("video,subset,start,end,label\n,test,5,15,open door\n", "line 2: a video without a name"),
        ("video,start,end,label\naa,5,15\n", "line 2: a row of another width.*3 columns, delimited by comma"),
        ("video|label\naa|run\n", r"no column 'video': found video\|label, delimited by comma"),
        ("video;start;end\naa;1;2\n", "no column 'label'.*delimited by semicolon"),
        ("video,label,Label\naa,run,jump\n", "two columns of one name: found 'label'"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        formats.load_annotations(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        "Video,Subset,Start,End,Label\naa,test,5.5,15.25,open door\n",
        "\ufeffvideo;subset;start;end;label\naa;test;5,5;15,25;open door\n",
        "video\tsubset\tstart\tend\tlabel\naa\ttest\t5.5\t15.25\topen door\n",
        "\n\nVIDEO ID, split, T-Start, t end, CLASS\n\naa, test, 5.5, 15.25, open door\n,,,,\n",
        "video,subset,start,end,label\r\naa,test,5.5,15.25,open door,,\r\n",
        '"video","subset","start","end","label"\n"aa","test","5.5","15.25","open door"\n',
    ],
)
def test_tables_of_all_kinds(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, newline="")
    found = formats.load_annotations(tmp_path / "t.csv")
    video = found.videos["aa"]
    assert (found.classes, video.subset) == (("open door",), "test")
    assert (video.instances.start.tolist(), video.instances.end.tolist()) == ([5.5], [15.25])


def test_clicks_with_a_header(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    for header in ("video,seconds,class\n", "Video, Time, Label\n", ""):
        path.write_text(header + "k1,5.55,saw\nk2,2.2,glue\n")
        assert kind_of(path) == "points"
        table = formats.load_points(path)
        assert (table.video, table.time.tolist(), table.label) == (("k1", "k2"), [5.55, 2.2], ("saw", "glue"))


def accents(folder: Path, encoding: str) -> Path:
    """Arrays as Python 2 wrote them: bytes of a file in that encoding."""
    formats.save_annotations(
        formats.load_annotations(_table(folder, "video,subset,start,end,label\nw1,test,3,9,Jeté\n")),
        folder / "w",
    )
    name = "Jeté".encode(encoding)
    np.save(folder / "w/classlist.npy", np.array([name]))
    for array in ("labels", "labels_all"):
        value = np.empty(1, object)
        value[0] = [name]
        np.save(folder / f"w/{array}.npy", value, allow_pickle=True)
    return folder / "w"


def _table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_accents_in_arrays_of_python_2(tmp_path: Path, encoding: str) -> None:
    found = formats.load_annotations(accents(tmp_path, encoding))
    assert found.classes == ("Jeté",)
    assert found.videos["w1"].labels == (0,)


def test_a_class_that_both_arrays_have_and_the_list_lacks(tmp_path: Path) -> None:
    folder = accents(tmp_path, "utf-8")
    np.save(folder / "classlist.npy", np.array([b"Saut"]))
    with pytest.warns(CoverageWarning, match=r"classlist\.npy: 1 classes .* come last: Jeté"):
        assert formats.load_annotations(folder).classes == ("Saut", "Jeté")


# ---------------------------------------------------------------------------------------- data sets


def clicks(folder: Path, factor: float = 1.0, *, duration: bool = True, extra: str = "") -> Path:
    """Two videos of 25.6 s, whose clicks are times this factor."""
    database = {}
    rows = []
    for i in range(4):
        name = f"v{i}"
        np.save(folder / f"{name}.npy", np.ones((40, 3), np.float32))
        database[name] = {
            "subset": "train" if i < 2 else "test",
            "annotations": [{"segment": [13.4 + i, 16.0 + i], "label": "saw"}],
        } | ({"duration": 25.6} if duration else {})
        rows.append(f"{name},{(14.72 + i) * factor},saw\n")
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "points.txt").write_text("".join(rows))
    (folder / "data.yaml").write_text(
        f"annotations: gt.json\npoints: points.txt\nfeatures: {{path: ., rate: 1.5625}}\n{extra}"
    )
    return folder / "data.yaml"


@pytest.mark.parametrize(
    ("factor", "duration", "extra", "unit"),
    [
        (25.0, True, "", "as frames, at 25 frames per second and others"),
        (25.0, False, "", "as frames, at 25 frames per second"),
        (30.0, True, "fps: 30\n", "as frames at the videos' own frame rates"),
        (1000.0, True, "", "as milliseconds"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "train"])
def test_clicks_in_another_unit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    duration: bool,
    extra: str,
    unit: str,
    command: str,
) -> None:
    data = str(clicks(tmp_path, factor, duration=duration, extra=extra))
    arguments = {"inspect": ["data", "inspect", data], "train": ["train", "lac", "--data", data, "--out"]}[
        command
    ]
    if command == "train":
        arguments.append(str(tmp_path / "run"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "4 of 4 clicks lie beyond the end of their videos" in said
    assert unit in said
    assert not (tmp_path / "run/config.yaml").exists()


def test_clicks_in_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(clicks(tmp_path))]) == 0
    assert "beyond" not in capsys.readouterr().out


def test_one_click_beyond_is_said_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clicks(tmp_path)
    with (tmp_path / "points.txt").open("a") as file:
        file.write("v0,99,saw\n")
    assert main(["data", "inspect", str(data)]) == 0
    assert "! 1 of 5 clicks lie beyond the end of their videos" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_however_their_accents_are_stored(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    named, annotated = (unicodedata.normalize(f, "café 1") for f in (form, other))
    (tmp_path / "features").mkdir()
    np.save(tmp_path / f"features/{named}.npy", np.ones((30, 3), np.float32))
    database = {
        annotated: {
            "subset": "train",
            "duration": 19.2,
            "annotations": [{"label": "pour", "segment": [1, 4]}],
        }
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "p.txt").write_text(f"{named},2.0,pour\n")
    (tmp_path / "durations.json").write_text(json.dumps({named: 19.0}))
    (tmp_path / "train.txt").write_text(f"{named}\n")
    (tmp_path / "d.yaml").write_text(
        "annotations: gt.json\npoints: p.txt\ndurations: durations.json\nsubsets: {train: train.txt}\n"
        "features: {path: features, rate: 1.5625}\n"
    )
    data = Dataset.load(tmp_path / "d.yaml")
    assert data.annotations is not None
    video = data.annotations.videos[annotated]
    assert (video.duration, video.points and len(video.points)) == (19.0, 1)
    assert data.coverage("train").usable == (annotated,)
    assert data.coverage().without_annotations == ()
    assert data.store.load(annotated).shape == (30, 3)


def test_two_files_whose_names_look_alike(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        np.save(tmp_path / f"{unicodedata.normalize(form, 'é')}.npy", np.ones((3, 2)))
    from weaktal.features.store import FeatureStore

    store = FeatureStore.open(tmp_path, 1.0)
    with pytest.raises(InputError, match="differ only in how accents are stored"):
        store.load("é")


def test_prefix_and_suffix(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    for name in ("a", "b"):
        np.save(tmp_path / f"features/v_{name}_i3d.npy", np.ones((30, 3), np.float32))
    (tmp_path / "gt.json").write_text(json.dumps({"database": {n: {"annotations": []} for n in "ab"}}))
    text = "annotations: gt.json\nfeatures: {path: features, rate: 1.5625, PARTS}\n"
    (tmp_path / "d.yaml").write_text(text.replace("PARTS", "prefix: v_, suffix: _i3d"))
    assert Dataset.load(tmp_path / "d.yaml").coverage().usable == ("a", "b")
    (tmp_path / "d.yaml").write_text(text.replace(", PARTS", ""))
    with pytest.raises(InputError, match="add 'prefix: v_, suffix: _i3d' under features"):
        _ = Dataset.load(tmp_path / "d.yaml").store


def test_prefix_of_detections(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "v.json").write_text(json.dumps({"results": {f"v_{k}": v for k, v in GOOD.items()}}))
    command = ["evaluate", str(folder / "v.json"), "--ground-truth", str(folder / "gt.json"), "--tiou", "0.5"]
    assert main(command) == 2
    assert "--prefix v_" in capsys.readouterr().err
    assert main([*command, "--prefix", "v_"]) == 0
    assert "91.67" in capsys.readouterr().out


def test_a_video_in_both_lists_of_subsets(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps({"database": {n: {"annotations": []} for n in "abc"}}))
    for name, text in (("train.txt", "a\nb\n"), ("test.txt", "c\nb\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "d.yaml").write_text("annotations: gt.json\nsubsets: {train: train.txt, test: test.txt}\n")
    with pytest.raises(InputError, match=r"test\.txt: line 2: a video is in both subsets.*'b'"):
        Dataset.load(tmp_path / "d.yaml")


def test_training_and_testing_on_everything_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clicks(tmp_path)
    text = (tmp_path / "gt.json").read_text()
    (tmp_path / "gt.json").write_text(
        text.replace('"subset": "train", ', "").replace('"subset": "test", ', "")
    )
    assert main(["data", "inspect", str(data)]) == 0
    assert "! 4 videos are trained on and tested on" in capsys.readouterr().out


# --------------------------------------------------------------------------------- the files themselves


@original
def test_the_original_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file of the folder is read, or refused in one line that says why."""
    right = {
        "caps.csv": 0,
        "gt.csv": 0,
        "semi.csv": 0,
        "noname.csv": "line 2",
        "quote.csv": "line 2",
        "sfnet-with-header.txt": 0,
        "clicks-in-frames": "as frames, at 25 frames per second",
        "names-nfd": 0,
        "w-talc-accents-latin1": 0,
        "w-talc-accents-utf8": 0,
        "evaluate": 0,
    }
    listed = {p.name for p in CASES.iterdir()}
    assert listed <= right.keys(), "a case without its right outcome"
    for name in sorted(listed - {"evaluate"}):
        path = tmp_path / name
        (shutil.copytree if (CASES / name).is_dir() else shutil.copy)(CASES / name, path)
        if name == "names-nfd":
            (path / "nfd").mkdir()
            for file in path.glob("*.npy"):
                file.rename(path / "nfd" / file.name)
        descriptions = sorted(path.glob("*.yaml")) if path.is_dir() else []
        code = main(["data", "inspect", str(descriptions[0] if descriptions else path)])
        said = capsys.readouterr()
        expected = right[name]
        assert code == (2 if isinstance(expected, str) else 0), f"{name}: {said.err}"
        if isinstance(expected, str):
            assert expected in said.err
            assert said.err.count("\n") == 1
        if name == "names-nfd":
            assert "coverage: 3 of 3 annotated videos have features" in said.out
        if "sfnet" in name:
            assert "2 clicks in 2 videos" in said.out
        if "accents" in name:
            assert "Jeté" in formats.load_annotations(path).classes


@original
@pytest.mark.parametrize(
    ("detections", "truth", "expected"),
    [
        ("good.json", "gt.json", 91.67),
        ("unknown_class.json", "gt.json", 91.67),
        ("twice.json", "gt.json", None),
        ("good.json", "gt_nosub.json", 61.11),
    ],
)
def test_the_original_detections(
    capsys: pytest.CaptureFixture[str], detections: str, truth: str, expected: float | None
) -> None:
    folder = CASES / "evaluate"
    code = main(
        ["evaluate", str(folder / detections), "--ground-truth", str(folder / truth), "--tiou", "0.5"]
    )
    assert code == (2 if expected is None else 0)
    assert expected is None or f"{expected:.2f}" in capsys.readouterr().out
