"""Delimited text: one reader and one writer for every table that people keep in CSV and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from weaktal.core import InputError, did_you_mean, printable, shown, write_text
from weaktal.core.reading import PathLike, read_text

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_rows(
    path: PathLike,
    columns: Mapping[str, Sequence[str]],
    required: Sequence[str],
    numbers: Sequence[str] = (),
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with a header line, blank lines skipped.

    The delimiter is the one of comma, semicolon and tab at which the header falls into columns that are
    looked for. Their names are matched without regard to case, and to blanks, ``_`` and ``-`` in them.
    Quotes are strict, and a row is a line: a quote that is never closed swallows nothing.

    Args:
        path: the file.
        columns: our name of a column to the spellings that files use for it; other columns are ignored.
        required: our names of columns that must be there.
        numbers: our names of columns of numbers; between semicolons they may have a decimal comma.

    Yields:
        The line number and the row, by our names, stripped; absent columns are absent.

    Raises:
        InputError: a column is missing or there twice, a row of another width, quotes that do not close.
    """
    lines = read_text(path).split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    delimiter, header, place = _header(lines[first], columns, path, f"line {first + 1}")
    for ours in required:
        if ours not in place:
            raise InputError(
                f"no column {columns[ours][0]!r}",
                file=path,
                field=f"line {first + 1}",
                found=f"{printable(lines[first], 80)}, delimited by {DELIMITERS[delimiter]}"
                if lines[first].strip()
                else "nothing",
                expected="a header with " + ",".join(columns[r][0] for r in required),
                hint=did_you_mean(columns[ours][0], header),
            )
    decimal = [ours for ours in numbers if ours in place] if delimiter == ";" else []
    for line, text in enumerate(lines[first + 1 :], first + 2):
        if not text.strip() or not text.strip(delimiter + " "):
            continue
        row = _cells(text, delimiter, path, f"line {line}")
        if len(row) != len(header) and (len(row) < len(header) or any(x.strip() for x in row[len(header) :])):
            raise InputError(
                "a row of another width than the header",
                file=path,
                field=f"line {line}",
                found=f"{len(row)} columns, delimited by {DELIMITERS[delimiter]}",
                expected=str(len(header)),
            )
        found = {ours: _plain(row[i].strip()) for ours, i in place.items()}
        for ours in decimal:
            if re.fullmatch(r"[+-]?\d*,\d*([eE][+-]?\d+)?", found[ours]):
                found[ours] = found[ours].replace(",", ".")
        yield line, found


def header_columns(line: str) -> set[str]:
    """The columns that a line would name if it were a header: in lower case, blanks and ``-`` as ``_``."""
    return {_key(cell) for cell in re.split("[,;\t]", line)}


def _key(cell: str) -> str:
    return re.sub(r"[\s_-]+", "_", cell.strip().strip('"').strip()).lower()


def _header(
    line: str, columns: Mapping[str, Sequence[str]], path: PathLike, field: str
) -> tuple[str, list[str], dict[str, int]]:
    """The delimiter, the header's cells, and where each of our columns is."""
    wanted = {_key(spelling) for spellings in columns.values() for spelling in spellings}
    # at equal counts the earlier delimiter
    delimiter = max(DELIMITERS, key=lambda d: sum(_key(c) in wanted for c in line.split(d)))
    header = [cell.strip() for cell in _cells(line, delimiter, path, field)]
    keys = [_key(cell) for cell in header]
    place: dict[str, int] = {}
    for ours, spellings in columns.items():
        for key in map(_key, spellings):
            if keys.count(key) > 1:
                raise InputError("two columns of one name", file=path, field=field, found=shown(key))
            if key in keys:
                place.setdefault(ours, keys.index(key))
    return delimiter, header, place


def _cells(line: str, delimiter: str, path: PathLike, field: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        raise InputError(
            "a quote that is never closed" if unclosed else f"quotes that cannot be read: {error}",
            file=path,
            field=field,
            found=shown(line, 100),
        ) from None


# A spreadsheet computes what begins like this. An apostrophe before it makes it a text, for spreadsheets and
# for `read_rows`, which takes it away. Names may well begin with a dash, as long as nothing can be called.
_FORMULA = re.compile(r"'*(?:[=@]|[+-].*[^\w.\- ])")


def _plain(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell


def write_rows(path: PathLike, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """Write a table with commas; `read_rows` gives the same texts and numbers back.

    Args:
        path: the file, written whole or not at all.
        header: names of the columns.
        rows: texts, which spreadsheets will not compute, and numbers.

    Raises:
        InputError: a text that a line of a table cannot hold: with a line break, or a blank at an end.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    known: dict[str, str] = {}  # the same few names again and again

    def cell(value: str | float) -> str:
        if not isinstance(value, str):
            return repr(value)
        if (out := known.get(value)) is None:
            one_line(value, path, "a CSV table")
            out = known[value] = f"'{value}" if _FORMULA.match(value) else value
        return out

    table.writerows([cell(value) for value in row] for row in rows)
    write_text(path, text.getvalue())


def one_line(text: str, path: PathLike, what: str, *, without: str = "") -> str:
    """The text, if a line of a file can hold it and give it back: readers drop blanks around names.

    Args:
        text: a name, or nothing.
        path: the file that is to be written, for the message.
        what: its format, in words.
        without: characters that the format keeps for itself.

    Raises:
        InputError: it cannot.
    """
    reason = None
    if re.search("[\n\r\0\ud800-\udfff]", text):
        reason = "a line break or what is no character"
    elif text != text.strip():
        reason = "a blank at an end"
    elif text.startswith("\ufeff"):
        reason = "a byte order mark"
    elif found := next((c for c in without if c in text), None):
        reason = f"{found!r}"
    if reason is not None:
        raise InputError(
            f"{what} cannot hold a name with {reason}",
            file=path,
            found=shown(text),
            hint="JSON holds every name; write that, or rename",
        )
    return text
