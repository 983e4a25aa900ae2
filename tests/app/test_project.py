"""A project on the disk: what was acknowledged is there, whatever happens to the process or the file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from weaktal.app.annotations_file import video_entry
from weaktal.app.project import Project
from weaktal.core import InputError
from weaktal.dataset import Dataset

WRITER = """
import sys
from weaktal.app.project import Project
project = Project.open(sys.argv[1])
c = project.add_class("Jump")
for i in range(100_000):
    project.change(f"click {i}", [(f"click/k{i}", {"video": "v", "class": c, "time": i / 10})])
    print(i, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with something that has the name of a video."""
    (tmp_path / "v.mp4").write_bytes(b"not really")
    return tmp_path


def click(time: float, c: str, video: str = "v") -> dict:
    return {"video": video, "class": c, "time": time}


def test_a_folder_of_videos_becomes_a_project_that_commands_read(folder: Path) -> None:
    project = Project.open(folder)
    c = project.add_class("Jump")
    project.change("x", [("click/1", click(1.5, c))])
    project.close()
    data = Dataset.load(folder / "project.yaml")
    assert data.subset("train").videos["v"].points.time.tolist() == [1.5]  # type: ignore[union-attr]
    assert data.classes == ("Jump",)
    assert json.loads((folder / "annotations.json").read_text())["database"]["v"]["video"]["path"] == "v.mp4"
    again = Project.open(folder)
    assert again.document.state == project.document.state
    assert again.undo("page").entry is not None  # also after a restart
    assert "click/1" not in again.document.state
    again.close()


def test_kill_in_the_middle_of_saving_loses_nothing(folder: Path) -> None:
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        last = -1
        for line in writer.stdout:
            last = int(line)
            if last >= 7 + 13 * round_:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        last = max([last, *map(int, rest)])
        project = Project.open(folder)
        clicks = {id_ for id_, _ in project.document.of("click")}
        assert {f"k{i}" for i in range(last + 1)} <= clicks  # all that was acknowledged
        project.close()
        state = json.loads((folder / "annotations.json").read_text())
        assert len(state["database"]["v"]["points"]) == len(clicks)


def test_a_torn_line_and_a_lost_file(folder: Path) -> None:
    project = Project.open(folder)
    c = project.add_class("Jump")
    project.change("x", [("click/1", click(1.0, c))])
    project.close()
    state = dict(project.document.state)
    with (folder / "history/edits.jsonl").open("ab") as file:
        file.write(b'{"version": 99, "changes": [{"key": "click/2"')
    (folder / "annotations.json").unlink()
    project = Project.open(folder)
    assert project.document.state == state
    project.change("y", [("click/3", click(3.0, c))])
    project.close()
    assert all(json.loads(line) for line in (folder / "history/edits.jsonl").read_text().splitlines())


def test_an_edit_by_hand_goes_together_with_the_page(folder: Path) -> None:
    project = Project.open(folder)
    told: list[str] = []
    project.listen(lambda kind, facts: told.append(facts["text"]) if kind == "notice" else None)
    c = project.add_class("Jump")
    project.change("x", [("click/1", click(1.0, c)), ("click/2", click(2.0, c))])
    project.save()
    path = folder / "annotations.json"
    by_hand = json.loads(path.read_text())
    points = by_hand["database"]["v"]["points"]
    points[0]["time"] = 1.25  # moves one,
    points[1]["time"] = 2.5  # moves another that the page is moving, too,
    points.append({"time": 9.0, "label": "Fall"})  # and adds one of a new class
    by_hand["classes"].append("Fall")
    with project.lock:
        project.change("y", [("click/2", {"time": 2.75})])  # not seen by who edits the file
        path.write_text(json.dumps(by_hand))
    project.refresh()
    times = sorted(r["time"] for _, r in project.document.of("click"))
    assert times == [1.25, 2.75, 9.0]
    assert "1 were changed here since" in told[0]
    aside = list((folder / "history").glob("annotations-*.json"))
    assert len(aside) == 1
    project.close()
    assert len(json.loads(path.read_text())["database"]["v"]["points"]) == 3


def test_a_broken_edit_by_hand_is_kept_aside(folder: Path) -> None:
    project = Project.open(folder)
    c = project.add_class("Jump")
    project.change("x", [("click/1", click(1.0, c))])
    project.save()
    (folder / "annotations.json").write_text('{"database": {"v": ')
    project.refresh()
    assert "not taken over" in project.notices[0]
    project.close()
    assert json.loads((folder / "annotations.json").read_text())["database"]["v"]["points"]
    (aside,) = (folder / "history").glob("annotations-*.json")
    assert aside.read_text() == '{"database": {"v": '


def test_a_project_is_open_once(folder: Path) -> None:
    project = Project.open(folder)
    with pytest.raises(InputError, match="open already"):
        Project.open(folder)
    project.close()
    Project.open(folder).close()


def test_videos_are_imported_by_path_and_moved(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(folder / "v.mp4", elsewhere / "w.mp4")
    shutil.copy(folder / "v.mp4", elsewhere / "v.mp4")
    project = Project.open(folder)
    with pytest.raises(InputError, match="another video of this name"):
        project.import_videos([elsewhere])
    (elsewhere / "v.mp4").unlink()
    assert project.import_videos([elsewhere]) == ["w"]
    assert not (folder / "w.mp4").exists()
    path = project.video_path("w")
    assert path is not None
    assert path.resolve() == elsewhere / "w.mp4"
    moved = tmp_path_factory.mktemp("moved")
    os.replace(elsewhere / "w.mp4", moved / "w.mp4")
    assert project.import_videos([moved]) == ["w"]  # found again
    assert project.video_path("w") == moved / "w.mp4" or project.video_path("w").exists()  # type: ignore[union-attr]
    project.close()


def test_the_project_of_a_data_set(tmp_path: Path) -> None:
    gt = {
        "classes": ["Run", "Jump"],
        "database": {
            "a": {"subset": "train", "duration": 9, "annotations": [{"segment": [1, 2], "label": "Jump"}]},
            "b": {"subset": "test", "duration": 9, "annotations": [], "labels": ["Run"]},
            "c": {"subset": "train", "duration": 9, "annotations": [], "labels": []},
            "d": {"subset": "train", "duration": 9, "annotations": [], "labels": ["Run"], "complete": False},
        },
    }
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "clicks.txt").write_text("a,1.7,Jump\n")
    description = "name: mine\nannotations: gt.json\npoints: clicks.txt\nfeatures: {path: feats, rate: 2}\n"
    (tmp_path / "data.yaml").write_text(description)
    for run in ("lac-0", "tspnet-0/base", "unfinished"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.yaml").write_text("method: lac\n")
        if run != "unfinished":
            (tmp_path / run / "detections.json").write_text('{"results": {}}')
    project = Project.open(tmp_path / "data.yaml")
    assert project.folder == tmp_path / "data-app"
    project.close()
    runs = sorted((tmp_path / "data-app/runs").iterdir())
    assert [p.name for p in runs] == ["lac-0", "tspnet-0-base"]  # links: nothing is copied
    assert runs[1].resolve() == tmp_path / "tspnet-0/base"
    found, given = Dataset.load(project.folder / "project.yaml"), Dataset.load(tmp_path / "data.yaml")
    assert found.annotations == given.annotations
    assert found.features["path"].resolve() == tmp_path / "feats"
    made = {"data-app", "lac-0", "tspnet-0", "unfinished"}
    assert {p.name for p in tmp_path.iterdir()} - made == {"clicks.txt", "data.yaml", "gt.json"}
    again = Project.open(tmp_path / "data.yaml")  # not imported twice
    assert again.document.state == project.document.state
    assert again.document.state["video/c"]["nothing"]
    again.change("tags", [("video/d", {"done": True})])  # then its tags are all
    again.close()
    assert Dataset.load(again.folder / "project.yaml").subset("train").videos["d"].complete


def test_what_is_not_labelled_is_not_a_video_without_action(folder: Path) -> None:
    project = Project.open(folder)
    project.change("note", [("video/v", {"note": "dark"})])
    assert "labels" not in video_entry(project.document, "v")
    project.change("0", [("video/v", {"nothing": True})])
    project.close()
    assert Dataset.load(folder / "project.yaml").subset("train").videos["v"].empty
    again = Project.open(folder)
    assert again.document.state["video/v"]["nothing"]
    again.close()


def test_a_large_project_opens_at_once(tmp_path: Path) -> None:
    """No timing here: what grows with the square of the videos would take minutes."""
    database = {
        f"v{i:04}": {"annotations": [{"segment": [j, j + 1], "label": f"c{j % 9}"} for j in range(20)]}
        for i in range(2000)
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    (tmp_path / "project.yaml").write_text("name: large\nannotations: annotations.json\n")
    began = time.monotonic()
    project = Project.open(tmp_path)
    assert len(list(project.document.of("segment"))) == 40_000
    project.close()
    print(f"{time.monotonic() - began:.2f} s")


@pytest.mark.parametrize("text", ["[1]", "name: x\n", "a: [", "annotations: other.json\n"])
def test_what_is_no_project_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "project.yaml").write_text(text)
    with pytest.raises(InputError):
        Project.open(tmp_path)
