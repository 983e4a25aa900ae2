"""Thresholds and seconds, by hand and by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.evaluate.scenes import Row, annotate, detect, scenes
from weaktal.core import Annotations
from weaktal.evaluate import Intersection, analyse, errors_in_seconds, operating_curves
from weaktal.evaluate.operating import ALL


def lasting(annotations: Annotations, seconds: float) -> Annotations:
    return annotations.map(lambda v: replace(v, duration=seconds))


def test_curve_by_hand() -> None:
    truth = lasting(annotate([(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 0)]), 1200.0)  # one hour in all
    found = detect(
        [(0, 0.0, 10.0, 0), (0, 50.0, 60.0, 0), (0, 20.0, 30.0, 0), (0, 0.0, 9.0, 0)], [0.9, 0.8, 0.8, 0.1]
    )
    curve = operating_curves(found, truth)["a"]
    assert curve.threshold.tolist() == [0.9, 0.8, 0.1]
    assert curve.precision == pytest.approx([1, 2 / 3, 1 / 2])
    assert curve.recall == pytest.approx([1 / 2, 1, 1])
    assert curve.false_alarms == pytest.approx([0, 1, 2])
    best = curve.best()
    assert best is not None
    assert (best["threshold"], best["f1"]) == (0.8, pytest.approx(0.8))


@given(scenes())
def test_a_curve_is_what_one_counts_at_each_threshold(
    scene: tuple[list[Row], list[Row], list[float]],
) -> None:
    truth, rows, score = scene
    truth = [r for r in truth if r[2] > r[1]]
    annotations, detections = annotate(truth), detect(rows, score)
    curve = operating_curves(detections, annotations, 0.5)[ALL]
    known = {annotations.classes[r[3]] for r in truth}
    for threshold, precision, recall in zip(curve.threshold, curve.precision, curve.recall, strict=True):
        kept = detections[detections.score >= threshold].relabelled(sorted(known))
        hits = analyse(kept, annotations).counts()["true positive"]
        assert precision == pytest.approx(hits / len(kept))
        assert recall == pytest.approx(hits / len(truth))


def test_intersection() -> None:
    """Two halves find an instance that neither does by tIoU; one long detection is right for two."""
    truth = annotate([(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 1), (0, 31.0, 41.0, 1)])
    found = detect([(0, 0.0, 4.0, 0), (0, 5.0, 9.0, 0), (0, 20.0, 41.0, 1)], [0.9, 0.8, 0.7])
    curves = operating_curves(found, truth, Intersection(0.7, 0.7))
    assert curves["a"].recall.tolist() == [0, 1]
    assert curves["a"].precision.tolist() == [1, 1]
    assert curves["b"].recall.tolist() == [1]
    assert operating_curves(found, truth, Intersection(1.0, 0.7))["b"].precision.tolist() == [0]
    assert operating_curves(found, truth, 0.7)["a"].recall.tolist() == [0, 0]
    with pytest.raises(ValueError, match="shares"):
        Intersection(0, 1)


def test_seconds_by_hand() -> None:
    truth = lasting(annotate([(0, 10.0, 20.0, 0), (0, 30.0, 40.0, 0), (1, 0.0, 10.0, 0)]), 100.0)
    found = detect(
        [(0, 12.0, 14.0, 0), (0, 13.0, 18.0, 0), (0, 25.0, 45.0, 0), (0, 0.0, 5.0, 0)], [0.9, 0.9, 0.9, 0.1]
    )
    result = errors_in_seconds(found, truth, least=0.5)
    assert (result.annotated, result.truth["a"], result.detected["a"]) == (300, 30, 26)
    assert (result.false_alarm["a"], result.missed["a"]) == (10, 14)
    assert result.pieces["a"] == 1.5
    assert result.merged["a"] == 1
    with_collar = errors_in_seconds(found, truth, least=0.5, collar=2.0)
    assert with_collar.false_alarm["a"] == 6
    assert with_collar.missed["a"] == 0 + 0 + 6  # 18 to 18, and 2 to 8 in the second video
    assert result.to_dict()["missed"][ALL] == 14


@given(scenes())
def test_seconds_add_up(scene: tuple[list[Row], list[Row], list[float]]) -> None:
    truth, rows, score = scene
    result = errors_in_seconds(detect(rows, score), lasting(annotate(truth), 20.0))
    for name in result.truth:
        hit = result.detected[name] - result.false_alarm[name]
        assert result.truth[name] == pytest.approx(hit + result.missed[name])
        assert 0 <= hit <= result.truth[name] + 1e-9


def test_without_detections_or_durations() -> None:
    truth = annotate([(0, 0.0, 10.0, 0)])
    curve = operating_curves(detect([], []), truth)["a"]
    assert curve.best() is None
    assert np.isnan(operating_curves(detect([(0, 0.0, 1.0, 0)], [1.0]), truth)["a"].false_alarms).all()
    assert errors_in_seconds(detect([], []), truth).to_dict()["pieces"]["a"] is None
    with pytest.raises(ValueError, match="collar"):
        errors_in_seconds(detect([], []), truth, collar=-1)
