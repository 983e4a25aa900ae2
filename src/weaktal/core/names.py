"""Names of videos and classes as names of files: a name comes from data, and data must not choose paths."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TypeVar

from weaktal.core.errors import InputError
from weaktal.core.printable import printable, shown

__all__ = ["NameIndex", "composed", "file_name", "file_names", "printable"]

T = TypeVar("T")

MAX_BYTES = 255  # of one name, on every usual file system
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def composed(name: str) -> str:
    """A name in the form in which names are compared: letters and their accents as one character (NFC).

    macOS stores file names with accents apart, most other tools together; they look the same.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class NameIndex:
    """Finds names among known ones, however their accents are stored.

    >>> NameIndex(["caf\u00e9"]).find("cafe\u0301") == "caf\u00e9"
    True
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = frozenset(known)
        self._composed: dict[str, str] | None = None

    def find(self, name: str) -> str | None:
        """The known name that this one is, in the spelling in which it is known; None if there is none."""
        if name in self._known:
            return name
        if self._composed is None:
            self._composed = {composed(known): known for known in self._known}
        return self._composed.get(composed(name))

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def rename(self, table: Mapping[str, T]) -> dict[str, T]:
        """A table by name with the known spelling in place of its own; unknown names stay."""
        return {self.find(name) or name: value for name, value in table.items()}


def file_name(name: str, suffix: str = "", *, what: str = "video") -> str:
    """The name of the file of a video or class inside a folder of our choice.

    Args:
        name: from an annotation, a header, a list; anything.
        suffix: of the file, with its dot.
        what: what is named, for the message.

    Returns:
        `name + suffix`: one component of a path, that can be written here and read again under that name.

    Raises:
        InputError: a name that would lead elsewhere, or that file systems do not hold.

    >>> file_name("v_1", ".npy")
    'v_1.npy'
    """
    reason = _refusal(name, suffix)
    if reason is not None:
        raise InputError(
            f"the name of a {what} cannot be a file name, {reason}",
            found=shown(name),
            hint=f"rename this {what}",
        )
    return name + suffix


def _refusal(name: object, suffix: str) -> str | None:
    """Why a name cannot be that of a file; None if it can."""
    if not isinstance(name, str) or not name.strip():
        return "it is empty"
    if "/" in name or "\\" in name:
        return "it holds a path"
    if "\0" in name:
        return "it holds a zero byte"
    if name.startswith("."):
        return "it begins with a dot"  # '..' leads elsewhere, others are hidden and not found again
    whole = name + suffix
    try:
        size = len(os.fsencode(whole))
    except UnicodeEncodeError:
        return "it holds what is no character"
    if size > MAX_BYTES:
        return f"it has {size} bytes with its suffix and {MAX_BYTES} are possible"
    if _DEVICES.fullmatch(whole):
        return "Windows keeps it for a device"
    if whole[-1] in ". ":
        return "it ends with a dot or blank"
    if os.name == "nt" and re.search(r'[<>:"|?*\x00-\x1f]', name):
        return "Windows does not hold such characters"
    return None


def file_names(names: Iterable[str], suffix: str = "", *, what: str = "video") -> dict[str, str]:
    """Every name to its file name, in order; see `file_name`.

    Raises:
        InputError: a name that cannot be a file name; two names that meet in one file, on this or another
            file system: equal but for case or for how accents are stored.
    """
    out: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        out[name] = file_name(name, suffix, what=what)
        key = unicodedata.normalize("NFC", name.casefold())
        other = taken.setdefault(key, name)
        if other != name:
            raise InputError(
                f"two {what} names meet in one file: they differ only in case or in how accents are stored",
                found=f"{shown(other, 90)} and {shown(name, 90)}",
                hint="rename one of them",
            )
    return out
