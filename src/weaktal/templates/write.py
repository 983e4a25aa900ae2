"""Copies of the template under another name."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

from weaktal.core import InputError, write_text
from weaktal.methods import METHODS


def new_method(name: str, folder: str | os.PathLike[str]) -> tuple[Path, Path, Path]:
    """Write ``NAME.py``, its recipe ``NAME.yaml`` and its test ``test_NAME.py``.

    Args:
        name: in lower case with underscores; the class has the same words in capitals.
        folder: where to; made if needed.

    Returns:
        The three files.

    Raises:
        InputError: no such name, one that is taken, or a file that is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise InputError("no name for a method", found=repr(name), expected="such as my_method")
    if name in METHODS:
        raise InputError("this name is taken", found=repr(name))
    folder = Path(folder)
    out = folder / f"{name}.py", folder / f"{name}.yaml", folder / f"test_{name}.py"
    for path in out:
        if path.exists():
            raise InputError("there is such a file already", file=path)
    title = "".join(word.capitalize() for word in name.split("_"))
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in zip(out, ("my_method.py", "my_method.yaml", "test_my_method.py.txt"), strict=True):
        text = files("weaktal.templates").joinpath(template).read_text(encoding="utf-8")
        write_text(path, text.replace("my_method", name).replace("MyMethod", title))
    return out
