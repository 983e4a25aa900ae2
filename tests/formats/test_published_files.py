"""Files as the field distributes them: made here by hand with their quirks, and the real ones if present."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, InputError, Points, Video
from weaktal.core.npy import read_npy

REAL = Path(__file__).parents[3] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the public annotation files are not here")


def objects(values: list[object]) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


@pytest.mark.parametrize("text", [True, False], ids=["strings", "numbers"])
@pytest.mark.parametrize("bare", [True, False], ids=["database alone", "whole file"])
def test_activitynet_json(tmp_path: Path, text: bool, bare: bool) -> None:
    spans = [["18.6", "24.8"], ["29.1", "34.8"]] if text else [[18.6, 24.8], [29.1, 34.8]]
    database = {
        "v1": {
            "subset": "training",
            "annotations": [{"segment": s, "label": c} for s, c in zip(spans, "ba", strict=True)],
        },
        "v2": {"subset": "testing", "duration": "12.5", "annotations": []},
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(database if bare else {"version": 1.3, "taxomony": "", "database": database}))
    found = formats.load_annotations(path)
    assert found.classes == ("a", "b")
    assert found.videos["v1"].instances.start.tolist() == [18.6, 29.1]
    assert found.videos["v1"].instances.label.tolist() == [1, 0]
    assert found.videos["v1"].labels == (0, 1)
    assert found.videos["v2"].duration == 12.5


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", [bytes, str])
def test_wtalc_arrays(tmp_path: Path, protocol: int, kind: type) -> None:
    def name(x: str) -> object:
        return x.encode() if kind is bytes else x

    arrays = {
        "videoname": np.array([name("v1"), name("v2")]),
        "subset": np.array([name("validation"), name("test")]),
        "classlist": np.array([name("run"), name("jump")]),
        "duration": np.array([[20.0], [5.5]]),
        "extracted_fps": np.array([10, 10]),
        "segments": objects([[[0, 1.5], [2.0, 3.0]], []]),
        "labels": objects([[name("jump"), name("run")], []]),
        "labels_all": objects([[name("jump")], []]),
    }
    for key, array in arrays.items():
        with (tmp_path / f"{key}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            if array.dtype.hasobject:
                pickle.dump(array, file, protocol=protocol)
            else:
                file.write(array.tobytes())
    (tmp_path / "Ambiguous_test.txt").write_text("v2  0.5 1.5\n\nv2  2.0 2.5\nunknown  1 2\n")
    found = formats.load_annotations(tmp_path)
    assert found.classes == ("run", "jump")
    assert found.subsets == ("validation", "test")
    first, second = found
    assert (first.duration, first.fps) == (20.0, None)
    assert first.instances.end.tolist() == [1.5, 3.0]
    assert first.instances.label.tolist() == [1, 0]
    assert first.labels == (1,)
    assert second.ignored.tolist() == [[0.5, 1.5], [2.0, 2.5]]


def test_clicks_lose_the_boundaries_beside_them(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "class,class_index,start_frame,stop_frame,video_id,point\nrun,0,10,90,v1,45\n\njump,1,100,130,v1,115\n"
    )
    table = formats.load_points(tmp_path / "p.csv", fps=30.0)
    assert (table.video, table.label, table.time.tolist()) == (("v1", "v1"), ("run", "jump"), [1.5, 115 / 30])
    assert not {"start", "stop", "segment"} & set(vars(table))
    (tmp_path / "fps.json").write_text('{"v1": 30.0}')
    annotated = tmp_path / "gt.csv"
    annotated.write_text("video,label\nv1,run\nv1,jump\n")
    found = formats.load_annotations(annotated, points=tmp_path / "p.csv", fps=tmp_path / "fps.json")
    assert found.videos["v1"].points == Points([1.5, 115 / 30], [1, 0])
    assert len(found.videos["v1"].instances) == 0


def test_boundaries_in_frames_tell_the_frame_rate(tmp_path: Path) -> None:
    """ActivityNet's clicks come in frames and without a table of rates."""
    (tmp_path / "gt.csv").write_text("video,start,end,label\nv1,2,10,run\nv1,12,14,run\nv2,1,4,run\n")
    (tmp_path / "p.csv").write_text(
        "class,start_frame,stop_frame,video_id,point\nrun,300,350,v1,325\nrun,10,40,v2,20\nrun,1,2,other,1\n"
    )
    with pytest.warns(
        CoverageWarning, match="1 videos have clicks and no annotations, 1 clicks are left out"
    ):
        found = formats.load_annotations(tmp_path / "gt.csv", points=tmp_path / "p.csv")
    assert found.videos["v1"].points == Points([13.0], [0])
    assert found.videos["v2"].points == Points([2.0], [0])


def test_clicks_of_people_have_blank_lines_and_stray_spaces(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("v1,68.900356,Billiards\n\nv1,87.533185, Billiards\n")
    table = formats.load_points(tmp_path / "p.txt")
    assert (table.label, table.time.tolist()) == (("Billiards",) * 2, [68.900356, 87.533185])


@pytest.mark.parametrize(
    ("subsets", "train", "test"),
    [
        (("train", "test"), "train", "test"),
        (("training", "validation"), "training", "validation"),
        (("training", "validation", "testing"), "training", "validation"),
        (("validation", "test"), "validation", "test"),
        (("train", "val", "test"), "train", "val"),
        (("Train", "Test"), "Train", "Test"),
    ],
)
def test_every_spelling_of_subsets(subsets: tuple[str, ...], train: str, test: str) -> None:
    """Where there are three, the last is the withheld one: it has no labels."""
    labels = [(0,)] * min(len(subsets), 2) + [()]
    videos = [Video(s, subset=s, labels=c) for s, c in zip(subsets, labels, strict=False)]
    annotations = Annotations.of(["a"], videos)
    assert formats.subset_name(annotations, "train") == train
    assert formats.subset_name(annotations, "test") == test
    assert formats.subset_name(annotations, subsets[-1]) == (test if subsets[-1] == "test" else subsets[-1])


def test_one_subset_is_not_both_roles() -> None:
    annotations = Annotations.of(["a"], [Video("v", subset="validation", labels=(0,))])
    assert formats.subset_name(annotations, "test") == "validation"
    with pytest.raises(InputError, match="no video in this subset: found 'train'"):
        formats.subset_name(annotations, "train")


# --------------------------------------------------------------------------------- the real files


@real
@pytest.mark.parametrize(
    ("name", "videos", "instances", "classes", "subsets"),
    [
        ("thumos14/gt.json", 410, 6318, 20, {"train": 200, "test": 210}),
        ("thumos14/wtalc", 412, 6365, 20, {"validation": 200, "test": 212}),
        ("gtea/gt.json", 28, 497, 7, {"training": 21, "validation": 7}),
        ("gtea/gt_sfnet.json", 28, 497, 7, {"training": 21, "validation": 7}),
        ("gtea/wtalc", 28, 497, 7, {"training": 21, "validation": 7}),
        ("beoid/gt.json", 58, 742, 34, {"training": 46, "validation": 12}),
        ("beoid/gt_sfnet.json", 58, 742, 34, {"training": 46, "validation": 12}),
        ("beoid/wtalc", 58, 742, 34, {"training": 46, "validation": 12}),
        ("activitynet13/wtalc", 17999, 20749, 200, {"train": 9032, "val": 4427, "test": 4540}),
    ],
)
def test_real_annotations_load_and_come_back(
    tmp_path: Path, name: str, videos: int, instances: int, classes: int, subsets: dict[str, int]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        found = formats.load_annotations(REAL / name)
        for target in ("gt.json", "arrays"):
            formats.save_annotations(found, tmp_path / target)
            back = formats.load_annotations(tmp_path / target)
            assert (back.classes, list(back)) == (found.classes, list(found))
    assert (len(found), len(found.instance_table()), len(found.classes)) == (videos, instances, classes)
    assert {s: len(found.subset(s)) for s in found.subsets} == subsets
    if name == "thumos14/gt.json":
        assert len(found.subset("test").instance_table()) == 3311
    if name == "thumos14/wtalc":
        assert len(found.subset("test").instance_table()) == 3358


@real
@pytest.mark.parametrize(
    ("points", "count"),
    [
        ("thumos14/points/point_labels.csv", 3003),
        ("thumos14/points/THUMOS1.txt", 2980),
        ("thumos14/points/THUMOS2.txt", 2919),  # one of its 2,920 names a video that is not there
        ("thumos14/points/THUMOS3.txt", 3014),
        ("thumos14/points/THUMOS4.txt", 2986),
        ("gtea/points/point_gaussian.csv", 367),
        ("gtea/points/GTEA1.txt", 369),
        ("beoid/points/point_gaussian.csv", 594),
        ("beoid/points/BEOID1.txt", 589),
        ("activitynet13/points/point_gaussian.csv", 13904),
    ],
)
def test_real_clicks_load(points: str, count: int) -> None:
    folder = REAL / points.split("/")[0]
    source = folder / "gt.json" if (folder / "gt.json").exists() else folder / "wtalc"
    fps = folder / "fps.json" if (folder / "fps.json").exists() else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        found = formats.load_annotations(source, points=REAL / points, fps=fps)
    assert sum(len(v.points) for v in found if v.points is not None) == count
    said = " ".join(str(w.message) for w in caught)
    assert ("did you mean 'video_validation_0000945'?" in said) == points.endswith("THUMOS2.txt")


@real
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("thumos14/proposals/detection_result_base_test.json", 31587),
        ("thumos14/proposals/detection_result_base_train.json", 33895),
        ("activitynet13/sample_detection_prediction.json", 7654),
    ],
)
def test_real_detections_load_and_come_back(tmp_path: Path, name: str, count: int) -> None:
    found = formats.load_detections(REAL / name)
    assert len(found) == count
    for target in ("d.json", "d.csv"):
        formats.save_detections(found, tmp_path / target)
        assert formats.load_detections(tmp_path / target) == found


@real
def test_real_ambiguous_intervals_load() -> None:
    found = formats.load_ignored(REAL / "thumos14/wtalc/Ambiguous_test.txt")
    assert sum(map(len, found.values())) == 99
    assert found["video_test_0000278"].tolist() == [[0.0, 1.4], [95.7, 97.2]]


@real
def test_real_arrays_need_no_pickle_of_strangers() -> None:
    for path in sorted(REAL.glob("*/wtalc/*.npy")):
        ours, theirs = read_npy(path), np.load(path, allow_pickle=True)
        assert ours.dtype == theirs.dtype
        assert texts(ours.tolist()) == texts(theirs.tolist())


def texts(value: object) -> object:
    """Texts of Python 2 are bytes for us; NumPy guesses that they are ASCII."""
    if isinstance(value, list):
        return [texts(x) for x in value]
    return value.decode() if isinstance(value, bytes) else value
