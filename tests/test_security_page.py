"""The page of guards names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_guard_has_its_test() -> None:
    page = (ROOT / "docs/security.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|") and "tests/" in line]
    assert len(rows) > 20
    for row in rows:
        paths = [ROOT / p for p in re.findall(r"`(tests/[\w/.]+)`", row)]
        assert paths, row
        text = ""
        for path in paths:
            assert path.exists(), path
            text += "".join(p.read_text() for p in ([path] if path.is_file() else path.rglob("*.py")))
        for name in re.findall(r"`(test_\w+)`", row):
            assert f"def {name}(" in text, name
