"""Changes of methods that CONTRIBUTING.md shows, made as it shows them: each in one file, and it trains."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.methods.jobs import train

ROOT = Path(__file__).parents[2]
SHOWN = re.findall(
    r"^```diff\n--- src/(weaktal/methods/(\w+)\.py)\n(.*?)^```",
    (ROOT / "CONTRIBUTING.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
PLACE = re.compile(r"^ ((?:class|def) \w+\().*\n", re.MULTILINE)  # what a diff shows next stands in there


def changed(source: str, diff: str) -> str:
    """A source file after a diff: below each place, the lines that it shows become those that it wants."""
    start, *places = PLACE.split(diff)
    end = 0
    for place, lines in zip(["", *places[::2]], [start, *places[1::2]], strict=True):
        old, new = (
            re.sub("^.", "", re.sub(rf"^\{sign}.*\n", "", lines, flags=re.M), flags=re.M) for sign in "+-"
        )
        at = source.index("\n" + old, source.index(place, end)) + 1
        end = at + len(new)
        source = source[:at] + new + source[at + len(old) :]
    return source


def losses(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_all_that_the_page_shows_is_tested() -> None:
    assert [name for _, name, _ in SHOWN] == ["sal", "asm_loc", "issf"]
    assert (ROOT / "CONTRIBUTING.md").read_text().count("```diff") == len(SHOWN)


@pytest.mark.parametrize(("file", "name", "diff"), SHOWN, ids=[name for _, name, _ in SHOWN])
def test_a_change_takes_under_ten_lines_of_one_file_and_trains(
    file: str, name: str, diff: str, tmp_path: Path
) -> None:
    assert 1 < len(re.findall(r"^[-+]", diff, re.MULTILINE)) < 10
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "src/weaktal", copy / "weaktal")
    (copy / file).write_text(changed((copy / file).read_text(), diff))

    train(name, tmp_path / "before")
    lines = [
        f"import weaktal; assert weaktal.__file__.startswith({str(copy)!r})",
        "from pathlib import Path; from tests.methods.jobs import train",
        f"train({name!r}, Path({str(tmp_path / 'after')!r}))",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(copy), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = losses(tmp_path / "before"), losses(tmp_path / "after")
    assert len(after) == len(before) > 3
    assert all(math.isfinite(x["total"]) for x in after)
    assert before[0]["total"] != after[0]["total"]
    assert ("sparsity" in after[0]) == ("sparsity" in diff)
