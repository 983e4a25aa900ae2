"""Audacity's labels (``.txt``): start, end and text between tabs. One video a file; millionths of a second.

A label with one time is a click.
"""

from __future__ import annotations

from pathlib import Path

from weaktal.core import Annotations, InputError, Video, shown
from weaktal.core.reading import PathLike, number, read_text
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    plain,
    read_each,
    segments_of,
    write_each,
)

SUFFIXES = (".txt",)


def is_label(line: str) -> bool:
    """Whether a line is a label."""
    cells = line.split("\t")
    try:
        return len(cells) in (2, 3) and float(cells[0]) <= float(cells[1])
    except ValueError:
        return False


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them; the frequencies of spectral labels are passed over.

    Raises:
        InputError: a line that is no label, a label without a text.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        found.video(name, fps=Rates(fps, file).find(name))
        for i, line in enumerate(read_text(file).split("\n"), 1):
            if not line.strip() or line.startswith("\\"):
                continue
            cells = line.split("\t")
            if len(cells) != 3:
                raise InputError(
                    "expected a label", file=file, field=f"line {i}", found=shown(line, 80),
                    expected="start, end and text between tabs",
                )  # fmt: skip
            start, end = (number(x, file=file, field=f"line {i}") for x in cells[:2])
            if start == end:
                found.click(name, start, cells[2], f"line {i}")
            else:
                found.segment(name, start, end, cells[2], f"line {i}")

    return read_each(path, SUFFIXES, one)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file a video; `path` is a folder, or the file of one video."""

    def text(video: Video, file: Path) -> str:
        micro = [(a := round(1e6 * s), max(round(1e6 * e), a + 1), c) for s, e, c in segments_of(video)]
        micro += [(round(1e6 * t), round(1e6 * t), c) for t, c in clicks_of(video)]
        names = [plain(name, file, "a label of Audacity") for name in annotations.classes]
        return "".join(f"{a / 1e6:.6f}\t{b / 1e6:.6f}\t{names[c]}\n" for a, b, c in sorted(micro))

    write_each(annotations, path, SUFFIXES[0], text)
