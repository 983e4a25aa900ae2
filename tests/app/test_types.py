"""The page's modules under `tsc --checkJs --strict`: the comments in them are types, and they hold."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def test_the_modules_are_typed() -> None:
    tsc = os.environ.get("WEAKTAL_TSC") or shutil.which("tsc")
    if tsc is None:
        if os.environ.get("CI") == "true":
            pytest.fail(
                "no tsc: CI installs it (npm install typescript, WEAKTAL_TSC=.../node_modules/.bin/tsc)"
            )
        pytest.skip("no tsc on this machine: npm install -g typescript")
    config = Path(__file__).with_name("tsconfig.json")
    done = subprocess.run([tsc, "-p", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
