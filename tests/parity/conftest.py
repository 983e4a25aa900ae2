"""Collects golden files: the copy in tests/golden, ../shared/golden where it exists, or --golden DIR."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEFAULT = (ROOT / "tests/golden", ROOT.parent / "shared/golden")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_file" not in metafunc.fixturenames:
        return
    folders = metafunc.config.getoption("--golden", default=None) or DEFAULT
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*/*.npz")):
            found.setdefault(f"{path.parent.name}/{path.stem}", path)
    assert found, f"no golden files in {', '.join(map(str, folders))}"
    metafunc.parametrize("golden_file", list(found.values()), ids=list(found))
