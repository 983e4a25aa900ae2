"""Names that formats cannot hold: what is written comes back to the last bit, or is refused in one line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weaktal import formats
from weaktal.core import Annotations, Detections, InputError, Instances, Video
from weaktal.formats import PointTable, ambiguous, point_csv, sfnet_points
from weaktal.formats.tables import read_rows, write_rows

ODD = [
    *(
        " spaced ",
        "a,b",
        'say "hi"',
        "a\nb",
        "a\r",
        "a\tb",
        "\ufeffa",
        "#a",
        "a;b",
        "1e5",
        "NaN",
        "a\x85",
        "a\x1c",
    ),
    *("=cmd|'/c calc'!A0", "@a", "+1+1", "-1+1", "-dQw4w9WgXcQ", "'a", "'=a", "''=a", "<font>", "{\\an8}"),
    *("café", "cafe\u0301", "\udcff", "a\u2028b", "\u3000a", "x\0"),
]
names = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8"), min_size=1, max_size=8))
names = names.filter(lambda s: s.strip() and "\0" not in s)


def annotated(video: str, label: str) -> Annotations:
    span = Instances([0.1], [0.1 + 0.2], [0])
    return Annotations.of([label], [Video(video, None, 9.7, 25.0, span, None, (0,))])


def there_and_back(write: Callable[[Path], None], read: Callable[[Path], object], suffix: str) -> object:
    """What is read of what was written; None if that was refused, and nothing is left then."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        try:
            write(path)
        except InputError:
            assert not path.is_file()
            return None
        return read(path)


@given(names, names, st.sampled_from([".json", ".csv", ""]))
@example(" spaced ", "run", ".csv")
@example("a,b", "=1+1", ".csv")
@example("x", "x\0", "")
def test_annotations(video: str, label: str, suffix: str) -> None:
    before = annotated(video, label)
    after = there_and_back(
        lambda p: formats.save_annotations(before, p), lambda p: formats.load_annotations(p), suffix
    )
    assert after == before or (after is None and suffix != ".json")


@given(names, names, st.sampled_from([".json", ".csv"]))
@example("-dQw4w9WgXcQ", "'=a", ".csv")
def test_detections(video: str, label: str, suffix: str) -> None:
    before = Detections((video,), (label,), [0], [0.1], [0.1 + 0.2], [0], [1 / 3])
    after = there_and_back(
        lambda p: formats.save_detections(before, p), lambda p: formats.load_detections(p), suffix
    )
    assert after == before or (after is None and suffix != ".json")


@given(names, names, st.sampled_from(["sfnet", "csv"]))
@example("a,b", "x,y", "sfnet")
@example("#a", "x", "sfnet")
@example("video", "class", "sfnet")
def test_clicks(video: str, label: str, kind: str) -> None:
    before = PointTable((video,), np.array([0.3]), (label,))
    if kind == "csv":
        after = there_and_back(
            lambda p: point_csv.write(before, p, 10.0), lambda p: point_csv.read(p, 10.0), ".csv"
        )
    else:
        after = there_and_back(lambda p: sfnet_points.write(before, p), sfnet_points.read, ".txt")
    assert after is None or after == before


@given(names)
def test_intervals(video: str) -> None:
    before = {video: np.array([[0.1, 0.3]])}
    after = there_and_back(lambda p: ambiguous.write(before, p), ambiguous.read, ".txt")
    assert after is None or (isinstance(after, dict) and after.keys() == before.keys())


@pytest.mark.parametrize("name", [n for n in ODD if "\0" not in n])
def test_json_holds_every_name(tmp_path: Path, name: str) -> None:
    before = annotated(name, name)
    formats.save_annotations(before, tmp_path / "gt.json")
    assert formats.load_annotations(tmp_path / "gt.json") == before


@settings(max_examples=200)
@given(st.lists(st.lists(names, min_size=2, max_size=2), max_size=4))
def test_tables_hold_what_they_accept(rows: list[list[str]]) -> None:
    found = there_and_back(
        lambda p: write_rows(p, ["a", "b"], rows),
        lambda p: [list(row.values()) for _, row in read_rows(p, {"a": ["a"], "b": ["b"]}, ["a", "b"])],
        ".csv",
    )
    assert found is None or found == rows


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A0", "@SUM(1)", "+1+cmd()", "-2+3", "=1"])
def test_spreadsheets_get_no_formulas(tmp_path: Path, name: str) -> None:
    before = annotated(name, name)
    formats.save_annotations(before, tmp_path / "gt.csv")
    with (tmp_path / "gt.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=@" and cell]
    assert f"'{name}" in cells
    assert formats.load_annotations(tmp_path / "gt.csv") == before


def test_names_that_begin_with_a_dash_stay_as_they_are(tmp_path: Path) -> None:
    """As many names of videos do; they compute nothing."""
    formats.save_annotations(annotated("-dQw4w9WgXcQ", "run"), tmp_path / "gt.csv")
    assert "\n-dQw4w9WgXcQ," in (tmp_path / "gt.csv").read_text()


def test_one_line_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a CSV table cannot hold a name with a line break.*found 'a\\nb'; JSON"
    ):
        formats.save_annotations(annotated("a\nb", "run"), tmp_path / "gt.csv")
    with pytest.raises(InputError, match="W-TALC's arrays cannot hold"):
        formats.save_annotations(annotated("run", "a\0"), tmp_path / "arrays")
    assert not any(tmp_path.rglob("*.npy"))
    some = annotated("v ", "run").map(lambda v: replace(v, ignored=np.array([[1.0, 2.0]])))
    with pytest.raises(InputError, match="a list of intervals cannot hold a name with a blank"):
        formats.save_annotations(some, tmp_path / "arrays")
    assert not any(tmp_path.rglob("*.npy"))
