"""Options of the whole test suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# tests run side by side, one process per core; threads inside of them would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# machines are slow and busy; speed lives in benchmarks/
settings.register_profile("weaktal", deadline=None)
settings.load_profile("weaktal")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="append", type=Path, default=None, help="folder of golden files")
