"""Options of the whole test suite, and the browser that several parts of it look at pages with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# tests run side by side, one process per core; threads inside of them would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# machines are slow and busy; speed lives in benchmarks/
settings.register_profile("weaktal", deadline=None)
settings.load_profile("weaktal")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="append", type=Path, default=None, help="folder of golden files")


ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium. Without one these tests are skipped, but never in CI."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        sync_playwright = None  # type: ignore[assignment]
    path = chromium_path()
    if path is None or sync_playwright is None:
        what = "no chromium on this machine" if path is None else "playwright is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what}: CI installs both (apt-get install chromium; pip install -e .[dev])")
        pytest.skip(f"{what}: apt-get install chromium, pip install playwright")
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=ARGS)
        yield found
        found.close()
