import numpy as np
import pytest

from weaktal.core import Detections


def some() -> Detections:
    return Detections(
        ("a", "b"), ("Run", "Jump"), [0, 1, 1], [0, 1, 2.5], [1, 3, 4], [0, 1, 0], [0.9, -1, 0.5]
    )


def test_rows_of_a_video() -> None:
    assert some().of("b").score.tolist() == [-1, 0.5]
    assert len(some().of("unknown")) == 0


def test_concatenate_joins_videos_by_name() -> None:
    other = Detections(("b", "c"), ("Run", "Jump"), [1, 0], [7, 8], [8, 9], [0, 0], [0.1, 0.2])
    both = Detections.concatenate([some(), other], ["Run", "Jump"])
    assert both.names == ("a", "b", "c")
    assert both.video.tolist() == [0, 1, 1, 2, 1]
    assert both.start.tolist() == [0, 1, 2.5, 7, 8]
    with pytest.raises(ValueError, match="classes"):
        Detections.concatenate([some()], ["Run"])


def test_concatenate_of_nothing_is_empty() -> None:
    assert len(Detections.concatenate([], ["Run"])) == 0
    assert Detections.concatenate([Detections.empty(["a"], ["Run"])], ["Run"]).names == ("a",)


def test_relabelled_drops_unknown_classes() -> None:
    moved = some().relabelled(["Jump"])
    assert moved.classes == ("Jump",)
    assert moved.label.tolist() == [0]
    assert moved.score.tolist() == [-1]


def test_masks_and_slices() -> None:
    assert some()[some().score > 0].score.tolist() == [0.9, 0.5]
    assert some()[1:].video.tolist() == [1, 1]
    assert some()[np.array([2, 0])].start.tolist() == [2.5, 0]


def test_pandas_has_names() -> None:
    pytest.importorskip("pandas")
    table = some().to_pandas()
    assert table["video"].tolist() == ["a", "b", "b"]
    assert table["label"].tolist() == ["Run", "Jump", "Run"]


@pytest.mark.parametrize(("video", "label"), [([2], [0]), ([-1], [0]), ([0], [2])])
def test_indices_must_be_in_range(video: list[int], label: list[int]) -> None:
    with pytest.raises(ValueError, match="range"):
        Detections(("a", "b"), ("x", "y"), video, [0], [1], label, [0])


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="length"):
        Detections(("a",), ("x",), [0], [0, 1], [1], [0], [0])
