"""What is written comes back, to the last bit, in every format that can hold it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.formats import strategies as some
from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, Detections, InputError, Video
from weaktal.formats import PointTable, ambiguous, point_csv, sfnet_points


@pytest.fixture(autouse=True)
def _zero_lengths_are_no_news() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        yield


def there_and_back(annotations: Annotations, name: str) -> Annotations:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        formats.save_annotations(annotations, path)
        return formats.load_annotations(path)


@given(some.annotations())
def test_activitynet_json_holds_everything(annotations: Annotations) -> None:
    back = there_and_back(annotations, "gt.json")
    assert back.classes == annotations.classes
    assert list(back) == list(annotations)


@settings(max_examples=30)  # nine files each
@given(some.annotations(points=False))
def test_wtalc_arrays_hold_all_but_points_and_what_is_known_of_other_classes(
    annotations: Annotations,
) -> None:
    annotations = annotations.map(lambda v: replace(v, complete=None))
    back = there_and_back(annotations, "arrays")
    assert back.classes == annotations.classes
    assert list(back) == list(annotations)


@given(some.annotations(points=False))
def test_csv_holds_videos_with_their_instances_and_labels(annotations: Annotations) -> None:
    def plain(v: Video) -> Video:
        """What the table can say: an instance's class is a label of its video, and nothing is ignored."""
        return replace(v, labels=(*v.labels, *v.instances.label.tolist()), ignored=np.empty((0, 2)))

    assume(all(name.lower() != "none" for name in annotations.classes))  # refused, see test_labels.py
    annotations = annotations.map(plain)
    back = there_and_back(annotations, "table.csv")
    assert list(back.videos) == list(annotations.videos)
    assert back.classes == tuple(sorted({annotations.classes[c] for v in annotations for c in v.labels}))
    for a, b in zip(annotations, back, strict=True):
        assert (a.subset, a.duration, a.fps, a.complete) == (b.subset, b.duration, b.fps, b.complete)
        assert {annotations.classes[c] for c in a.labels} == {back.classes[c] for c in b.labels}
        np.testing.assert_array_equal(a.instances.start, b.instances.start)
        np.testing.assert_array_equal(a.instances.end, b.instances.end)
        assert [annotations.classes[c] for c in a.instances.label] == [
            back.classes[c] for c in b.instances.label
        ]


@given(some.detections())
def test_detections_as_json(detections: Detections) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "d.json"
        formats.save_detections(detections, path)
        assert formats.load_detections(path) == detections
        assert (
            formats.load_detections(path, detections.classes[::-1]).relabelled(detections.classes)
            == detections
        )


@given(some.detections())
def test_detections_as_csv(detections: Detections) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        formats.save_detections(detections, path)
        back, want = formats.load_detections(path), detections.columns()
        for key, column in back.columns().items():
            np.testing.assert_array_equal(column, want[key])


def test_json_keeps_the_order_of_rows_within_a_video(tmp_path: Path) -> None:
    mixed = Detections(("a", "b"), ("x",), [1, 0, 1], [1, 2, 3], [4, 5, 6], [0, 0, 0], [0.5, 0.5, 0.5])
    formats.save_detections(mixed, tmp_path / "d.json")
    assert formats.load_detections(tmp_path / "d.json") == mixed[[1, 0, 2]]


clicks = st.lists(st.tuples(some.video_names, some.seconds, some.class_names), max_size=8)


@given(clicks)
def test_sfnet_clicks(rows: list[tuple[str, float, str]]) -> None:
    table = PointTable(tuple(r[0] for r in rows), np.array([r[1] for r in rows]), tuple(r[2] for r in rows))
    with TemporaryDirectory() as folder:
        sfnet_points.write(table, Path(folder) / "p.txt")
        assert sfnet_points.read(Path(folder) / "p.txt") == table


frames = st.integers(0, 10**6)
rates = st.sampled_from([30.0, 25.0, 30000 / 1001, 19.62, 10.0, 15.0])


@given(st.lists(st.tuples(some.video_names, frames, some.class_names), max_size=8), rates)
def test_clicks_in_frames_stay_whole_frames(rows: list[tuple[str, int, str]], fps: float) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "p.csv"
        lines = [
            "class,video_id,point",
            *('"{}",{},{}'.format(c.replace('"', '""'), v, p) for v, p, c in rows),
        ]
        path.write_text("\n".join(lines))
        table = point_csv.read(path, fps)
        assert table.time.tolist() == [frame / fps for _, frame, _ in rows]
        point_csv.write(table, path, fps)
        assert point_csv.read(path, fps) == table
        written = [line.rsplit(",", 1)[1] for line in path.read_text().splitlines()[1:]]
        assert written == [str(frame) for _, frame, _ in rows]


spans = st.lists(st.tuples(some.seconds, some.seconds).map(sorted), min_size=1, max_size=3)


@given(st.dictionaries(some.video_names, spans, max_size=4))
def test_ambiguous_intervals(intervals: dict[str, list[list[float]]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "Ambiguous_test.txt"
        ambiguous.write({k: np.array(v) for k, v in intervals.items()}, path)
        back = formats.load_ignored(path)
        assert {k: v.tolist() for k, v in back.items()} == intervals


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names no format: found '\.xml'"):
        formats.save_annotations(Annotations((), {}), tmp_path / "gt.xml")
    with pytest.raises(InputError, match="no such format: found 'thumos'"):
        formats.save_annotations(Annotations((), {}), tmp_path / "gt.json", "thumos")
    assert list(tmp_path.iterdir()) == []
