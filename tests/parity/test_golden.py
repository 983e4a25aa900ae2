"""Every golden file, found by looking: ``pytest tests/parity --golden DIR -k asm_loc``.

A golden folder holds one folder per method (or "evaluation", "i3d"), with ``.npz`` files in it. A file's
kind is its ``case`` entry, or else its name; the module ``tests/parity/METHOD.py`` maps kinds to checks in
`CHECKS`. A kind also covers names that extend it (``forward`` covers ``forward_b3``). A file that no check
knows fails.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

Check = Callable[[dict[str, np.ndarray], Path], None]


def check_for(path: Path, data: dict[str, np.ndarray]) -> Check:
    """The check of a golden file; fails where nobody knows it."""
    module = f"tests.parity.{path.parent.name}"
    if find_spec(module) is None:
        pytest.fail(f"no module {module} checks the folder {path.parent}")
    checks: dict[str, Check] = import_module(module).CHECKS
    kind = str(data["case"]) if "case" in data and data["case"].shape == () else path.stem
    for name in sorted(checks, key=len, reverse=True):
        if kind == name or kind.startswith(name + "_"):
            return checks[name]
    pytest.fail(f"{path}: no check for the kind {kind!r}; known: {sorted(checks)}")


def test_golden(golden_file: Path) -> None:
    with np.load(golden_file, allow_pickle=False) as archive:
        data = dict(archive)
    check_for(golden_file, data)(data, golden_file)
