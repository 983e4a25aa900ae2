"""Clicks as SF-Net's single-frame text: ``NAME,SECONDS,CLASS``, one a line, blank lines in between.

A header line (``video,seconds,class``) is known when it is seen. Ours may begin with a line ``# origin``, for
clicks that nobody made.
"""

from __future__ import annotations

import numpy as np

from weaktal.core import InputError, write_text
from weaktal.formats.points import PointTable
from weaktal.formats.reading import PathLike, check_name, number, read_text
from weaktal.formats.tables import one_line

# what people call the three columns, in files that have a header
NAMES = ({"video", "video_id", "name"}, {"seconds", "second", "time", "t", "timestamp"}, {"class", "label"})


def is_header(line: str) -> bool:
    """Whether the first line of a click file names its columns, in the order of the format."""
    cells = [cell.strip().lower() for cell in line.split(",")]
    return len(cells) == 3 and all(cell in names for cell, names in zip(cells, NAMES, strict=True))


def read(path: PathLike) -> PointTable:
    """Clicks in file order. Spaces around names (public files have some) are dropped."""
    video, time, label = list[str](), list[float](), list[str]()
    origin = None
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        if line == 1 and text.startswith("#"):
            origin = text[1:].strip()
            continue
        if not video and is_header(text):
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
        video.append(check_name(first.strip(), "video", file=path, field=f"line {line}"))
        time.append(number(middle, file=path, field=f"line {line}"))
        label.append(check_name(last.strip(), "class", file=path, field=f"line {line}"))
    return PointTable(tuple(video), np.array(time, np.float64), tuple(label), origin)


def write(points: PointTable, path: PathLike) -> None:
    """Write clicks, one a line.

    Raises:
        InputError: a video's name with a comma, or a name that a line does not give back.
    """
    what = "SF-Net's text"
    for name in points.names:
        one_line(name, path, what, without=",")
    for label in points.classes:
        one_line(label, path, what)
    if points.names and points.names[0].startswith("#") and not points.origin:
        raise InputError(f"{what} cannot begin with a name with '#'", file=path, found=repr(points.names[0]))
    rows = zip(points.video, points.time.tolist(), points.label, strict=True)
    head = f"# {one_line(points.origin, path, what)}\n" if points.origin else ""
    write_text(path, head + "".join(f"{name},{time!r},{label}\n" for name, time, label in rows))
