"""What every reader needs: text, JSON, CSV tables and numbers, with errors that name the place."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from weaktal.core import InputError, did_you_mean

PathLike = str | os.PathLike[str]


def read_text(path: PathLike) -> str:
    """A UTF-8 text file (a byte order mark is dropped).

    Raises:
        InputError: the file is missing, a folder, unreadable, or not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not a text file: {error.reason} at byte {error.start}", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from None


def read_json(path: PathLike) -> Any:
    """A JSON document; an `InputError` with line and column where it is malformed."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"malformed JSON: {error.msg}", file=path, field=place) from None


def read_mapping(path: PathLike) -> dict[str, Any]:
    """A JSON document that is an object."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError("expected a JSON object", file=path, found=kind(document))
    return document


def kind(value: object) -> str:
    """What a JSON value is, in the words of JSON, shortened."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    text = repr(value)
    if isinstance(value, list) and len(text) > 40:
        return f"a list of {len(value)}"
    return text if len(text) <= 60 else text[:57] + "..."


def number(value: object, *, file: PathLike, field: str) -> float:
    """A finite number, given as a number or as a string."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            "expected a number", file=file, field=field, found=kind(value), expected="a finite number"
        ) from None
    if not math.isfinite(result):
        raise InputError(
            "expected a number", file=file, field=field, found=kind(value), expected="a finite number"
        )
    return result


def read_rows(
    path: PathLike, columns: Mapping[str, Sequence[str]], required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a header line, blank lines skipped.

    Args:
        path: the file.
        columns: our name of a column to the spellings that files use for it; other columns are ignored.
        required: our names of columns that must be there.

    Yields:
        The line number and the row, by our names, stripped; absent columns are absent.
    """
    reader = csv.reader(io.StringIO(read_text(path)))
    header = [cell.strip() for cell in next(reader, [])]
    place: dict[str, int] = {}
    for ours, spellings in columns.items():
        for spelling in spellings:
            if spelling in header:
                place.setdefault(ours, header.index(spelling))
    for ours in required:
        if ours not in place:
            raise InputError(
                f"no column {columns[ours][0]!r}",
                file=path,
                field="line 1",
                found=",".join(header)[:80] or "nothing",
                expected="a header with " + ",".join(columns[r][0] for r in required),
                hint=did_you_mean(columns[ours][0], header),
            )
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputError(
                "a row of another width than the header",
                file=path,
                field=f"line {reader.line_num}",
                found=f"{len(row)} columns",
                expected=str(len(header)),
            )
        yield reader.line_num, {ours: row[i].strip() for ours, i in place.items()}


def class_place(name: object, classes: dict[str, int], *, file: PathLike, field: str) -> int:
    """The index of a class; an `InputError` with the nearest known name otherwise."""
    if not isinstance(name, str):
        raise InputError("a label is a class name", file=file, field=field, found=kind(name))
    if name not in classes:
        raise InputError(
            "unknown class", file=file, field=field, found=repr(name), hint=did_you_mean(name, classes)
        )
    return classes[name]
