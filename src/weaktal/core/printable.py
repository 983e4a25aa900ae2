"""Names and values of strangers in messages: one line, no control codes, of bounded length."""

from __future__ import annotations

import re
import reprlib

# what moves the cursor, ends a line, turns the direction of writing, or cannot be encoded
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
LIMIT = 200


def printable(text: object, limit: int | None = None) -> str:
    r"""A name or message as one line that every terminal shows as it is.

    Bytes of a file name that are no UTF-8 (Python keeps them as lone surrogates) and control characters are
    shown as escapes; all other letters stay.

    Args:
        text: a name, path, message.
        limit: at most this many characters, the middle is left out.

    >>> print(printable("a\nb\udcff é"))
    a\nb\xff é
    """
    out = _UNSAFE.sub(_escape, str(text))
    if limit is not None and len(out) > limit:
        tail = (limit - 5) // 3
        out = f"{out[: limit - 5 - tail]} ... {out[len(out) - tail :]}"
    return out


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return _ESCAPES.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print integers of thousands of digits."""
        return repr(x) if x.bit_length() <= 256 else f"an integer of {x.bit_length()} bits"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x) if len(x) <= 40 else f"{x[:40]!r}..."


_SHORT = _Short()


def shown(value: object, limit: int = LIMIT) -> str:
    """A value as Python writes it, shortened: of nested values (YAML aliases may make them huge) the outside.

    >>> shown([1] * 1000)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    return printable(_SHORT.repr(value), limit)
