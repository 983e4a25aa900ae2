"""Every kind of mistake, and the counts that must agree with the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.evaluate.scenes import annotate, detect, scenes, segments
from weaktal.evaluate import diagnose
from weaktal.evaluate.diagnosis import KINDS
from weaktal.evaluate.matching import match


def test_one_of_each() -> None:
    truth = [(0, 0.0, 10.0, 0), (0, 20.0, 30.0, 1), (1, 0.0, 10.0, 0)]
    cases = {
        (0, 0.0, 10.0, 0): "true positive",
        (0, 1.0, 10.0, 0): "duplicate",
        (0, 20.0, 29.0, 0): "wrong label",
        (0, 8.0, 14.0, 0): "localization error",
        (0, 28.0, 34.0, 0): "wrong label",
        (0, 50.0, 60.0, 0): "background",
        (1, 20.0, 30.0, 1): "background",
    }
    found = detect(list(cases), np.linspace(0.9, 0.1, len(cases)).tolist())
    result = diagnose(found, annotate(truth))
    assert [KINDS[k] for k in result.kind] == list(cases.values())
    assert result.instance.tolist() == [0, -1, -1, -1, -1, -1, -1]
    assert result.missed.tolist() == [False, True, True]
    assert result.missed_share == pytest.approx(2 / 3)
    assert result.counts["wrong label"] == 2
    assert sum(result.shares.values()) == pytest.approx(1)


def test_videos_without_annotation_are_left_out() -> None:
    found = detect([(0, 0.0, 10.0, 0), (4, 0.0, 10.0, 0)], [0.9, 0.8], n_videos=5, classes=("a", "c"))
    result = diagnose(found, annotate([(0, 0.0, 10.0, 0)]))
    assert result.kind.tolist() == [KINDS.index("true positive"), -1]
    assert sum(result.counts.values()) == 1


def test_an_unknown_class_is_a_wrong_label() -> None:
    result = diagnose(detect([(0, 0.0, 10.0, 1)], [0.9], classes=("a", "c")), annotate([(0, 0.0, 10.0, 0)]))
    assert result.counts["wrong label"] == 1


@given(scenes())
def test_matches_are_those_of_the_evaluation(scene) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    result = diagnose(detect(found, score), annotate(truth), tiou=0.3)
    rows = sorted(truth, key=lambda r: r[0])  # the instance table goes video by video
    expected = match(segments(rows), segments(found), np.asarray(score, float), 2, [0.3])
    assert result.counts["true positive"] == (expected.instance >= 0).sum()
    assert (~result.missed).sum() == result.counts["true positive"]
    assert sum(result.counts.values()) == len(found)


def test_empty() -> None:
    result = diagnose(detect([], []), annotate([(0, 0.0, 10.0, 0)]))
    assert set(result.shares.values()) == {0.0}
    assert result.missed_share == 1


def test_bad_thresholds() -> None:
    with pytest.raises(ValueError, match="touch"):
        diagnose(detect([], []), annotate([]), tiou=0.05)
