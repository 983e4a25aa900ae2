"""Tables of a page: what stands in a cell, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what it says.
        key: what its column is sorted by; None for the text itself.
        title: more, for those who point at it.
        heat: in [0, 1], how strongly it is coloured; None for not at all.
        strong: whether it stands out.
        color: index of a group, whose mark stands before the text; None for none.
    """

    text: str
    key: float | None = None
    title: str = ""
    heat: float | None = None
    strong: bool = False
    color: int | None = None


@dataclass(frozen=True)
class Row:
    """A row; `soft` for what only stands beside the others, such as published figures."""

    cells: Sequence[Cell]
    soft: bool = False


@dataclass(frozen=True)
class Table:
    """A table that sorts by any column.

    Attributes:
        id: unique on the page.
        caption: what it is, for those who hear the page.
        columns: headings; that of the first column names the rows.
        rows: in the order of display.
        foot: rows that stay below, whatever it is sorted by.
    """

    id: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    foot: Sequence[Row] = ()
