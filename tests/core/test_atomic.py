from pathlib import Path

import pytest

from weaktal.core import atomic_path, write_text


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
