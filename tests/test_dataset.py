"""The data set description: what it says, what it refuses, and who is covered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from weaktal import formats
from weaktal.core import InputError, Points
from weaktal.dataset import Dataset

DATABASE = {
    "a1": {"subset": "train", "annotations": [{"segment": ["1", "2"], "label": "run"}]},
    "a2": {"subset": "train", "annotations": [{"segment": [0, 3], "label": "jump"}]},
    "b1": {"subset": "test", "annotations": [{"segment": [2, 4], "label": "run"}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gt.json").write_text(json.dumps({"database": DATABASE}))
    for name in ("a1", "b1", "extra"):
        path = tmp_path / "features" / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.ones((8, 4), np.float32))
    return tmp_path


def load(folder: Path, text: str) -> Dataset:
    folder.mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(text)
    return Dataset.load(folder / "data.yaml")


def test_everything_that_a_description_can_say(folder: Path) -> None:
    (folder / "points").mkdir()
    (folder / "points/p.csv").write_text("class,start_frame,stop_frame,video_id,point\nrun,25,50,a1,40\n")
    (folder / "fps.json").write_text('{"a1": 20}')
    (folder / "durations.json").write_text('{"a1": 5.5}')
    (folder / "ambiguous.txt").write_text("b1  0.0 1.0\n")
    data = load(
        folder,
        """
        name: mine
        annotations: gt.json
        subsets: {train: train, test: test}
        classes: [run, jump, wave]
        points: points/p.csv
        fps: fps.json
        durations: durations.json
        ignore: ambiguous.txt
        features: {path: features, rate: 2}
        protocol: integer-grid
        """,
    )
    assert (data.name, data.protocol, data.classes) == ("mine", "integer-grid", ("run", "jump", "wave"))
    first = data.subset("train").videos["a1"]
    assert (first.fps, first.duration, first.points) == (20, 5.5, Points([2.0], [0]))
    assert data.subset("train").videos["a2"].instances.label.tolist() == [1]
    assert data.subset("test").videos["b1"].ignored.tolist() == [[0, 1]]
    assert (data.store.rate, data.store.dim) == (2, 4)
    assert data.store.axis("b1").end == 4


def test_little_is_enough(folder: Path) -> None:
    data = load(folder, "annotations: gt.json\nfeatures: features\n")
    assert (data.name, data.protocol) == ("data", "activitynet")
    assert data.classes == ("jump", "run")
    assert list(data.subset("test").videos) == ["b1"]


def test_features_alone_are_a_data_set(folder: Path) -> None:
    data = load(folder, "features: {path: features, rate: 1.5625}")
    assert data.annotations is None
    assert data.store.names == ("a1", "b1", "extra")
    with pytest.raises(InputError, match="this data set has no annotations"):
        data.subset("test")


def test_a_rate_in_frames_sets_the_middle_of_a_window(folder: Path) -> None:
    """ActionFormer's THUMOS14 features: 30 fps, 16 frames every 4."""
    data = load(folder, "features: {path: features, fps: 30, stride: 4, window: 16}")
    assert (data.store.rate, data.store.offset) == (7.5, 0.2)
    # the first snippet sees the frames 0 to 16: its row is centred at 8 frames
    assert data.store.axis("a1").centers()[0] == pytest.approx(8 / 30)


def test_who_is_covered(folder: Path) -> None:
    data = load(folder, "annotations: gt.json\nfeatures: {path: features, rate: 1}")
    found = data.coverage()
    assert (found.usable, found.without_features, found.without_annotations) == (
        ("a1", "b1"),
        ("a2",),
        ("extra",),
    )
    assert str(found) == (
        "2 of 3 annotated videos have features; 1 without features: a2; "
        "1 with features and without annotations: extra"
    )
    assert found.as_dict()["usable"] == 2
    assert data.coverage("test").without_features == ()


def test_a_joint_array_beside_annotation_arrays(folder: Path) -> None:
    formats.save_annotations(formats.load_annotations(folder / "gt.json"), folder / "arrays")
    joint = np.empty(3, object)
    for i in range(3):
        joint[i] = np.full((i + 1, 4), i, np.float32)
    np.save(folder / "I3D-JOINTFeatures.npy", joint, allow_pickle=True)
    data = load(folder, "annotations: arrays\nfeatures: {path: I3D-JOINTFeatures.npy, rate: 1}")
    assert data.store.load("b1").tolist() == [[2] * 4] * 3


def test_subsets_as_lists_of_names(folder: Path) -> None:
    (folder / "split_train.txt").write_text("a2\nb1\n\n")
    data = load(folder, "annotations: gt.json\nsubsets: {train: split_train.txt, test: test}")
    assert list(data.subset("train").videos) == ["a1", "a2", "b1"]


def test_a_list_replaces_the_subset_of_the_file(folder: Path) -> None:
    (folder / "split_test.txt").write_text("a2\n")
    data = load(folder, "annotations: gt.json\nsubsets: {test: split_test.txt}")
    assert "a2" not in data.subset("train").videos
    assert list(data.subset("test").videos) == ["a2", "b1"]


def test_videos_of_one_prefix(folder: Path) -> None:
    for path in (folder / "features").glob("*.npy"):
        path.rename(path.with_name(f"v_{path.name}"))
    text = "annotations: gt.json\nfeatures: {path: features, rate: 1"
    with pytest.raises(InputError, match=r"no annotated video has features: found 'v_a1'.*add 'prefix: v_'"):
        load(folder, text + "}").store  # noqa: B018
    assert load(folder, text + ", prefix: v_}").coverage().usable == ("a1", "b1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anotations: gt.json", r"data\.yaml: unknown key: found 'anotations'.*did you mean 'annotations'\?"),
        ("features: {path: features, rat: 3}", r"features: unknown key: found 'rat'.*did you mean 'rate'\?"),
        ("annotations: gt.json\nsubsets: {dev: train}", r"subsets: unknown key: found 'dev'"),
        (
            "annotations: gt.json\nsubsets: {test: tset}",
            r"subsets\.test: .*found 'tset'.*did you mean 'test'\?",
        ),
        ("annotations: gt.json\nsubsets: train", r"subsets: expected a mapping"),
        ("annotations: gt.json\nsubsets: {test: missing.txt}", r"missing\.txt: no such file"),
        ("annotations: missing.json", r"missing\.json: no such file"),
        ("annotations: [gt.json]", r"annotations: expected a path"),
        ("annotations: gt.json\nclasses: [run]", r"not listed: found 'jump'"),
        ("points: p.csv", r"'points' needs 'annotations'"),
        ("features: {rate: 2}", r"features: expected a path"),
        ("features: {path: features, rate: fast}", r"features\.rate: expected a number: found 'fast'"),
        ("features: {path: features, fps: 25}", r"given as 'rate', or as 'fps' and 'stride'"),
        ("features: {path: features, window: 16}", r"'window' needs 'fps' and 'stride'"),
        ("features: {path: features, fps: 25, stride: 0}", r"must be positive"),
        ("a: [1", r"line 1, column 7: malformed YAML|malformed YAML"),
        ("just words", r"not a data set description: found str"),
        ("", r"not a data set description: found NoneType"),
    ],
)
def test_what_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder, text)


def test_an_unknown_video_in_a_list(folder: Path) -> None:
    (folder / "split.txt").write_text("a1\na22\n")
    with pytest.raises(
        InputError, match=r"split\.txt: line 2: unknown video: found 'a22'; did you mean 'a2'\?"
    ):
        load(folder, "annotations: gt.json\nsubsets: {train: split.txt}")


def test_an_empty_subset(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"no video in this subset: found 'val', expected one of 'train', 'test'"
    ):
        load(folder, "annotations: gt.json").subset("val")


def test_features_are_opened_when_asked_for(folder: Path) -> None:
    """Evaluation needs no features, and must not fail for want of them."""
    data = load(folder, "annotations: gt.json\nfeatures: nowhere")
    assert len(data.subset("test")) == 1
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        data.store  # noqa: B018
    with pytest.raises(InputError, match="this data set has no features"):
        load(folder, "annotations: gt.json").store  # noqa: B018


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["data.md", "datasets.md"])
def test_descriptions_in_the_documentation_are_understood(folder: Path, page: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        with pytest.raises(InputError, match=r"(gt\.json|wtalc).*: no (such file|annotations)"):
            load(folder / "empty", block)
