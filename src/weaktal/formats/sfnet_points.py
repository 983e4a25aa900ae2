"""Clicks as SF-Net's single-frame text: ``NAME,SECONDS,CLASS``, one a line, blank lines in between.

Ours may begin with a line ``# origin``, for clicks that nobody made.
"""

from __future__ import annotations

import numpy as np

from weaktal.core import InputError, write_text
from weaktal.formats.points import PointTable
from weaktal.formats.reading import PathLike, number, read_text


def read(path: PathLike) -> PointTable:
    """Clicks in file order. Spaces around names (public files have some) are dropped."""
    video, time, label = [], [], []
    origin = None
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        if line == 1 and text.startswith("#"):
            origin = text[1:].strip()
            continue
        first, _, rest = text.partition(",")
        middle, comma, last = rest.partition(",")
        if not comma or not last.strip():
            raise InputError(
                "expected a click",
                file=path,
                field=f"line {line}",
                found=repr(text),
                expected="NAME,SECONDS,CLASS",
            )
        video.append(first.strip())
        time.append(number(middle, file=path, field=f"line {line}"))
        label.append(last.strip())
    return PointTable(tuple(video), np.array(time, np.float64), tuple(label), origin)


def write(points: PointTable, path: PathLike) -> None:
    """Write clicks, one a line."""
    rows = zip(points.video, points.time.tolist(), points.label, strict=True)
    head = f"# {points.origin}\n" if points.origin else ""
    write_text(path, head + "".join(f"{name},{time!r},{label}\n" for name, time, label in rows))
