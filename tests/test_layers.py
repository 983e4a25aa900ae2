"""Imports point one way (design: the rooms), commands stay apart, and the light rooms stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from weaktal.cli import COMMANDS

SOURCE = Path(__file__).parents[1] / "src/weaktal"

# room -> rooms it may import besides itself
ROOMS = {
    "core": set(),
    "formats": {"core"},
    "features": {"core"},
    "localize": {"core"},
    "evaluate": {"core"},
    "report": {"core", "evaluate"},
    "nn": set(),
    "dataset": {"core", "formats", "features"},
    "files": {"core", "dataset", "evaluate", "features", "formats", "report"},
    "methods": {"core", "nn", "localize", "features"},
    "train": {"core", "dataset", "evaluate", "features", "formats", "localize", "methods", "nn", "report"},
    "bench": {"core", "dataset", "evaluate", "features", "formats", "methods", "report", "train"},
    "templates": {"core", "localize", "methods", "nn"},
    "testing": {"core", "features", "methods", "train"},
    "demo": {"core", "dataset", "evaluate", "features", "files", "train"},
}
ABOVE = {"cli", "app"}  # may import every room


def imported(path: Path) -> set[str]:
    """Modules and names of ours that a file imports, without the leading ``weaktal.``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.removeprefix("weaktal.") for name in names if name.startswith("weaktal.")}
    return found - {"__version__"}


def files_of(room: str) -> list[Path]:
    single = SOURCE / f"{room}.py"
    return [single] if single.exists() else sorted((SOURCE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    for path in files_of(room):
        extra = {name.split(".")[0] for name in imported(path)} - ROOMS[room] - {room}
        assert not extra, f"{path.relative_to(SOURCE)} imports {sorted(extra)}"


def test_no_room_is_below_itself() -> None:
    below: dict[str, set[str]] = {}
    while len(below) < len(ROOMS):
        lowest = {room for room, uses in ROOMS.items() if room not in below and uses <= set(below)}
        assert lowest, f"a circle among {sorted(set(ROOMS) - set(below))}"
        below |= {room: ROOMS[room] for room in lowest}


def test_every_room_is_listed() -> None:
    rooms = {p.stem for p in SOURCE.iterdir() if p.is_dir() or p.suffix == ".py"}
    rooms -= {"__init__", "__main__", "__pycache__", "recipes", "py"} | ABOVE
    assert rooms <= set(ROOMS)


def test_no_command_imports_another() -> None:
    commands = {name.replace("-", "_") for name in COMMANDS}
    files = {path.stem: path for path in files_of("cli")}
    assert commands <= set(files)
    for stem, path in files.items():
        others = {n.split(".")[1] for n in imported(path) if n.startswith("cli.")} & commands
        assert not others, f"cli/{stem}.py imports {sorted(others)}"
        assert "app" not in {n.split(".")[0] for n in imported(path)} or stem == "app"


def test_nothing_below_imports_a_command() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] not in ("cli", "__main__.py"):
            assert not any(n.split(".")[0] == "cli" for n in imported(path)), path


@pytest.mark.parametrize(
    "module",
    [
        "weaktal",
        "weaktal.core",
        "weaktal.formats",
        "weaktal.evaluate",
        "weaktal.dataset",
        "weaktal.files.convert",
        "weaktal.files.evaluation",
        "weaktal.files.inspection",
        "weaktal.cli.data",
        "weaktal.cli.evaluate",
    ],
)
def test_light_rooms_import_without_torch(module: str) -> None:
    heavy = ("torch", "pandas", "matplotlib", "cv2", "av", "pydantic", "rich")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
