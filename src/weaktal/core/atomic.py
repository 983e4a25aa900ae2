"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The parent folder is made if need be. On an error the temporary file is removed and `path` is untouched.
    """
    import tempfile  # brings random and shutil, which what only reads does not need

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes the file private
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def temporary_prefix(path: Path) -> str:
    """What the temporary files of a path begin with: its name, cut where the whole would be too long."""
    room = 255 - len(os.fsencode(path.suffix)) - 16
    return "." + os.fsdecode(os.fsencode(path.name)[:room]) + "."


def clear_leftovers(path: str | os.PathLike[str]) -> int:
    """Remove what a process that was killed left of its attempts to write `path`; how many files.

    Nobody else may be writing that path.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return 0
    prefix, count = temporary_prefix(path), 0
    with os.scandir(path.parent) as entries:
        found = [Path(e.path) for e in entries if e.name.startswith(prefix) and e.name.endswith(path.suffix)]
    for left in found:
        if len(left.name) == len(prefix) + 8 + len(path.suffix):  # mkstemp draws eight letters
            left.unlink(missing_ok=True)
            count += 1
    return count


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file whole or not at all.

    Lone surrogates, as Python keeps bytes of file names that are no UTF-8, are written as ``\\udcff``, which
    is what JSON calls them, too.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write plain values as JSON for people and programs, with the guarantees of `atomic_path`."""
    import json  # most of what starts never writes any

    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
