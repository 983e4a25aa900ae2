"""The methods, one file each. The command line looks them up here; Python users import the classes."""

from __future__ import annotations

from importlib import import_module

from weaktal.core import InputError, did_you_mean
from weaktal.methods.protocol import Method

# name on the command line -> class; a new method is one line here, one file, one recipe, one test
METHODS: dict[str, str] = {
    "asm_loc": "weaktal.methods.asm_loc:ASMLoc",
    "issf": "weaktal.methods.issf:ISSF",
    "lac": "weaktal.methods.lac:LAC",
    "sal": "weaktal.methods.sal:SAL",
    "stcl_net": "weaktal.methods.stcl_net:STCLNet",
    "tspnet": "weaktal.methods.tspnet:TSPNet",
}


def find_method(name: str) -> type[Method]:
    """The class of a method by its name on the command line.

    Raises:
        InputError: no such method, with the nearest name.
    """
    if name not in METHODS:
        raise InputError(
            "unknown method",
            found=repr(name),
            expected="one of " + ", ".join(METHODS),
            hint=did_you_mean(name, METHODS),
        )
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found
