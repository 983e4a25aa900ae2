"""A real server, a real browser, rendered videos."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of rendered videos and nothing else: four seconds each, two kinds of action."""
    from weaktal.demo.render import render

    root = tmp_path_factory.mktemp("rendered")
    render(root, train=6, test=2, seconds=(4.0, 5.0), size=(96, 72), workers=1)
    return root / "videos"


class Server:
    """`weaktal app` in a process of its own."""

    def __init__(self, path: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.path, self.options = path, options
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "weaktal",
            "app",
            str(self.path),
            "--port",
            str(self.port),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            assert self.process.stderr is not None
            raise AssertionError(self.process.stderr.read())
        self.root, _, self.token = self.url.partition("?token=")

    def kill(self) -> None:
        """As if the power went."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def again(self) -> None:
        """The same address after a kill."""
        self.start()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=20)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.root, headers={"Authorization": f"Bearer {self.token}"}, timeout=60, trust_env=False
        )

    def saved(self) -> dict[str, Any]:
        """What ``annotations.json`` says."""
        folder = self.path if self.path.is_dir() else self.path.parent / f"{self.path.stem}-app"
        return json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["database"]


@pytest.fixture
def folder(videos: Path, tmp_path: Path) -> Path:
    """A copy of the rendered videos, to become a project."""
    target = tmp_path / "project"
    shutil.copytree(videos, target)
    return target


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    found = Server(folder)
    yield found
    found.stop()


def until(look: Any, what: str, seconds: float = 60.0) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")
