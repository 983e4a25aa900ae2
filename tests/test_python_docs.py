"""The page "From Python": its blocks run in order, as a plain script, on a tiny rendered data set."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")
pytest.importorskip("cv2")

import weaktal
from weaktal.demo import render

PAGE = Path(__file__).parents[1] / "docs/python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page starts from."""
    folder = tmp_path_factory.mktemp("python")
    render(folder, train=4, test=2, seconds=(10.0, 12.0), size=(80, 60), fps=15, workers=2)
    (folder / "demo.yaml").rename(folder / "data.yaml")
    (folder / "new_videos").mkdir()
    shutil.copy(folder / "videos/demo_test_000.mp4", folder / "new_videos/mine.mp4")
    return folder


def test_the_page_runs_as_a_script(folder: Path) -> None:
    # a file of its own, without a guard: worker processes must not run it again
    (folder / "script.py").write_text("\n".join(BLOCKS))
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in (
        "6 videos, 0 failed",
        "coverage: 6 of 6 annotated videos have features",
        "trained asm_loc on 4 videos",
        "mAP in % at tIoU",
        "look at run/report.html",
        "activitynet 0.",
        "unknown method 'asm_lok' did you mean 'asm_loc'?",
    ):
        assert text in done.stdout, done.stdout
    assert re.search(r"^mine \d+\.\d to \d+\.\d s: \w+$", done.stdout, re.MULTILINE)
    assert (folder / "segments/segments/mine.srt").exists()


def test_the_whole_job_is_a_short_script() -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 25
    assert "main(" not in BLOCKS[0]


def test_the_page_names_every_function() -> None:
    functions = {n for n in weaktal.__all__ if n[0].islower() and not n.startswith(("load_", "save_"))}
    table = set(re.findall(r"^\| `(\w+)\(", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert table == functions - {"__version__"}
