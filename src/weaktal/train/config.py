"""From a recipe and ``--set key=value`` to a method's typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from weaktal.core import InputError, did_you_mean, shown
from weaktal.core.reading import parse_yaml, read_text
from weaktal.methods import find_method
from weaktal.methods.protocol import MethodConfig


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Raises:
        InputError: unreadable, not YAML (with the line), or not a mapping.
    """
    found = parse_yaml(read_text(path), path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError("expected keys and values", file=path, found=type(found).__name__)
    return found


def recipes(method: str) -> dict[str, Path]:
    """The recipes that come with the package for a method, by name."""
    folder = Path(str(files("weaktal.recipes"))) / method
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def resolve_config(
    method: str, recipe: str | None = None, settings: Mapping[str, Any] | None = None
) -> MethodConfig:
    """A method's configuration: its defaults, changed by a recipe, changed by settings.

    Args:
        method: name of a method.
        recipe: name of a recipe of the package, or the path of a YAML file.
        settings: single fields.

    Raises:
        InputError: unknown method, recipe or field (with the nearest known one), or a value out of range.
    """
    kind: type[MethodConfig] = find_method(method).Config
    values: dict[str, Any] = {}
    source: Path | None = None
    if recipe is not None:
        known = recipes(method)
        source = known.get(recipe, Path(recipe))
        if recipe not in known and not source.is_file():
            raise InputError(
                f"{method} has no such recipe",
                found=repr(recipe),
                expected="one of " + (", ".join(known) or "none") + ", or a YAML file",
                hint=did_you_mean(recipe, known),
            )
        values = read_yaml(source)
        _known(values, kind, source)
    _known(settings or {}, kind, None)
    return validated(kind, {**values, **(settings or {})}, source)


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, dict[str, Any]]:
    """Settings of a method, the base locator that they name, and settings of that one.

    >>> split_settings({"lr": 1e-3, "base": "lac", "base.steps": 500})
    ({'lr': 0.001}, 'lac', {'steps': 500})
    """
    own = dict(settings)
    of_base = {key.removeprefix("base."): own.pop(key) for key in list(own) if key.startswith("base.")}
    base = own.pop("base", None)
    return own, None if base is None else str(base), of_base


def _known(values: Mapping[str, Any], kind: type[MethodConfig], file: Path | None) -> None:
    for key in values:
        if key not in kind.model_fields:
            raise InputError(
                "unknown setting",
                file=file,
                found=repr(key),
                expected="one of " + ", ".join(kind.model_fields),
                hint=did_you_mean(key, kind.model_fields),
            )


def validated(kind: type[MethodConfig], values: Mapping[str, Any], file: Path | None = None) -> MethodConfig:
    """A configuration from plain values; pydantic's complaint becomes an `InputError`."""
    _known(values, kind, file)
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"]) or None
        raise InputError(first["msg"], file=file, field=field, found=shown(first.get("input"))) from error
