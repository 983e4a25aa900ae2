"""The methods, one file each. The command line looks them up here; Python users import the classes."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from weaktal.core import InputError, did_you_mean
from weaktal.methods.protocol import Method, MethodConfig

# name on the command line -> class; a new method is one line here, one file, one recipe, one test
METHODS: dict[str, str] = {
    "asm_loc": "weaktal.methods.asm_loc:ASMLoc",
    "hr_pro": "weaktal.methods.hr_pro:HRPro",
    "hr_pro_snippets": "weaktal.methods.hr_pro:HRProSnippets",
    "issf": "weaktal.methods.issf:ISSF",
    "lac": "weaktal.methods.lac:LAC",
    "p_mil": "weaktal.methods.p_mil:PMIL",
    "sal": "weaktal.methods.sal:SAL",
    "stcl_net": "weaktal.methods.stcl_net:STCLNet",
    "student": "weaktal.methods.student:Student",
    "student_points": "weaktal.methods.student_points:StudentOfPoints",
    "tspnet": "weaktal.methods.tspnet:TSPNet",
}
ENTRY_POINTS = "weaktal.methods"  # group in which installed packages offer theirs
_own: dict[str, type[Method]] = {}  # loaded from files that the person named, see `load_method`


def find_method(name: str) -> type[Method]:
    """The class of a method by its name: one of ours, one loaded by `load_method`, or an installed one.

    A name never makes code of a file run: files are loaded by `load_method` alone.

    Raises:
        InputError: no such method, with the nearest name; an installed one that fulfils no contract.
    """
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        found: type[Method] = getattr(import_module(module), attribute)
        return found
    if name in _own:
        return _own[name]
    installed = _installed()
    if name in installed:
        point = installed[name]
        try:
            kind = point.load()
        except Exception as error:
            raise InputError(
                "this installed method cannot be loaded", found=f"{point.value}: {error}"
            ) from error
        return _checked(kind, point.value, name)
    known = method_names()
    raise InputError(
        "unknown method",
        found=repr(name),
        expected="one of " + ", ".join(known),
        hint=did_you_mean(name, known)
        or "one of your own is named as FILE.py:CLASS, for other commands than train with --code",
    )


def method_names() -> tuple[str, ...]:
    """The names that `find_method` knows: ours, loaded ones, installed ones."""
    return tuple(dict.fromkeys([*METHODS, *_own, *_installed()]))


def command_word(name: str) -> str:
    """The word by which another process finds a method: its name, or ``FILE.py:CLASS`` of a loaded one."""
    if name not in _own:
        return name
    kind = _own[name]
    return f"{Path(inspect.getfile(kind)).resolve()}:{kind.__name__}"


def is_code(name: str) -> bool:
    """Whether a word of the command line names a class in a file, as ``FILE.py:CLASS``."""
    return ".py:" in name


def load_method(where: str) -> type[Method]:
    """Run a file of the person's own and take a method from it; it is then found by its `name`.

    Args:
        where: ``FILE.py:CLASS``. The file is executed: never pass a word that came out of a file.

    Raises:
        InputError: no such file or class, an error in it, or a class that fulfils no contract.
    """
    file, _, attribute = where.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError("no such file", file=path, expected="FILE.py:CLASS")
    spec = spec_from_file_location(f"weaktal_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic and pickle look names up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            "this file cannot be run", file=path, found=f"{type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        kinds = [n for n, x in vars(module).items() if inspect.isclass(x) and issubclass(x, Method)]
        raise InputError(
            "no such class",
            file=path,
            found=repr(attribute),
            hint=did_you_mean(attribute, kinds) or f"methods in it: {', '.join(kinds) or 'none'}",
        )
    kind = _checked(getattr(module, attribute), where)
    if kind.name in METHODS:
        raise InputError("this name is taken", file=path, field="name", found=repr(kind.name))
    _own[kind.name] = kind
    return kind


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _checked(kind: object, where: str, name: str | None = None) -> type[Method]:
    """What can be seen of the contract without training; `weaktal.testing.check_method` tests the rest."""
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        raise InputError("this is no method", file=where, expected="a subclass of weaktal's Method")
    wanted = {"name": "a word", "supervision": "'video' or 'point'", "Config": "a subclass of MethodConfig"}
    config = getattr(kind, "Config", None)
    good = {
        "name": str(getattr(kind, "name", "")).isidentifier() and (name is None or kind.name == name),
        "supervision": getattr(kind, "supervision", None) in ("video", "point"),
        "Config": inspect.isclass(config) and issubclass(config, MethodConfig),
    }
    wanted |= dict.fromkeys(("stages", "optimizer", "draw", "training_step"), "a method of the class")
    good |= {m: getattr(kind, m) is not getattr(Method, m) for m in wanted if m not in good}
    for field, expected in wanted.items():
        if not good[field]:
            found = repr(getattr(kind, field, "nothing"))[:80] if field in ("name", "supervision") else None
            raise InputError(
                "this class does not fulfil the contract of a method",
                file=where,
                field=field,
                found=found,
                expected=expected,
                hint="docs/own_method.md and weaktal.methods.protocol say what is wanted",
            )
    return kind
