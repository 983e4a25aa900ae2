"""Praat (``.TextGrid``), through praatio: an interval tier per class, a point tier for its clicks.

The class of an interval or point is its text, or where it has none the name of its tier. Segments of a class
that overlap are on further tiers. One video a file; milliseconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from weaktal.core import Annotations, InputError, Video, shown
from weaktal.core.reading import PathLike, read_bytes
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    layers,
    plain,
    read_each,
    segments_of,
    write_each,
)

SUFFIXES = (".textgrid",)
WHAT = "a TextGrid"


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them; empty intervals are nothing.

    Raises:
        InputError: no TextGrid, with what is wrong.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        from praatio import textgrid
        from praatio.data_classes.point_tier import PointTier

        raw = read_bytes(file).replace(b"\0", b"")  # UTF-16, too
        head = raw[:200]
        if b"ooTextFile" not in head and b"TextGrid" not in head:
            raise InputError("no TextGrid", file=file, found=shown(head[:40]), expected='"ooTextFile"')
        try:
            grid: Any = textgrid.openTextgrid(
                str(file), includeEmptyIntervals=False, duplicateNamesMode="rename"
            )
            tiers = [(tier, grid.getTier(tier)) for tier in grid.tierNames]
            duration = float(grid.maxTimestamp)
        except Exception as error:  # praatio lets whatever happens through
            raise InputError(
                "not as Praat writes it", file=file, found=f"{type(error).__name__}: {error}"
            ) from None
        found.video(name, duration=duration, fps=Rates(fps, file).find(name))
        quoted = b"mark = " in raw  # praatio leaves doubled quotes in the points of the long form
        for tier, content in tiers:
            for entry in content.entries:
                label, field = entry.label.strip() or tier, f"tier {tier}"
                if isinstance(content, PointTier):
                    found.click(name, entry.time, label.replace('""', '"') if quoted else label, field)
                else:
                    found.segment(name, entry.start, entry.end, label, field)

    return read_each(path, SUFFIXES, one)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file a video; `path` is a folder, or the file of one video."""

    def text(video: Video, file: Path) -> str:
        from praatio import textgrid

        ms = [(a := round(1e3 * s), max(round(1e3 * e), a + 1), c) for s, e, c in segments_of(video)]
        clicks = [(round(1e3 * t), c) for t, c in clicks_of(video)]
        last = max([*(b for _, b, _ in ms), *(t for t, _ in clicks), 1])
        end = max(last / 1e3, video.duration or 0.0)
        tiers: dict[str, Any] = {}
        for c, named in enumerate(annotations.classes):
            name = plain(named, file, WHAT)
            made: list[tuple[str, Any]] = []
            rows = layers((a, b) for a, b, label in ms if label == c)
            for k, row in enumerate(rows):
                entries = [(a / 1e3, b / 1e3, name) for a, b in row]
                tier = name if k == 0 else f"{name} ({k + 1})"
                made.append((tier, textgrid.IntervalTier(tier, entries, 0, end)))
            if points := sorted({t for t, label in clicks if label == c}):
                tier = f"{name} (click)"
                made.append((tier, textgrid.PointTier(tier, [(t / 1e3, name) for t in points], 0, end)))
            for tier, content in made:
                if tier in tiers:
                    raise InputError("two tiers of one name", file=file, found=shown(tier))
                tiers[tier] = content
        grid: Any = textgrid.Textgrid(0, end)
        for content in tiers.values():
            grid.addTier(content)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "x.TextGrid"
            grid.save(str(kept), format="long_textgrid", includeBlankSpaces=True)
            return kept.read_text(encoding="utf-8")

    write_each(annotations, path, ".TextGrid", text)
