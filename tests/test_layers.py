"""Imports point one way (design: the rooms), and the light rooms stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/weaktal"

# room -> rooms it may import besides itself
ROOMS = {
    "core": set(),
    "formats": {"core"},
    "features": {"core"},
    "localize": {"core"},
    "evaluate": {"core"},
    "nn": set(),
    "dataset": {"core", "formats", "features"},
    "methods": {"core", "nn", "localize", "features"},
    "train": {"core", "features", "formats", "methods", "nn", "dataset"},
    "bench": {"core", "dataset", "evaluate", "features", "formats", "methods", "train"},
    "report": {"core", "evaluate"},
    "demo": {"core", "features"},
}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("weaktal.")}
    return rooms - {"__version__"}


def files_of(room: str) -> list[Path]:
    single = SOURCE / f"{room}.py"
    return [single] if single.exists() else sorted((SOURCE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    for path in files_of(room):
        extra = imported_rooms(path) - ROOMS[room] - {room}
        assert not extra, f"{path.relative_to(SOURCE)} imports {sorted(extra)}"


def test_every_room_is_listed() -> None:
    rooms = {p.stem for p in SOURCE.iterdir() if p.is_dir() or p.suffix == ".py"}
    rooms -= {"__init__", "__main__", "__pycache__", "cli", "recipes", "py"}
    assert rooms <= set(ROOMS)


@pytest.mark.parametrize(
    "module", ["weaktal.core", "weaktal.formats", "weaktal.evaluate", "weaktal.cli.evaluate"]
)
def test_light_rooms_import_without_torch(module: str) -> None:
    heavy = ("torch", "pandas", "matplotlib", "cv2", "av", "pydantic")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
