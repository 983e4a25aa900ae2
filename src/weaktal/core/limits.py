"""Bounds on what a file may ask for: far beyond any use, and near enough that no file can fill the memory.

Each can be raised with an environment variable, ``WEAKTAL_MAX_CLASSES=20000``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from weaktal.core.errors import InputError

LIMITS: Mapping[str, float] = {
    "classes": 10_000,  # of a class list
    "videos": 1_000_000,  # of an annotation file
    "clicks": 10_000_000,  # of a click file
    "thresholds": 1_000,  # of tIoU in an evaluation
    "seconds": 10_000_000,  # of a time in a video: 115 days
    "yaml_values": 200_000,  # of a YAML document, aliases followed
}


def limit(name: str) -> float:
    """The bound of that name, as the environment says or else as above.

    Raises:
        InputError: the environment variable holds no positive number.
    """
    variable = f"WEAKTAL_MAX_{name.upper()}"
    text = os.environ.get(variable)
    if text is None:
        return LIMITS[name]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise InputError("a limit is a positive number", field=variable, found=repr(text))
    return value


def within(
    count: float,
    name: str,
    what: str,
    *,
    file: str | os.PathLike[str] | None = None,
    field: str | None = None,
) -> None:
    """An `InputError` if `count` is beyond the limit of that name; `what` says what there is too much of."""
    most = limit(name)
    if abs(count) > most:
        raise InputError(
            f"more {what} than anybody needs",
            file=file,
            field=field,
            found=f"{count:g}" if isinstance(count, float) else str(count),
            expected=f"at most {most:g}",
            hint=f"WEAKTAL_MAX_{name.upper()} raises the limit",
        )
