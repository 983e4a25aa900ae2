"""Pseudo labels of a run: which detections are kept, and the layouts of ActionFormer and OpenTAD."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weaktal import formats
from weaktal.cli import main
from weaktal.core import Annotations, Detections, InputError, Video
from weaktal.formats import pseudo_labels

RUN = Detections(
    ("a", "b"),
    ("run", "jump"),
    [0, 0, 0, 0, 1],
    [5.0, 1.0, 3.0, 7.0, 0.0],
    [6.0, 2.0, 4.0, 8.0, 1.0],
    [0, 0, 0, 1, 1],
    [0.9, 0.8, 0.8, 0.7, 0.2],
)
KNOWN = Annotations.of(
    ["jump", "run"], [Video("a", "validation", 10.0, 25.0, labels=(1,)), Video("b", "test", 4.0, 30.0)]
)


def test_what_is_kept() -> None:
    assert len(pseudo_labels.confident(RUN, threshold=0.75)) == 3
    assert pseudo_labels.confident(RUN, top=1).score.tolist() == [0.9, 0.7, 0.2]
    assert pseudo_labels.confident(RUN, top=2).start.tolist() == [5.0, 1.0, 7.0, 0.0]  # of equals the first
    assert pseudo_labels.confident(RUN, KNOWN, top=1).score.tolist() == [0.9, 0.2]  # "a" holds no jump
    assert pseudo_labels.confident(RUN, threshold=0.5, top=2).score.tolist() == [0.9, 0.8, 0.7]
    with pytest.raises(InputError, match="it is not said which; a threshold, or the top K"):
        pseudo_labels.confident(RUN)


def test_actionformer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.save_detections(RUN, tmp_path / "d.json")
    formats.save_annotations(KNOWN, tmp_path / "gt.json")
    words = ["data", "convert", str(tmp_path / "d.json"), str(tmp_path / "p.json"), "--to", "actionformer"]
    assert main([*words, "--threshold", "0.75", "--annotations", str(tmp_path / "gt.json")]) == 0
    assert "3 detections" in capsys.readouterr().out
    database = json.loads((tmp_path / "p.json").read_text())["database"]
    assert database["b"] == {"subset": "test", "duration": 4.0, "fps": 30.0, "annotations": []}
    assert database["a"]["annotations"][0] == {
        "label": "run",
        "segment": [1.0, 2.0],
        "label_id": 0,
        "segment(frames)": [25.0, 50.0],
        "score": 0.8,
    }
    back = formats.load_annotations(tmp_path / "p.json")  # and it is a file of annotations
    assert [len(v.instances) for v in back] == [3, 0]
    assert main(words) == 2
    assert "it is not said which" in capsys.readouterr().err


def test_opentad(tmp_path: Path) -> None:
    pseudo_labels.write(RUN, tmp_path / "p.json", "opentad", KNOWN)
    entry = json.loads((tmp_path / "p.json").read_text())["database"]["a"]
    assert {k: entry[k] for k in ("subset", "duration", "frame")} == {
        "subset": "validation",
        "duration": 10.0,
        "frame": 250,
    }
    assert (tmp_path / "category_idx.txt").read_text() == "run\njump\n"
    with pytest.raises(InputError, match=r"a: OpenTAD needs the duration and frame rate of every video"):
        pseudo_labels.write(RUN, tmp_path / "q.json", "opentad")
    assert not (tmp_path / "q.json").exists()
