"""Agreement of two sides: known values, a plain twin, and that no side comes first."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weaktal import formats
from weaktal.cli import main
from weaktal.core import Annotations, Detections, InputError, Instances, Points, Video
from weaktal.evaluate.agreement import ALL, Agreed, agreement

Rows = list[tuple[float, float, int]]


def side(rows: Rows, clicks: Sequence[tuple[float, int]] = ()) -> Annotations:
    table, points = np.array(rows).reshape(-1, 3), np.array(list(clicks)).reshape(-1, 2)
    it = Instances(table[:, 0], table[:, 1], table[:, 2])
    return Annotations.of(
        ["run", "jump"], [Video("v", None, 10.0, 10.0, it, Points(points[:, 0], points[:, 1]))]
    )


def test_known_values() -> None:
    a = side([(0, 4, 0), (6, 8, 1)], [(1.0, 0), (9.0, 1)])
    b = side([(1, 5, 0), (8, 9, 1)], [(1.5, 0), (5.0, 1)])
    found = agreement(a, b)
    run = found.classes["run"]
    # of 100 frames both say "run" on 30, each side alone on 10: observed 0.8, by chance 0.4² + 0.6² = 0.52
    assert run.frames == pytest.approx(0.8)
    assert run.kappa == pytest.approx((0.8 - 0.52) / 0.48)
    assert (run.segments, run.matched, run.f1, run.border_error) == ((1, 1), 1, 1.0, 1.0)
    assert run.seconds == (4.0, 4.0)
    assert (found.classes["jump"].matched, found.classes["jump"].f1) == (0, 0.0)
    assert math.isnan(found.classes["jump"].border_error)
    assert found.overall.segments == (2, 2)
    assert (found.overall.f1, found.overall.seconds) == (0.5, (6.0, 5.0))
    assert (found.overall.clicks, found.overall.clicks_matched, found.overall.click_error) == ((2, 2), 1, 0.5)
    assert found.overall.frames == pytest.approx(0.5)  # run 30 frames, nothing 10 + 10


def test_perfect_and_undefined() -> None:
    a = side([(0, 4, 0)])
    assert agreement(a, a).overall.kappa == 1
    nothing = agreement(side([]), side([])).overall
    assert math.isnan(nothing.kappa)
    assert math.isnan(nothing.f1)
    assert nothing.frames == 1


def test_classes_are_the_same_by_name_and_videos_by_accents() -> None:
    one = Annotations.of(["a", "b"], [Video("caf\u00e9", None, 2.0, 10.0, Instances([0], [1], [1]))])
    two = Annotations.of(
        ["c", "b"], [Video("cafe\u0301", None, 2.0, None, Instances([0], [1], [1])), Video("x")]
    )
    found = agreement(one, two)
    assert list(found.classes) == [ALL, "b"]
    assert found.classes["b"].kappa == 1
    assert found.only == ((), ("x",))
    with pytest.raises(InputError, match="no video in common"):
        agreement(one, two.where(lambda v: v.name == "x"))


ticks = st.integers(0, 100).map(lambda t: t / 10)
rows = st.lists(
    st.tuples(ticks, ticks, st.integers(0, 1)).map(lambda r: (min(r[:2]), max(r[:2]), r[2])), max_size=5
)
clicks = st.lists(st.tuples(ticks, st.integers(0, 1)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(rows, clicks, rows, clicks)
def test_no_side_comes_first_and_kappa_is_cohens(
    x: Rows, p: list[tuple[float, int]], y: Rows, q: list[tuple[float, int]]
) -> None:
    a, b = side(x, p), side(y, q)
    found, other = agreement(a, b, tiou=0.3), agreement(b, a, tiou=0.3)
    for name, agreed in found.classes.items():
        back = other.classes[name]
        for key in (
            "kappa",
            "frames",
            "matched",
            "f1",
            "border_error",
            "clicks_matched",
            "clicks_f1",
            "click_error",
        ):
            assert getattr(agreed, key) == pytest.approx(getattr(back, key), nan_ok=True), key
        assert agreed.segments == back.segments[::-1]
        assert agreed.matched <= min(agreed.segments)
    said = [[frozenset(c for s, e, c in z if s <= (f + 0.5) / 10 < e) for f in range(100)] for z in (x, y)]
    kinds = {k for z in said for k in z}
    chance = sum(said[0].count(k) * said[1].count(k) for k in kinds) / 100**2
    observed = sum(k == m for k, m in zip(*said, strict=True)) / 100
    want = math.nan if chance == 1 else (observed - chance) / (1 - chance)
    assert found.overall.kappa == pytest.approx(want, nan_ok=True)
    assert found.overall.frames == pytest.approx(observed)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.save_annotations(side([(0, 4, 0), (6, 8, 1)]), tmp_path / "a.json")
    formats.save_annotations(side([(1, 5, 0)]), tmp_path / "v.eaf")
    out = tmp_path / "out.json"
    words = ["agreement", str(tmp_path / "a.json"), str(tmp_path / "v.eaf")]
    assert main([*words, "--json", str(out), "--tiou", "0.6"]) == 0
    text = capsys.readouterr().out
    assert "1 videos of both, 0.2 minutes; segments match from tIoU 0.6, clicks within 1 s" in text
    run = next(line for line in text.splitlines() if line.startswith("run"))
    assert run.split()[1:] == ["0.583", "1", "1", "1", "1.000", "1.000", "4.0", "4.0"]
    assert json.loads(out.read_text())["classes"]["jump"]["border_error"] is None


def test_a_run_and_an_annotator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.save_annotations(side([(0, 4, 0)]), tmp_path / "a.json")
    run = Detections(("v",), ("run",), [0, 0], [0.0, 5.0], [4.0, 6.0], [0, 0], [0.9, 0.1])
    formats.save_detections(run, tmp_path / "d.json")
    words = ["agreement", str(tmp_path / "d.json"), str(tmp_path / "a.json")]
    assert main([*words, "--threshold", "0.5"]) == 0
    assert "run          1.000" in capsys.readouterr().out
    assert main(words) == 2
    assert "detections agree from a score on, and none is named; add --threshold" in capsys.readouterr().err


def test_numbers_out_of_range() -> None:
    with pytest.raises(InputError, match="a tIoU lies above 0 and at most at 1: found 2"):
        agreement(side([]), side([]), tiou=2)
    with pytest.raises(InputError, match="a tolerance is at least 0"):
        agreement(side([]), side([]), tolerance=-1)


def test_every_number_is_told() -> None:
    assert set(Agreed.__dataclass_fields__) == set(agreement(side([]), side([])).to_dict()["classes"][ALL])
