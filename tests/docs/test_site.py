"""The site as a reader searches it, in a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Building it without a warning is part of the test."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    clean = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize(
    ("asked", "page", "section", "answer"),
    [
        ("fps", "questions/", "#which-fps-do-i-give", "at which frames were taken for the features"),
        ("my own videos", "questions/", "#can-i-use-my-own-videos", "weaktal app"),
        ("210 or 212", "questions/", "#thumos14-210-or-212-test-videos", "Both lists exist"),
    ],
)
def test_a_search_finds_the_answer_at_once(
    site: str,
    browser: Any,
    asked: str,
    page: str,
    section: str,
    answer: str,
) -> None:
    """The first page that is found, or its first section, holds the answer in the words that are shown."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.goto(site)
    tab.locator("input.md-search__input").first.press_sequentially(asked)
    found = tab.locator(".md-search-result__item").first.locator("a")
    tab.wait_for_function(
        "asked => document.querySelector('.md-search-result__item a')?.href.includes('h=')", timeout=120_000
    )
    shown = [(a.get_attribute("href") or "", " ".join(a.inner_text().split())) for a in found.all()[:2]]
    tab.close()
    assert page in shown[0][0], shown
    assert any(where.endswith(section) and answer in told for where, told in shown), shown
