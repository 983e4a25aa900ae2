"""What the readers of formats share: see `weaktal.core.reading` for text, JSON and YAML, `tables` for CSV."""

from __future__ import annotations

from weaktal.core import InputError, did_you_mean
from weaktal.core.reading import PathLike, check_name, kind, number, read_json, read_mapping, read_text

__all__ = [
    "PathLike",
    "check_name",
    "class_place",
    "kind",
    "number",
    "read_json",
    "read_mapping",
    "read_text",
]


def class_place(name: object, classes: dict[str, int], *, file: PathLike, field: str) -> int:
    """The index of a class; an `InputError` with the nearest known name otherwise."""
    if not isinstance(name, str):
        raise InputError("a label is a class name", file=file, field=field, found=kind(name))
    if name not in classes:
        raise InputError(
            "unknown class", file=file, field=field, found=repr(name), hint=did_you_mean(name, classes)
        )
    return classes[name]
