"""Every command that README and docs show is one that the command line takes; Python blocks compile."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from weaktal.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHAINED = re.compile(r"&&|\|(?!\|)|;|>")


def commands(page: Path) -> list[str]:
    """Lines of code blocks that call `weaktal`, continued lines joined, comments and prompts taken off."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in ("", "sh", "bash", "console"):
            for line in text.replace("\\\n", " ").splitlines():
                for part in CHAINED.split(line.split("   #")[0].split(" # ")[0]):
                    words = part.strip().removeprefix("$ ").split()
                    while words and ("=" in words[0] or words[0] in ("nice", "time", "srun")):
                        words.pop(0)  # variables before the command
                    if words[:1] == ["weaktal"] and words[1:2] != ["--help"]:
                        found.append(" ".join(words))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_are_taken(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in COMMANDS:
        monkeypatch.setattr(import_module(f"weaktal.cli.{name.replace('-', '_')}"), "run", lambda args: 0)
    monkeypatch.setattr("weaktal.methods.load_method", lambda where: None)
    for line in commands(page):
        if re.match(r"weaktal [a-z-]+: ", line):  # what it says, not what one types
            continue
        words = shlex.split(re.sub(r" \.\.\.(?=\])|[\[\]]", "", line))[1:]
        argv = [{"N": "1"}.get(word, word) for word in words]
        assert main(argv) == 0, f"{line}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_compile(page: Path) -> None:
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(text, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_commands_are_found() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
