"""Which classes occur, which may, and that none does: what each format says about a video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weaktal import formats
from weaktal.core import Annotations, InputError, Instances, Video
from weaktal.files.convert import convert
from weaktal.files.inspection import inspect

FOUR = [
    Video("all", "train", labels=(0,)),
    Video("at least", "train", labels=(0,), complete=False),
    Video("nothing", "train", complete=True),
    Video("unknown", "train"),
]
ANNOTATIONS = Annotations.of(["hop", "run"], FOUR)


def kinds(path: Path) -> list[tuple[bool, bool]]:
    return [(bool(v.complete), v.empty) for v in formats.load_annotations(path)]


def test_json_says_all_four_kinds(tmp_path: Path) -> None:
    formats.save_annotations(ANNOTATIONS, tmp_path / "gt.json")
    assert kinds(tmp_path / "gt.json") == [(True, False), (False, False), (True, True), (False, False)]
    entry = json.loads((tmp_path / "gt.json").read_text())["database"]
    assert entry["nothing"]["labels"] == []
    assert entry["at least"]["complete"] is False
    assert "labels" not in entry["unknown"]
    assert "complete" not in entry["all"]


def test_a_list_without_labels_beside_instances_is_not_a_video_without_action(tmp_path: Path) -> None:
    """As files have it that we wrote of W-TALC arrays, whose labels name no class of such a video."""
    video = {"annotations": [{"segment": [0, 1], "label": "hop"}], "labels": []}
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"v": video}}))
    assert kinds(tmp_path / "gt.json") == [(False, False)]


def test_other_files_leave_a_video_without_annotations_unknown(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"v": {"subset": "t", "annotations": []}}}))
    assert kinds(tmp_path / "gt.json") == [(False, False)]


def test_a_table_says_all_four_kinds(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("video,label,complete\nall,hop,\nat least,hop,no\nnothing,None,\nunknown,,yes\n")
    assert kinds(table) == [(True, False), (False, False), (True, True), (False, False)]
    formats.save_annotations(formats.load_annotations(table), tmp_path / "again.csv")
    assert kinds(tmp_path / "again.csv") == kinds(table)
    plain = Annotations.of(["hop"], [FOUR[0], FOUR[2]])
    formats.save_annotations(plain, tmp_path / "plain.csv")
    assert "complete" not in (tmp_path / "plain.csv").read_text()
    assert ",none\n" in (tmp_path / "plain.csv").read_text()
    with pytest.raises(InputError, match="no class can have this name: found 'None'"):
        formats.save_annotations(Annotations.of(["None"], []), tmp_path / "n.csv")


def test_a_click_where_nothing_occurs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("video,label\nv,none\nw,hop\n")
    (tmp_path / "p.txt").write_text("w,1.0,hop\nv,2.0,hop\n")
    with pytest.raises(InputError, match=r"p\.txt: a click in a video in which.*nothing occurs: found 'v'"):
        formats.load_annotations(tmp_path / "t.csv", points=tmp_path / "p.txt")


def test_what_arrays_cannot_say_is_told(tmp_path: Path) -> None:
    formats.save_annotations(ANNOTATIONS, tmp_path / "gt.json")
    lost = convert(tmp_path / "gt.json", tmp_path / "arrays").lost
    assert {"videos in which nothing occurs", "labels that are not all"} <= set(lost)


def test_inspect_counts_them(tmp_path: Path) -> None:
    instance = Video("seen", "train", 9.0, instances=Instances([1], [2], [1]), labels=(1,))
    formats.save_annotations(Annotations.of(["hop", "run"], [*FOUR, instance]), tmp_path / "gt.json")
    text = str(inspect(tmp_path / "gt.json"))
    assert "1 videos in which nothing occurs: they train as such" in text
    assert "1 videos whose labels need not be all" in text
    assert "1 videos with no label at all (unknown): not trained on; the label none, or an empty list" in text
