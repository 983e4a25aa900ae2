"""Other versions of Python are found where they are, and told where they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import pythons

OWN = ".".join(map(str, sys.version_info[:2]))


def test_the_interpreter_that_runs_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert pythons.interpreter(OWN) is not None
    assert pythons.interpreter("3.99") is None


def test_a_shim_without_an_interpreter_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    kept = tmp_path / "pyenv/versions/3.99.10/bin"
    kept.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert pythons.interpreter("3.99") is None
    (kept / "python").write_text("#!/bin/sh\necho 3.99\n")
    (kept / "python").chmod(0o755)
    assert pythons.interpreter("3.99") == kept / "python"


def test_what_was_skipped_is_told() -> None:
    done = subprocess.run(
        [sys.executable, pythons.__file__, "3.99"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.strip() == "pythons: skipped, not on this machine: 3.99"


def test_the_tests_that_it_runs_are_there() -> None:
    for word in pythons.TESTS.split():
        assert (pythons.ROOT / word.removeprefix("--ignore=")).exists()


def test_every_package_has_a_lower_bound() -> None:
    bounds = pythons.oldest()
    assert all(">=" in bound for bound in bounds)
    assert "numpy>=1.26" in bounds
