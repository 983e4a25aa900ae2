"""Limits: documented, held, and raised by the environment."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from weaktal import formats
from weaktal.core import InputError
from weaktal.core.limits import LIMITS, limit
from weaktal.core.reading import parse_yaml
from weaktal.evaluate import evaluate
from weaktal.files.evaluation import evaluate_detections

ROOT = Path(__file__).parents[2]


def annotated(
    folder: Path, *, videos: int = 1, classes: int = 1, end: float = 2.0, duration: float = 5.0
) -> Path:
    rows = [{"segment": [1, end], "label": f"c{c}"} for c in range(classes)]
    entry = {"duration": duration, "annotations": rows}
    (folder / "gt.json").write_text(json.dumps({"database": {f"v{i}": entry for i in range(videos)}}))
    return folder / "gt.json"


@pytest.mark.parametrize("name", LIMITS)
def test_the_page_names_every_limit(name: str) -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert re.search(rf"`WEAKTAL_MAX_{name.upper()}` \| {int(LIMITS[name]):,} ", page)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("classes", {"classes": 4}),
        ("videos", {"videos": 4}),
        ("seconds", {"end": 4.0, "duration": 1.0}),
        ("seconds", {"duration": 4.0}),
    ],
)
def test_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sizes: dict[str, int]
) -> None:
    path = annotated(tmp_path, **sizes)
    formats.load_annotations(path)
    monkeypatch.setenv(f"WEAKTAL_MAX_{name.upper()}", "3")
    with pytest.raises(InputError, match=rf"gt\.json.*found 4.*at most 3; WEAKTAL_MAX_{name.upper()} raises"):
        formats.load_annotations(path)
    monkeypatch.setenv(f"WEAKTAL_MAX_{name.upper()}", "4")
    formats.load_annotations(path)


def test_clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.txt").write_text("v,1,a\nv,2,b\nv,3,c\n")
    monkeypatch.setenv("WEAKTAL_MAX_CLICKS", "2")
    with pytest.raises(InputError, match="more clicks than anybody needs: found 3, expected at most 2"):
        formats.load_points(tmp_path / "p.txt")


def test_thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = formats.load_annotations(annotated(tmp_path))
    (tmp_path / "d.json").write_text('{"results": {"v0": [{"segment": [1, 2], "label": "c0", "score": 1}]}}')
    monkeypatch.setenv("WEAKTAL_MAX_THRESHOLDS", "2")
    with pytest.raises(InputError, match="more thresholds than anybody needs"):
        evaluate(formats.load_detections(tmp_path / "d.json"), truth, tiou=[0.1, 0.2, 0.3])
    with pytest.raises(InputError, match=r"d\.json: more thresholds"):
        evaluate_detections(tmp_path / "d.json", ground_truth=tmp_path / "gt.json", tiou=[0.1, 0.2, 0.3])


def test_yaml_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKTAL_MAX_YAML_VALUES", "5")
    assert parse_yaml("[1, 2, 3]") == [1, 2, 3]
    with pytest.raises(InputError, match="aliases followed"):
        parse_yaml("[&a [1, 2], *a]")


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", ""])
def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WEAKTAL_MAX_CLASSES", text)
    with pytest.raises(InputError, match="WEAKTAL_MAX_CLASSES: a limit is a positive number"):
        limit("classes")


@pytest.mark.parametrize(
    ("duration", "message"), [(-5, "a duration is negative"), ("x", "expected a number")]
)
def test_durations_that_cannot_be(tmp_path: Path, duration: object, message: str) -> None:
    path = annotated(tmp_path, duration=duration)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        formats.load_annotations(path)
