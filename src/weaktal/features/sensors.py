"""Columns of numbers over time, one table per video: sensors, joint angles, whatever else was measured."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, shown
from weaktal.core.reading import read_text

FloatArray = NDArray[np.float64]

TIME = ("time", "t", "seconds", "timestamp", "time_s")  # headers of a column of seconds
DELIMITERS = (",", ";", "\t")


class SensorTables:
    """A folder of ``NAME.csv``: a row of numbers per moment, a column per value.

    A first line that is no numbers names the columns. A column of seconds ("time", "t", "seconds",
    "timestamp") says when each row is; rows are then put on an even grid of the first table's rate by linear
    interpolation, and the first table's rate is that of all. Without one, the rate is the data set
    description's business.

    Args:
        folder: where they are.
        files: the tables.
    """

    kind = "csv"

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self.files = {p.stem: p for p in files}
        self._last: tuple[str, NDArray[np.float32], float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        return [self._rows(name)[0].shape]

    def read(self, name: str) -> list[np.ndarray]:
        return [self._rows(name)[0]]

    def header(self, name: str) -> dict[str, Any]:
        about: dict[str, Any] = {"columns": list(self.columns)} if self.columns else {}
        if self.rate is not None:
            about |= {"rate": self.rate, "start": self._rows(name)[1]}
        return about

    def where(self, name: str) -> str:
        return str(self.files[name])

    @cached_property
    def _first(self) -> tuple[tuple[str, ...], FloatArray | None]:
        """Names of the columns, and times, of the first table."""
        columns, times, _ = _table(next(iter(self.files.values())))
        return columns, times

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns without that of times; empty where the tables do not say."""
        return self._first[0]

    @cached_property
    def rate(self) -> float | None:
        """Rows per second, of the first table with times; None where there are none."""
        times = self._first[1]
        if times is None or len(times) < 2:
            return None
        rate = round(1 / float(np.median(np.diff(times))), 6)
        if not 1e-3 <= rate <= 1e6:
            raise InputError(
                "times that are none of a video",
                file=next(iter(self.files.values())),
                found=f"{rate:g} rows a second",
                expected="seconds",
            )
        return rate

    def _rows(self, name: str) -> tuple[NDArray[np.float32], float]:
        """Values on an even grid, and when it begins."""
        if self._last is None or self._last[0] != name:
            path = self.files[name]
            columns, times, values = _table(path)
            if columns != self.columns or (times is None) != (self._first[1] is None):
                raise InputError(
                    "a table with other columns",
                    file=path,
                    found=", ".join(columns) or "no header",
                    expected=(", ".join(self.columns) or "no header") + f", as in {next(iter(self.files))!r}",
                )
            begin = 0.0
            if times is not None and self.rate is not None:
                begin = float(times[0])
                count = round((float(times[-1]) - begin) * self.rate) + 1
                if begin < 0 or count > 100 * len(times):
                    raise InputError(
                        "times that are none of a video",
                        file=path,
                        found=f"{len(times)} rows from {begin:g} to {times[-1]:g} s",
                        expected=f"seconds from 0 on, about {self.rate:g} rows in each",
                    )
                grid = begin + np.arange(count) / self.rate
                values = np.stack([np.interp(grid, times, column) for column in values.T], 1)
            self._last = name, values.astype(np.float32), round(begin, 6)
        return self._last[1:]


def _table(path: Path) -> tuple[tuple[str, ...], FloatArray | None, FloatArray]:
    """Names of the columns without times, times, and values (rows, columns)."""
    text = read_text(path)
    head = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(DELIMITERS, key=head.count)
    cells = [cell.strip().strip('"') for cell in head.split(delimiter)]
    named = not all(map(_is_number, cells))
    start = text.index(head)
    if not head or (named and not text[start + len(head) :].strip()):
        raise InputError("a table without a row", file=path)
    try:
        rows = np.loadtxt(
            io.StringIO(text),
            delimiter=delimiter,
            skiprows=text[:start].count("\n") + named,
            ndmin=2,
        )
    except ValueError as error:
        place = re.search(r"at row (\d+)", str(error))
        raise InputError(
            "a table of numbers holds something else",
            file=path,
            field=f"line {int(place[1]) + 1 + named}" if place else None,
            found=shown(str(error).split(";")[0]),
            expected=f"numbers with {delimiter!r} between them",
        ) from None
    if named and len(cells) != rows.shape[1]:
        raise InputError(
            "the header has another number of columns", file=path, found=len(cells), expected=rows.shape[1]
        )
    at = [k for k, cell in enumerate(cells) if named and cell.lower() in TIME]
    columns = tuple(cell for k, cell in enumerate(cells) if k not in at[:1]) if named else ()
    if not at:
        return columns, None, rows
    times = rows[:, at[0]]
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise InputError("times do not increase", file=path, field=cells[at[0]], expected="seconds")
    if rows.shape[1] < 2:
        raise InputError("a table with times alone", file=path)
    return columns, times, np.delete(rows, at[0], 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
