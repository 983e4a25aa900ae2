import json
from pathlib import Path

import pytest

from weaktal.core import atomic_path, write_text
from weaktal.core.atomic import clear_leftovers


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "x.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["x.txt"]


def test_a_write_replaces_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "one")
    write_text(tmp_path / "x.txt", "zwei: ä")
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == "zwei: ä"


def test_long_names_are_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120 + ".json")
    write_text(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.json", "é" * 120 + ".json"])
def test_leftovers_of_killed_writers_are_cleared(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / name, tmp_path / ("x" + name[1:])
    with atomic_path(path) as temporary, atomic_path(other) as beside:
        assert clear_leftovers(path) == 1
        assert not temporary.exists()
        assert beside.exists()
        temporary.touch()
    assert path.exists()
    assert clear_leftovers(tmp_path / "nowhere" / "a.json") == 0


def test_text_of_odd_file_names_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '"v\udcff"')
    assert json.loads((tmp_path / "a.json").read_text()) == "v\udcff"
