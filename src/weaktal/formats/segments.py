"""The segments that a person keeps, one row each: a table for spreadsheets."""

from __future__ import annotations

from weaktal.core import Detections
from weaktal.formats.reading import PathLike
from weaktal.formats.tables import write_rows

HEADER = ("video", "class", "start", "end", "duration", "score")


def write(clear: Detections, path: PathLike) -> None:
    """Write ``video,class,start,end,duration,score``, in order of videos and time; seconds to a thousandth.

    Args:
        clear: the segments worth reading, such as those of `weaktal.predict`.
        path: the file, written whole or not at all.

    Raises:
        InputError: a name that a line of a table cannot hold.
    """
    rows = zip(clear.video, clear.start, clear.end, clear.label, clear.score, strict=True)
    ordered = sorted(rows, key=lambda row: (row[0], row[1], row[2]))
    write_rows(
        path,
        HEADER,
        [
            (
                clear.names[v],
                clear.classes[c],
                round(float(a), 3),
                round(float(b), 3),
                round(float(b - a), 3),
                round(float(s), 4),
            )
            for v, a, b, c, s in ordered
        ],
    )
