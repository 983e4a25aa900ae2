"""Ambiguous intervals as THUMOS14's ``Ambiguous_test.txt``: ``NAME  START END``, seconds, one a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weaktal.core import InputError, write_text
from weaktal.formats.reading import PathLike, number, read_text
from weaktal.formats.tables import one_line


def read(path: PathLike) -> dict[str, np.ndarray]:
    """Video name to its intervals, (K, 2) seconds, in file order; blank lines are skipped."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line, text in enumerate(read_text(path).split("\n"), 1):
        parts = text.rsplit(maxsplit=2)
        if not parts:
            continue
        if len(parts) < 3:
            raise InputError(
                "expected an interval",
                file=path,
                field=f"line {line}",
                found=repr(text),
                expected="NAME START END",
            )
        name = parts[0].strip()
        start, end = (number(x, file=path, field=f"line {line}") for x in parts[1:])
        if end < start:
            raise InputError("an interval ends before it starts", file=path, field=f"line {line}", found=text)
        found.setdefault(name, []).append((start, end))
    return {name: np.array(spans) for name, spans in found.items()}


def write(ignored: Mapping[str, np.ndarray], path: PathLike) -> None:
    """Write intervals in the spelling that the published readers split on: two spaces, then one."""
    rows = [
        f"{one_line(name, path, 'a list of intervals')}  {start!r} {end!r}\n"
        for name, spans in ignored.items()
        for start, end in spans.tolist()
    ]
    write_text(path, "".join(rows))
