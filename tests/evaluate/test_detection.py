"""The evaluation as users call it: protocols, coverage, bad input, results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from tests.evaluate.scenes import annotate, detect, scenes
from weaktal.core import Annotations, InputError, Video
from weaktal.evaluate import PROTOCOLS, evaluate, file_sha256, get_protocol, touches_ignored

# whole snippets of 0.64 s, so that every protocol sees the same
TRUTH = [(0, 0.0, 6.4, 0), (0, 12.8, 19.2, 0), (1, 6.4, 12.8, 1), (2, 0.0, 3.2, 0)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_perfect_detections_under_every_protocol(name: str) -> None:
    result = evaluate(
        detect(TRUTH, [0.9, 0.8, 0.7, 0.6]), annotate(TRUTH), replace(PROTOCOLS[name], snap=1e-6)
    )
    assert result.classes == ("a", "b")
    np.testing.assert_array_equal(result.ap, 1)
    assert result.average == result.at(0.5) == 1
    assert (result.instances, result.detections, result.ignored, result.dropped) == (4, 4, 0, 0)


@given(scenes())
def test_average_precision_stays_in_range(scene) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    for protocol in PROTOCOLS.values():
        result = evaluate(detect(found, score), annotate(truth), protocol)
        assert np.all((result.ap >= 0) & (result.ap <= 1))
        assert result.mean_ap.shape == (len(result.tiou),)


def test_a_class_without_detections_counts_as_zero() -> None:
    found = detect(TRUTH[:2] + TRUTH[3:], [0.9, 0.8, 0.7])
    assert evaluate(found, annotate(TRUTH)).average == 0.5
    for name in ("integer-grid", "integer-grid-wtalc"):
        clean = replace(PROTOCOLS[name], snap=1e-6)
        assert evaluate(found, annotate(TRUTH), clean).average == 0.5
        assert evaluate(found, annotate(TRUTH), clean.published()).average == 0


def test_zero_length_matches_only_as_published() -> None:
    truth, found = annotate([(0, 1.0, 1.0, 0)]), detect([(0, 5.0, 5.0, 0)], [1.0])
    assert evaluate(found, truth).average == 0
    assert evaluate(found, truth, PROTOCOLS["activitynet"].published()).average == 1


def test_rounding_halves_to_even() -> None:
    half = 0.32  # half a snippet
    assert PROTOCOLS["wtalc"].truth_times([half, 3 * half, 5 * half]).tolist() == [0, 2, 2]
    assert PROTOCOLS["wtalc-raw"].truth_times([half]).tolist() == [0.5]
    assert PROTOCOLS["activitynet"].truth_times([half]).tolist() == [half]


def test_snap_mends_the_last_bit() -> None:
    whole = np.arange(1.0, 2000.0)
    times = PROTOCOLS["integer-grid"].detection_times(whole / (25 / 16))
    assert (times != whole).any()  # one snippet less, for the last bit
    snapped = replace(PROTOCOLS["integer-grid"], snap=1e-6)
    np.testing.assert_array_equal(snapped.detection_times(whole / (25 / 16)), whole)


def test_listed_first_or_best_overlap() -> None:
    # both instances are good enough for the first detection, only the one listed first for the second
    s = 0.64
    truth = annotate([(0, 0.0, 20 * s, 0), (0, 0.0, 12 * s, 0)])
    found = detect([(0, 0.0, 12 * s, 0), (0, 0.0, 30 * s, 0)], [0.9, 0.8])
    for name, expected in (("integer-grid", 1.0), ("integer-grid-wtalc", 0.5)):
        result = evaluate(found, truth, replace(PROTOCOLS[name], snap=1e-6), tiou=[0.6])
        assert result.average == expected


def with_ignored(rows: list[tuple[float, float]]) -> Annotations:
    return annotate(TRUTH).with_ignored({"v0": np.array(rows)})


def test_ignored_intervals_remove_detections_of_any_class() -> None:
    found = detect([*TRUTH, (0, 30.0, 33.0, 1), (1, 30.0, 33.0, 0)], [0.9, 0.8, 0.7, 0.6, 1.0, 1.0])
    truth = with_ignored([(31.0, 40.0)])
    assert touches_ignored(found, truth).tolist() == [False] * 4 + [True, False]
    wtalc = evaluate(found, truth, "wtalc")
    assert (wtalc.ignored, wtalc.detections) == (1, 5)
    assert evaluate(found, truth, "wtalc", ignore=False).ignored == 0
    assert evaluate(found, truth, "activitynet").ignored == 0
    assert evaluate(found, truth, "activitynet", ignore=True).ignored == 1


def test_what_has_no_whole_snippet_touches_nothing() -> None:
    found = detect([(0, 10.0, 10.1, 0), (0, 10.0, 12.0, 0)], [1, 1])
    assert touches_ignored(found, with_ignored([(9.0, 20.0)])).tolist() == [False, True]
    assert touches_ignored(found, with_ignored([(10.6, 10.7)])).tolist() == [False, False]


def test_two_videos_lose_their_truth_without_rounding() -> None:
    names = PROTOCOLS["wtalc-raw"].without_truth
    base = annotate(TRUTH)
    more = [Video(n, subset="test", instances=base.videos["v0"].instances) for n in names]
    truth = Annotations.of(base.classes, [*base, *more])
    found = detect(TRUTH, [0.9, 0.8, 0.7, 0.6])
    assert evaluate(found, truth, "wtalc-raw").average == pytest.approx(1)
    assert evaluate(found, truth, "wtalc").average < 1


def test_coverage() -> None:
    found = detect([(0, 0.0, 6.4, 0), (3, 0.0, 1.0, 0), (3, 2.0, 3.0, 1)], [0.9, 0.8, 0.7], n_videos=4)
    truth = annotate([*TRUTH, (4, 0.0, 1.0, 0)], n_videos=5)
    truth = Annotations.of(truth.classes, [v for v in truth if v.name != "v3"])
    coverage = evaluate(found, truth).coverage
    assert (coverage.annotated, coverage.predicted, coverage.missing) == (4, 3, ("v4",))
    assert (coverage.unannotated, coverage.outside) == (("v3",), 2)


def test_detections_in_other_subsets_take_no_part() -> None:
    base = annotate(TRUTH)
    truth = base.map(lambda v: replace(v, subset="train") if v.name == "v0" else v)
    result = evaluate(detect(TRUTH, [0.9, 0.8, 0.7, 0.6]), truth, subset="test")
    assert (result.average, result.detections, result.instances) == (1.0, 2, 2)


def test_a_class_without_instances_here_takes_no_part() -> None:
    truth = annotate(TRUTH[:2])
    result = evaluate(detect(TRUTH, [0.9, 0.8, 0.7, 0.6]), truth)
    assert (result.classes, result.dropped, result.detections) == (("a",), 1, 3)


def test_no_detections_give_zero() -> None:
    assert evaluate(detect([], []), annotate(TRUTH)).average == 0


def test_bad_input() -> None:
    truth = annotate(TRUTH, classes=("LongJump", "Diving"))
    with pytest.raises(InputError, match="did you mean 'LongJump'"):
        evaluate(detect(TRUTH, [1, 1, 1, 1], classes=("LongJmp", "Diving")), truth)
    with pytest.raises(InputError, match="did you mean 'wtalc'"):
        evaluate(detect(TRUTH, [1, 1, 1, 1]), truth, "wtlac")
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(detect(TRUTH, [1, 1, 1, 1]), annotate([]))
    with pytest.raises(InputError, match="no video in this subset"):
        evaluate(detect(TRUTH, [1, 1, 1, 1]), annotate(TRUTH), subset="tset")
    with pytest.raises(InputError, match="not a number"):
        evaluate(detect(TRUTH, [1, 1, float("nan"), 1]), annotate(TRUTH))
    other = annotate(TRUTH)
    other = Annotations.of(other.classes, [replace(v, name=f"video_{v.name}") for v in other])
    with pytest.raises(InputError, match=r"no detection lies in an annotated video.*'v0'.*'video_v0'"):
        evaluate(detect(TRUTH, [1, 1, 1, 1]), other)


def test_result_says_what_was_measured() -> None:
    result = evaluate(
        detect(TRUTH, [0.9, 0.8, 0.7, 0.6]), annotate(TRUTH), "wtalc", tiou=[0.5], annotation_sha256="ab"
    )
    stored = json.loads(result.to_json())
    assert (stored["protocol"], stored["protocol_version"], stored["annotation_sha256"]) == ("wtalc", 1, "ab")
    assert stored["protocol_settings"]["round_truth"] is True
    assert np.shape(stored["ap"]) == (1, 2)
    assert stored["average_mAP"] == stored["mAP"][0]
    with pytest.raises(ValueError, match=r"0\.75"):
        result.at(0.75)


def test_hash_of_a_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"x")
    assert file_sha256(tmp_path / "a.npy") == hashlib.sha256(b"x").hexdigest()
    before = file_sha256(tmp_path)
    (tmp_path / "b.npy").write_bytes(b"y")
    assert file_sha256(tmp_path) != before


def test_protocols_are_named_by_their_key() -> None:
    assert all(get_protocol(name).name == name and p.version >= 1 for name, p in PROTOCOLS.items())
