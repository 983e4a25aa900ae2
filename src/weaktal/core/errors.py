"""What goes wrong because of the input, said so that the user can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

from weaktal.core.printable import LIMIT, printable, shown


class InputError(Exception):
    """The user's input is wrong: the command line prints the message and exits with code 2.

    Args:
        message: what is wrong, in a sentence.
        file: the file it was found in.
        field: the place inside the file (a key, a line, a column).
        found: what stands there.
        expected: what would be right.
        hint: what to do about it.

    >>> print(InputError("unknown class", file="gt.json", found="'Jmup'", hint="did you mean 'Jump'?"))
    gt.json: unknown class: found 'Jmup'; did you mean 'Jump'?
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike[str] | None = None,
        field: str | None = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.message, self.file, self.field = message, file, field
        self.found, self.expected, self.hint = found, expected, hint
        super().__init__(str(self))

    def at(self, file: str | PathLike[str]) -> InputError:
        """The same error, found in a file; one that names its file already stays as it is."""
        if self.file is not None:
            return self
        return InputError(
            self.message,
            file=file,
            field=self.field,
            found=self.found,
            expected=self.expected,
            hint=self.hint,
        )

    def __str__(self) -> str:
        where = [x for x in (self.file, None if self.field is None else _short(self.field)) if x is not None]
        facts = [] if self.found is None else [f"found {_short(self.found)}"]
        facts += [] if self.expected is None else [f"expected {_short(self.expected, 3 * LIMIT)}"]
        text = ": ".join([*map(str, where), printable(self.message, 2 * LIMIT)])
        if facts:
            text += ": " + ", ".join(facts)
        return printable(f"{text}; {self.hint}" if self.hint else text)


def _short(value: object, limit: int = LIMIT) -> str:
    """A fact for people: a text as it is, others as Python writes them; never a page of it."""
    if isinstance(value, str | Exception | PathLike):
        return printable(value, limit)
    return shown(value, limit)


class CoverageWarning(UserWarning):
    """Some videos or items were left out; the message says how many and why."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint with the nearest known name, or None when nothing is near.

    >>> did_you_mean("LongJmp", ["LongJump", "HighJump"])
    "did you mean 'LongJump'?"
    """
    import difflib  # where it is needed: every command starts by importing this module

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
