"""The README's path for one's own videos, typed as it stands there, from a folder of videos alone."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from weaktal.cli import main
from weaktal.demo import render

README = Path(__file__).parents[1] / "README.md"
SMALL = {"train": ["--set", "epochs=3", "--set", "snippets=40", "--quiet"]}  # a second in place of a minute


def commands() -> list[list[str]]:
    text = README.read_text(encoding="utf-8").split("## Your own videos, by commands")[1]
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`my_videos` and `new_videos`; what happens in them is known to the test alone."""
    out = tmp_path_factory.mktemp("own")
    render(out / "demo", train=6, test=1, seconds=(8.0, 10.0), size=(96, 72))
    truth = json.loads((out / "demo/gt.json").read_text())["database"]
    for subset, name in (("train", "my_videos"), ("test", "new_videos")):
        (out / name).mkdir()
        for video, about in truth.items():
            if about["subset"] == subset:
                shutil.copy(next((out / "demo/videos").rglob(f"{video}.mp4")), out / name)
    return out


def fill_in(table: Path, truth: Path) -> None:
    """What a person does: a row for each class of each video."""
    database = json.loads(truth.read_text())["database"]
    with table.open(newline="") as file:
        names = [row["video"] for row in csv.DictReader(file)]
    rows = [(n, c) for n in names for c in sorted({a["label"] for a in database[n]["annotations"]})]
    table.write_text("video,label\n" + "".join(f"{n},{c}\n" for n, c in rows))


def test_as_the_readme_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    typed = commands()
    assert [words[0] for words in typed] == ["extract", "data", "train", "localize", "report", "predict"]
    for words in typed:
        assert main([*words, *SMALL.get(words[0], [])]) == 0, capsys.readouterr().err
        if words[0] == "data":
            fill_in(folder / "labels.csv", folder / "demo/gt.json")
    page = (folder / "my_run/report.html").read_text()
    assert "nobody annotated instances" in page
    for table in (folder / "my_run/segments.csv", folder / "segments/segments.csv"):
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["video", "class", "start", "end", "duration", "score"]
        for row in rows:
            span = float(row["end"]) - float(row["start"])
            assert float(row["duration"]) == pytest.approx(span, abs=2e-3)
    new = {p.stem for p in (folder / "new_videos").iterdir()}
    assert {row["video"] for row in rows} <= new
    assert main(["data", "labels", "my_videos"]) == 2  # what was filled in is not written over
    assert "already" in capsys.readouterr().err
