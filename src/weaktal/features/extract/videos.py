"""Which files are meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from weaktal.core import InputError, composed

# what is taken from a folder; a file named directly may have any suffix
SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg"}
    | {".ts", ".mts", ".wmv", ".flv", ".3gp", ".ogv"}
)


def find_videos(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Video files named directly, and those in the named folders and their sub-folders, by suffix.

    Raises:
        InputError: a folder without a video in it, or two files of one name.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
            )
            if not inside:
                raise InputError(
                    "no video in this folder", file=path, expected="files in " + " ".join(sorted(SUFFIXES))
                )
            found += inside
        else:
            found.append(path)
    by_name: dict[str, Path] = {}
    for path in dict.fromkeys(found):
        name = composed(path.stem).casefold()  # other file systems take such names for one
        if name in by_name:
            same = by_name[name].stem == path.stem
            raise InputError(
                "two videos of one name: features are stored by name"
                + ("" if same else " (they differ only in case or in how accents are stored)"),
                found=f"{by_name[name]} and {path}",
                hint="rename one, or extract them into different folders",
            )
        by_name[name] = path
    return list(by_name.values())
