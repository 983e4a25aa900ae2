"""The names of `weaktal`: all there, typed as they are, and none imported before it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import weaktal


@pytest.mark.parametrize("name", weaktal.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(weaktal, name)
    assert name == "__version__" or found.__doc__
    assert name in dir(weaktal)


def test_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(weaktal.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"weaktal.{room}.{name}" for name, room in weaktal._PLACES.items()}


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian_run'"):
        _ = weaktal.trian_run  # type: ignore[attr-defined]


def test_no_name_is_taken_by_a_room() -> None:
    code = "import weaktal; names = weaktal.__all__; before = [getattr(weaktal, n) for n in names]\n"
    code += "import weaktal.files.inspection, weaktal.train.predict, weaktal.bench.search\n"
    code += "assert all(getattr(weaktal, n) is b for n, b in zip(names, before))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_almost_nothing() -> None:
    code = "import sys, weaktal; print([m for m in ('numpy', 'yaml', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
