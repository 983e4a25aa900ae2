"""What is said beside a number, and what is no number at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import Annotations, Detections, Grid, InputError, Instances, Video
from weaktal.evaluate import evaluate
from weaktal.evaluate.notes import aligned


def truth(duration: float | None = 60.0, names: tuple[str, str] = ("aa", "bb")) -> Annotations:
    first, second = names
    return Annotations.of(
        ["close door", "open door", "pour"],
        [
            Video(first, "test", duration, 25.0, Instances([5, 30], [15, 40], [1, 0]), labels=(0, 1)),
            Video(second, "test", duration, 25.0, Instances([10], [20], [1]), labels=(1,)),
        ],
    )


def found(*rows: tuple[str, float, float, str, float], grid: Grid | None = None) -> Detections:
    names, classes = (tuple(dict.fromkeys(r[i] for r in rows)) for i in (0, 3))
    return Detections(
        names,
        classes,
        np.array([names.index(r[0]) for r in rows], np.int64),
        np.array([r[1] for r in rows], np.float64),
        np.array([r[2] for r in rows], np.float64),
        np.array([classes.index(r[3]) for r in rows], np.int64),
        np.array([r[4] for r in rows], np.float64),
        grid=grid,
    )


GOOD = (
    ("aa", 5, 14, "open door", 0.9),
    ("aa", 31, 41, "close door", 0.8),
    ("aa", 50, 55, "open door", 0.7),
    ("bb", 12, 22, "open door", 0.6),
)


def test_sound_detections_have_no_note() -> None:
    result = evaluate(found(*GOOD), truth())
    assert result.notes == ()
    assert 100 * result.at(0.5) == pytest.approx(91.67, abs=0.005)
    assert 100 * result.average == pytest.approx(89.29, abs=0.005)


def test_an_unknown_class_is_noted_and_takes_no_part() -> None:
    more = found(*GOOD, ("bb", 1, 5, "juggle", 0.99))
    result = evaluate(more, truth())
    assert 100 * result.at(0.5) == pytest.approx(91.67, abs=0.005)
    assert result.notes == (
        "1 detections are of classes that are not annotated and take no part: 'juggle' (1)",
    )
    assert result.to_dict()["notes"] == list(result.notes)
    assert result.dropped == 1
    with pytest.raises(InputError, match="a detected class is not annotated: found 'juggle'"):
        evaluate(more, truth(), strict=True)


def test_only_unknown_classes_are_an_error() -> None:
    with pytest.raises(InputError, match="a detected class is not annotated: found 'juggle'"):
        evaluate(found(("aa", 1, 5, "juggle", 0.9)), truth())


def test_a_misspelt_class_is_an_error_but_not_one_that_only_looks_alike() -> None:
    with pytest.raises(InputError, match="did you mean 'open door'"):
        evaluate(found(("aa", 5, 14, "opendoor", 0.9), GOOD[1]), truth())
    assert "opendoor" in evaluate(found(*GOOD, ("aa", 5, 14, "opendoor", 0.9)), truth()).notes[0]


def test_equal_scores_are_noted_with_what_the_order_moves() -> None:
    rows = [(*r[:4], 0.5) for r in GOOD]
    forward, backward = evaluate(found(*rows), truth()), evaluate(found(*rows[::-1]), truth())
    assert forward.average != backward.average
    low, high = sorted([100 * forward.average, 100 * backward.average])
    assert f"between {low:.2f} and {high:.2f}" in forward.notes[0]
    assert evaluate(found(rows[0]), truth()).notes == ()  # one detection has no order


def test_detections_beyond_the_end() -> None:
    late = found(*GOOD, ("bb", 70, 75, "open door", 0.1))
    assert evaluate(late, truth()).notes[0].startswith("1 of 5 detections lie beyond the end of their videos")
    assert evaluate(late, truth(None)).notes == ()
    begun = found(*GOOD, ("bb", 60.2, 60.5, "open door", 0.1))
    assert evaluate(begun, truth()).notes == ("1 detections begin after the end of their video: bb",)


@pytest.mark.parametrize(
    ("factor", "unit"), [(25.0, "as frames at the videos' own frame rates"), (1000.0, "as milliseconds")]
)
def test_detections_in_another_unit_are_an_error(factor: float, unit: str) -> None:
    rows = [(r[0], (r[1] + 3) * factor, (r[2] + 3) * factor, *r[3:]) for r in GOOD]
    with pytest.raises(InputError, match=unit):
        evaluate(found(*rows), truth())


@pytest.mark.parametrize(
    ("detected", "annotated", "options"),
    [
        ("cafe\u0301", "caf\u00e9", {}),
        ("v_a", "a", {"prefix": "v_"}),
        ("a", "v_a", {"prefix": "v_"}),
        ("v_a_i3d", "a", {"prefix": "v_", "suffix": "_i3d"}),
        ("a", "a", {"prefix": "v_"}),
    ],
)
def test_names_that_mean_the_same(detected: str, annotated: str, options: dict[str, str]) -> None:
    gt = truth(names=(annotated, "other"))
    rows = [(detected, *r[1:]) for r in GOOD[:3]]
    back = aligned(found(*rows), gt, **options)
    assert back.names == (annotated,)
    assert evaluate(back, gt).coverage.missing == ("other",)


def test_videos_that_meet_are_joined() -> None:
    rows = found(("v_a", 1, 2, "open door", 0.9), ("a", 3, 4, "open door", 0.8))
    back = aligned(rows, truth(names=("a", "b")), prefix="v_")
    assert (back.names, back.video.tolist(), back.start.tolist()) == (("a",), [0, 0], [1, 3])


def test_a_hint_says_which_prefix() -> None:
    with pytest.raises(InputError, match="if all differ like this: --prefix v_ --suffix _x"):
        evaluate(found(("v_aa_x", 1, 2, "open door", 0.5)), truth())


RATE = 25 / 16


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), min_size=1, max_size=30), st.data())
def test_times_of_a_grid_are_put_back_on_it(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whole snippets that became seconds are the same whole snippets again, and AP is that of integers."""
    start = np.array([s for s, _ in spans], np.float64)
    end = start + [n for _, n in spans]
    step = np.array([data.draw(st.integers(-3, 3)) for _ in spans], np.float64)
    gt = Annotations.of(
        ["run"], [Video("v", instances=Instances(start / RATE, end / RATE, np.zeros(len(spans), int)))]
    )
    score = np.linspace(1, 2, len(spans))
    none = np.zeros(len(spans))
    begin, stop = np.maximum(start + step, 0), end + np.abs(step)
    whole = Detections(("v",), ("run",), none, begin, stop, none, score)
    # in seconds, and once more through a clock with an offset: the last bits are gone
    seconds = [(x / RATE * 3 + 0.7 - 0.7) / 3 for x in (whole.start, whole.end)]
    stored = replace(whole, start=seconds[0], end=seconds[1], grid=Grid(RATE))
    snippets = replace(whole, start=whole.start * 0.64, end=whole.end * 0.64, grid=Grid(RATE, 16 * 0.64))
    exact = evaluate(replace(whole, start=whole.start / RATE, end=whole.end / RATE), gt, _snapped())
    for detections in (stored, snippets):
        result = evaluate(detections, gt, "wtalc")
        assert result.protocol.snap == 1e-6
        np.testing.assert_array_equal(result.ap, exact.ap)
    assert evaluate(replace(stored, grid=None), gt, "wtalc").protocol.snap == 0
    assert evaluate(replace(stored, grid=Grid(RATE, 0.3)), gt, "wtalc").protocol.snap == 0
    assert evaluate(replace(stored, grid=Grid(3.0)), gt, "wtalc").protocol.snap == 0


def _snapped():  # type: ignore[no-untyped-def]
    from weaktal.evaluate import get_protocol

    return replace(get_protocol("wtalc"), snap=1e-6)
