from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from weaktal.core import Annotations, InputError, Instances, Points, Video, WeakLabels

VIDEOS = [
    Video("a", "train", 10.0, None, Instances([1.25, 5], [2.5, 6], [1, 0]), Points([2, 5.5], [1, 0]), (1, 0)),
    Video("b", "test", 20.0, None, Instances([3], [4], [2]), None, (2,), np.array([[7.0, 8.0]])),
]


@pytest.fixture
def annotations() -> Annotations:
    return Annotations.of(["Run", "Jump", "Kick"], VIDEOS)


def numbers_in(value: object) -> set[float]:
    """Every number that can be reached from an object through its attributes."""
    if isinstance(value, np.ndarray | list | tuple):
        return set().union(*(numbers_in(v) for v in value)) if len(value) else set()
    if is_dataclass(value):
        return set().union(*(numbers_in(getattr(value, f.name)) for f in fields(value)))
    return {float(value)} if isinstance(value, int | float | np.number) else set()


@pytest.mark.parametrize("supervision", ["video", "point"])
def test_the_training_view_cannot_leak_instances(annotations: Annotations, supervision: str) -> None:
    weak = annotations.weak(supervision)
    boundaries = {1.25, 2.5, 6.0, 3.0, 4.0}
    assert not numbers_in(weak) & boundaries
    assert boundaries <= numbers_in(list(annotations.videos.values()))  # the search does find them
    assert not any("instance" in f.name for v in weak.videos for f in fields(v))


def test_video_level_view_has_no_points(annotations: Annotations) -> None:
    assert all(v.points is None for v in annotations.weak("video").videos)


def test_point_level_view_has_the_points(annotations: Annotations) -> None:
    first, second = annotations.weak("point").videos
    assert first.points == VIDEOS[0].points
    assert second.points == Points()


def test_point_level_needs_points(annotations: Annotations) -> None:
    with pytest.raises(InputError, match="there are none"):
        annotations.subset("test").weak("point")


def test_multi_hot(annotations: Annotations) -> None:
    weak: WeakLabels = annotations.weak("video")
    assert weak.multi_hot().tolist() == [[1, 1, 0], [0, 0, 1]]


def test_subset_names_the_known_ones(annotations: Annotations) -> None:
    assert list(annotations.subset("test").videos) == ["b"]
    with pytest.raises(InputError, match=r"'tset'.*'train', 'test'.*did you mean 'test'"):
        annotations.subset("tset")


def test_unknown_names_come_with_the_nearest(annotations: Annotations) -> None:
    with pytest.raises(InputError, match="did you mean 'Jump'"):
        annotations.class_index("Jmp")
    with pytest.raises(InputError, match="unknown video"):
        annotations.video("c")
    with pytest.raises(InputError, match="unknown video"):
        annotations.with_points({"zzz": Points()})


def test_instance_table_keeps_file_order(annotations: Annotations) -> None:
    table = annotations.instance_table()
    assert table.video.tolist() == [0, 0, 1]
    assert table.start.tolist() == [1.25, 5, 3]
    assert table.label.tolist() == [1, 0, 2]
    assert len(Annotations.of(["x"], []).instance_table()) == 0


def test_names_must_differ() -> None:
    with pytest.raises(InputError, match="twice"):
        Annotations.of(["x"], [Video("a"), Video("a")])
    with pytest.raises(InputError, match="differ"):
        Annotations.of(["x", "x"], [])


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="length"):
        Instances([1.0], [2.0, 3.0], [0])
    with pytest.raises(ValueError, match="length"):
        Points([1.0], [])


def test_what_is_known_of_classes_that_are_not_named() -> None:
    videos = [
        Video("all", labels=(1,)),
        Video("at least", labels=(1,), complete=False),
        Video("nothing", complete=True),
        Video("unknown"),
    ]
    assert [(v.complete, v.empty) for v in videos] == [
        (True, False),
        (False, False),
        (True, True),
        (False, False),
    ]
    weak = Annotations.of(["a", "b"], videos).weak("video")
    assert [v.complete for v in weak.videos] == [True, False, True, False]
    assert weak.known is not None
    assert weak.known.tolist() == [[True, True], [False, True], [True, True], [False, False]]
    assert Annotations.of(["a", "b"], [videos[0], videos[2]]).weak("video").known is None
    with pytest.raises(ValueError, match="nothing occurs in this video"):
        Video("v", instances=Instances([0], [1], [0]), complete=True)
