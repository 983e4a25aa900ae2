"""The known values of the fixture, every kind of mistake, and what must hold of any detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.scenes import Row, annotate, detect, scenes, segments
from weaktal.core import Annotations, Detections, InputError, Instances, Video
from weaktal.evaluate import analyse, class_confusion, compare, strongest_rows
from weaktal.evaluate.diagnosis import BUCKETS, KINDS, Diagnosis, quantile_buckets
from weaktal.evaluate.matching import match

SHARED = Path(__file__).parents[3] / "shared/data"
A, B = 0, 1
FIXTURE = Annotations.of(
    ("A", "B"),
    [
        Video("v1", duration=100, instances=Instances([10, 30, 50], [20, 40, 60], [A, A, B])),
        Video("v2", duration=100, instances=Instances([0, 60], [50, 62], [A, B])),
        Video("v3", duration=100),
    ],
)
PREDICTED = [
    ("v1", A, 10, 20, 0.95, "true positive"),
    ("v1", A, 11, 20, 0.90, "double detection"),
    ("v1", A, 50, 60, 0.85, "wrong label"),
    ("v1", A, 36, 46, 0.80, "localization error"),
    ("v1", B, 30, 34, 0.75, "confusion"),
    ("v1", B, 80, 90, 0.70, "background"),
    ("v1", B, 50, 58, 0.65, "true positive"),
    ("v2", A, 0, 40, 0.60, "true positive"),
    ("v2", B, 60, 64, 0.55, "true positive"),
    ("v2", A, 5, 25, 0.50, "localization error"),
    ("v3", B, 1, 5, 0.45, "background"),
    ("v3", A, 12, 20, 0.40, "background"),  # DETAD's code compares it with the video before
    ("v3", A, 80, 90, 0.35, "background"),
]
NAMES = ("v1", "v2", "v3")


def found(predicted: list[tuple[str, int, float, float, float, str]]) -> Detections:
    video, label, start, end, score, _ = zip(*predicted, strict=True)
    return Detections(NAMES, ("A", "B"), np.array([NAMES.index(v) for v in video]), start, end, label, score)


def kinds(result: Diagnosis, threshold: int = 0) -> list[str]:
    return [KINDS[k] for k in result.kind[threshold]]


class TestFixture:
    """Values of specs/diagnosis.md: measured with DETAD's code, or worked out by hand."""

    one = analyse(found(PREDICTED), FIXTURE, 0.5, buckets="thumos14")
    two = analyse(found(PREDICTED), FIXTURE, (0.5, 0.75), buckets="thumos14")

    def test_kinds(self) -> None:
        assert kinds(self.one) == [k for *_, k in PREDICTED]
        at_075 = [k for *_, k in PREDICTED]
        at_075[8] = "localization error"  # B 60 64
        assert kinds(self.two, 1) == at_075

    def test_average_precision(self) -> None:
        plain, normalised = (self.two.ranking.average_precision(normalised=n) for n in (False, True))
        assert plain == pytest.approx(np.array([[7 / 15, 1 / 2], [7 / 15, 1 / 6]]))
        assert normalised == pytest.approx(np.array([[0.452381, 0.555556], [0.452381, 0.192308]]), abs=1e-6)
        assert self.one.average_map == pytest.approx(0.483333, abs=1e-6)
        assert self.one.average_map_normalised == pytest.approx(0.503968, abs=1e-6)
        assert self.two.average_map == pytest.approx(0.4)
        assert self.two.average_map_normalised == pytest.approx(0.413156, abs=1e-6)

    @pytest.mark.parametrize(("which", "large"), [("one", 0.079365), ("two", 0.061050)])
    def test_impact(self, which: str, large: float) -> None:
        expected = dict.fromkeys(KINDS[1:4], 0.016234) | dict.fromkeys(KINDS[4:], large)
        assert getattr(self, which).impact() == pytest.approx(expected, abs=1e-6)

    def test_sensitivity(self) -> None:
        assert self.one.sensitivity() == {
            "coverage": pytest.approx({"XS": 0.555556, "XL": 0.503968}, abs=1e-6),
            "length": pytest.approx({"XS": 0.555556, "M": 0.527778, "XL": 0.454545}, abs=1e-6),
            "instances": pytest.approx({"S": 0.503968}, abs=1e-6),
        }

    def test_misses(self) -> None:
        assert self.one.misses() == {
            "coverage": {"XS": 0.0, "XL": 0.25},
            "length": {"XS": 0.0, "M": pytest.approx(1 / 3), "XL": 0.0},
            "instances": {"S": pytest.approx(0.2)},
        }
        assert self.one.misses("length", "coverage") == {
            "XS": {"XS": 0.0},
            "M": {"XL": pytest.approx(1 / 3)},
            "XL": {"XL": 0.0},
        }

    def test_repair(self) -> None:
        """A 36 46 becomes a hit of A 30 40, which is free; A 5 25 goes, since A 0 50 is taken."""
        repaired = self.one.repair()
        r, n = np.array([1, 2, 3]) / 3, 2.5
        false = np.array([0, 2, 2])  # before each: the double detection and the wrong label
        precision = r * n / (r * n + false)
        precision[1] = precision[1:].max()
        average = (precision.mean() + 0.555556) / 2
        assert repaired["localization error"] == pytest.approx(average - 0.503968, abs=1e-6)
        assert repaired["background"] == pytest.approx(self.one.impact()["background"])
        assert repaired["missed"] > 0

    def test_confusion(self) -> None:
        """The N_class surest: A .95, .90, .85 and B .75, .70."""
        matrix = class_confusion(found(PREDICTED), FIXTURE)
        assert matrix.counts.tolist() == [[1, 0, 2], [1, 0, 1], [1, 2, 0]]

    def test_json(self) -> None:
        plain = self.two.to_dict()
        assert plain["kinds"]["0.75"]["localization error"] == 3
        assert plain["buckets"]["length"]["edges"][-1] is None


def test_one_of_each_by_the_own_class() -> None:
    truth = [(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 1), (1, 0.0, 10.0, 0)]
    cases = {
        (0, 0.0, 10.0, 0): "true positive",
        (0, 1.0, 10.0, 0): "double detection",
        (0, 20.0, 29.0, 0): "wrong label",
        (0, 8.0, 14.0, 0): "localization error",
        (0, 28.0, 34.0, 0): "confusion",
        (0, 50.0, 60.0, 0): "background",
        (1, 20.0, 30.0, 1): "background",
    }
    detections = detect(list(cases), np.linspace(0.9, 0.1, len(cases)).tolist())
    result = analyse(detections, annotate(truth), rule="own-class-first")
    assert kinds(result) == list(cases.values())
    assert result.instance[0].tolist() == [0, -1, -1, -1, -1, -1, -1]
    assert result.missed()[0].tolist() == [False, True, True]


def test_the_rules_differ_where_two_classes_overlap() -> None:
    """0.4 with the own class, 0.6 with another: confusion by the largest overlap, or a wrong place."""
    truth = [(0, 0.0, 4.0, 0), (0, 4.0, 10.0, 1)]
    detections = detect([(0, 0.0, 10.0, 0)], [0.9])
    assert kinds(analyse(detections, annotate(truth), 0.7)) == ["confusion"]
    assert kinds(analyse(detections, annotate(truth), 0.7, rule="own-class-first")) == ["localization error"]


def test_of_equal_overlaps_the_first_listed_decides() -> None:
    truth = [(0, 0.0, 4.0, 1), (0, 4.0, 8.0, 0)]
    detections = detect([(0, 2.0, 6.0, 0)], [0.9])
    assert kinds(analyse(detections, annotate(truth))) == ["confusion"]
    assert kinds(analyse(detections, annotate(truth[::-1]))) == ["localization error"]


def test_videos_without_annotation_are_left_out() -> None:
    detections = detect([(0, 0.0, 10.0, 0), (4, 0.0, 10.0, 0)], [0.9, 0.8], n_videos=5, classes=("a", "c"))
    result = analyse(detections, annotate([(0, 0.0, 10.0, 0)]))
    assert result.kind[0].tolist() == [KINDS.index("true positive"), -1]
    assert sum(result.counts().values()) == 1


def test_an_unknown_class_has_a_kind_and_no_precision() -> None:
    result = analyse(detect([(0, 0.0, 10.0, 1)], [0.9], classes=("a", "c")), annotate([(0, 0.0, 10.0, 0)]))
    assert result.counts()["wrong label"] == 1
    assert result.average_map == 0
    assert result.repair()["wrong label"] == 1  # relabelled, it is all that is wanted


def test_a_class_without_detections_counts_as_zero() -> None:
    truth = [(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 1)]
    assert analyse(detect([(0, 0.0, 10.0, 0)], [0.9]), annotate(truth)).average_map == 0.5


def test_instances_longer_than_their_video_are_left_out() -> None:
    annotations = annotate([(0, 0.0, 10.0, 0), (0, 2.0, 4.0, 0), (0, 3.0, 3.0, 0)]).map(
        lambda v: replace(v, duration=8.0)
    )
    result = analyse(detect([], []), annotations)
    assert result.truth.row.tolist() == [1]


@given(scenes(), st.sampled_from(["detad", "own-class-first"]))
def test_any_detections(scene: tuple[list[Row], list[Row], list[float]], rule: str) -> None:
    truth, rows, score = scene
    truth = [r for r in truth if r[2] > r[1]]
    annotations, detections = annotate(truth), detect(rows, score)
    result = analyse(detections, annotations, (0.3, 0.6), rule=rule, top=2)  # type: ignore[arg-type]
    listed = sorted(truth, key=lambda r: r[0])  # the instance table goes video by video
    expected = match(segments(listed), segments(rows), np.asarray(score, float), 2, [0.3, 0.6])
    for h in range(2):
        hits = (expected.instance[h] >= 0).sum()
        assert result.counts(h)["true positive"] == hits == (~result.missed()[h]).sum()
        assert sum(result.shares(h).values()) == pytest.approx(1 if rows else 0)
    sums = result.profile().sum(axis=1)
    assert np.all(np.isclose(sums, 1) | np.isclose(sums, 0))
    assert min(result.impact().values()) >= -1e-12
    assert min(result.repair().values()) >= 0
    assert 0 <= result.average_map_normalised <= 1 + 1e-12


@given(scenes(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_kinds_do_not_change_when_time_is_scaled(
    scene: tuple[list[Row], list[Row], list[float]], by: float
) -> None:
    truth, rows, score = scene
    scaled = [[(v, a * by, b * by, c) for v, a, b, c in part] for part in (truth, rows)]
    before = analyse(detect(rows, score), annotate(truth))
    after = analyse(detect(scaled[1], score), annotate(scaled[0]))
    assert np.array_equal(before.kind, after.kind)


def test_empty() -> None:
    result = analyse(detect([], []), annotate([(0, 0.0, 10.0, 0)]))
    assert set(result.shares().values()) == {0.0}
    assert result.missed().all()
    assert result.impact() == dict.fromkeys(KINDS[1:], 0.0)
    nothing = analyse(detect([], []), annotate([]))
    assert (nothing.average_map, nothing.repair()["missed"]) == (0, 0)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="touch"):
        analyse(detect([], []), annotate([]), 0.05)
    with pytest.raises(ValueError, match="top"):
        analyse(detect([], []), annotate([]), top=0)
    with pytest.raises(InputError, match="no such buckets"):
        analyse(detect([], []), annotate([]), buckets="thumos")


def test_buckets_are_closed_on_the_right_and_hold_the_lowest_edge() -> None:
    length = BUCKETS["thumos14"]["length"]
    values = np.array([0, 3, 3.01, 6, 12, 18, 18.5, np.nan, -1])
    assert length.of(values).tolist() == [0, 0, 1, 1, 2, 3, 4, -1, -1]
    assert quantile_buckets(np.arange(1.0, 11.0), ("S", "L")).edges == (1, 5.5, 10)
    assert quantile_buckets(np.full(4, 2.0), ("S", "L")).of(np.full(4, 2.0)).tolist() == [0, 0, 0, 0]


def test_two_runs() -> None:
    truth = [(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 0), (1, 0.0, 10.0, 0), (1, 20.0, 30.0, 0)]
    first = detect([truth[0], truth[1], (1, 80.0, 90.0, 0)], [0.9, 0.8, 0.7])
    second = detect([truth[0], truth[2]], [0.9, 0.8])
    result = compare(first, second, annotate(truth))
    assert result.counts == {"kept": 1, "repaired": 1, "broken": 1, "missed": 1}
    assert result.kinds["background"] == (1, 0)
    assert compare(first, second, annotate(truth), least=(0.85, 0.85)).counts["kept"] == 1


def test_strongest_rows() -> None:
    truth = annotate([(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 0), (1, 0.0, 10.0, 1)])
    rows = [(0, 0.0, 1.0, 0), (0, 1.0, 2.0, 1), (0, 2.0, 3.0, 0), (0, 3.0, 4.0, 0), (0, 4.0, 5.0, 1)]
    assert strongest_rows(detect(rows, [0.1, 0.5, 0.3, 0.2, 0.4]), truth).tolist() == [1, 2, 3]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the public annotations in ../shared/data")
def test_thumos14_buckets() -> None:
    from weaktal.formats import load_annotations

    annotations = load_annotations(SHARED / "thumos14/wtalc").subset("test")
    sizes = analyse(Detections.empty((), ()), annotations, buckets="thumos14").bucket_sizes()
    assert [list(s.values()) for s in sizes.values()] == [
        [2384, 657, 166, 61, 90],
        [1626, 851, 730, 114, 37],
        [15, 2203, 727, 413],
    ]
