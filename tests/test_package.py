"""The package as it is released: built, installed beside NumPy and PyYAML alone, used from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hatchling")

REPOSITORY = Path(__file__).parents[1]


def build(source: Path, target: str, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that comes out of the source distribution."""
    folder = tmp_path_factory.mktemp("build")
    sdist = build(REPOSITORY, "sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    assert (source / "docs").is_dir()
    assert (source / "LICENSE").is_file()
    return build(source, "wheel", folder / "wheel")


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = REPOSITORY / "src"
    expected = {
        str(p.relative_to(source))
        for p in (source / "weaktal").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.name != ".DS_Store"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {n for n in names if n.startswith("weaktal/")} == expected
    assert any(n.endswith("licenses/LICENSE") for n in names)


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `weaktal` command of an environment that has NumPy and PyYAML, and nothing else."""
    home = tmp_path_factory.mktemp("light")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
    for name in ("numpy", "PyYAML"):
        found = files(name)
        assert found is not None
        for top in {path.parts[0] for path in found if path.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(Path(str(found[0].locate())).parents[len(found[0].parts) - 1] / top)
    return home / "bin/weaktal"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "features").mkdir()
    database = {}
    for name in ("a", "b"):
        actions = [{"segment": [1.0, 4.0], "label": "Jump"}, {"segment": [6.0, 9.5], "label": "Wave"}]
        database[name] = {"subset": "test", "duration": 10.0, "annotations": actions}
        np.save(folder / f"features/{name}.npy", np.ones((20, 4), np.float32))
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    results = {n: [{**a, "score": 0.5} for a in v["annotations"]] for n, v in database.items()}
    (folder / "found.json").write_text(json.dumps({"results": results}))
    (folder / "data.yaml").write_text("annotations: gt.json\nfeatures: {path: features, rate: 2}\n")
    return folder


def run(command: Path, folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run([command, *words.split()], cwd=folder, env=clean, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--version", "0."),
        (
            "evaluate found.json --ground-truth gt.json --protocol all --json out.json",
            "The protocol alone moves",
        ),
        ("evaluate found.json --data data.yaml", "activitynet v1 100.00"),
        ("data inspect data.yaml", "2 videos, 40 snippets, width 4"),
        ("data inspect gt.json", "2 videos, 4 instances, 2 classes"),
        ("data inspect found.json", "4 detections in 2 videos"),
        ("data convert gt.json gt.csv", "gt.csv: 2 videos"),
        ("data convert gt.json arrays", "arrays: 2 videos"),
        ("data convert found.json found.csv", "4 detections"),
        ("data convert features packed --rate 2", "2 videos, 40 snippets"),
        ("data simulate-points gt.json points.txt", "4 clicks in 2 videos"),
        ("diagnose found.json --ground-truth gt.json", "detections"),
    ],
)
def test_annotations_and_detections_need_no_network_library(
    light: Path, data: Path, words: str, told: str
) -> None:
    done = run(light, data, words)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_what_needs_more_says_so_in_one_line(light: Path, data: Path) -> None:
    done = run(light, data, "train lac --data data.yaml --out run")
    assert done.returncode == 2
    assert "needs the package" in done.stderr
    assert done.stderr.count("\n") == 1
