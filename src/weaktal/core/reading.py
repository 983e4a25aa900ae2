"""What every reader needs: text, JSON and YAML of strangers, with errors that name the place.

Whatever a file holds, these functions return or raise `InputError`; they never hang, and need memory in
proportion to the file.
"""

from __future__ import annotations

import gc
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from weaktal.core.errors import InputError
from weaktal.core.limits import within
from weaktal.core.printable import shown

try:
    import orjson
except ModuleNotFoundError:
    orjson = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import yaml

PathLike = str | os.PathLike[str]
MAX_DEPTH = 50  # of nested YAML
MAX_NAME = 1_000  # characters of a name


def read_bytes(path: PathLike) -> bytes:
    """A regular file.

    Raises:
        InputError: it is missing, a folder, a pipe or device, or cannot be read.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            return file.read()
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from None
    except ValueError:  # a zero byte, or what is no character
        raise InputError("no such file: this cannot be a path", file=path) from None


def _open_regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would block
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        os.close(handle)
        raise OSError(None, "it is a folder" if folder else "it is a pipe or a device, not a file")
    return handle


def read_text(path: PathLike) -> str:
    """A UTF-8 text file; a byte order mark is dropped, every line ends in ``\\n``.

    Raises:
        InputError: the file is missing, a folder, unreadable, or not text.
    """
    raw = read_bytes(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"not a text file in UTF-8: {error.reason} at byte {error.start}, line {line}", file=path
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


# ---------------------------------------------------------------------------------------------- JSON


class _Twice(Exception):
    """A key that an object has twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _Twice(key)
            seen.add(key)
    return out


@contextmanager
def no_collection() -> Iterator[None]:
    """Millions of small objects are made, none of them in a cycle: looking for cycles doubles the time.

    To be held until they are gone, as enabling brings the look at all of them.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _fast_json(text: str) -> Any:
    """orjson's reading where it is installed and the same (but for integers of over 64 bits); else None.

    orjson keeps the last of two equal keys and does not say so. But what it read has then lost a colon, which
    shows when it is written again; escapes could hide that.
    """
    if orjson is None or "\\" in text:
        return None
    try:
        document = orjson.loads(text)
        return document if orjson.dumps(document).count(b":") == text.count(":") else None
    except (ValueError, TypeError):  # the plain reader says what is wrong, and where
        return None


def parse_json(text: str | bytes, path: PathLike, field: str | None = None) -> Any:
    """A JSON document; `path` (and the place in it) is for messages.

    Raises:
        InputError: malformed, with line and column; an object with a key twice; nested without end.
    """
    inside = "" if field is None else f"{field}, "
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        with no_collection():
            document = _fast_json(text)
            return json.loads(text, object_pairs_hook=_object) if document is None else document
    except json.JSONDecodeError as error:
        place = f"{inside}line {error.lineno}, column {error.colno}"
        raise InputError(f"malformed JSON: {error.msg}", file=path, field=place) from None
    except _Twice as error:
        raise InputError(
            "a key is listed twice in one object",
            file=path,
            field=field,
            found=shown(error.args[0]),
            hint="one of the two would be lost",
        ) from None
    except RecursionError:
        raise InputError("nested too deeply", file=path, field=field) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not a text in UTF-8: {error.reason}", file=path, field=field) from None
    except ValueError:  # Python does not read integers of more than 4300 digits
        raise InputError("an integer of thousands of digits", file=path, field=field) from None


def read_json(path: PathLike) -> Any:
    """The JSON document in a file; errors as in `read_text` and `parse_json`."""
    return parse_json(read_text(path), path)


def read_mapping(path: PathLike) -> dict[str, Any]:
    """A JSON document that is an object."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError("expected a JSON object", file=path, found=kind(document))
    return document


# ---------------------------------------------------------------------------------------------- YAML


def read_yaml(path: PathLike) -> Any:
    """The YAML document in a file; errors as in `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: PathLike | None = None, field: str | None = None) -> Any:
    """A YAML document of null, booleans, numbers, texts, lists and mappings with texts as keys.

    What is no decimal number, ``true``, ``false`` or ``null`` is a text: dates, ``yes``, ``010``, ``1:30``.
    PyYAML's writer puts quotes around texts that these rules would read otherwise.

    Args:
        text: the document.
        path, field: for messages.

    Raises:
        InputError: malformed, with line and column; a key twice, a value of another type, nesting without
            end, aliases that stand for more than a document of `limits` size.
    """
    import yaml

    loader = _yaml_loader()
    try:
        _measure(text, path, field)
        return yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        where = ", ".join(x for x in (field, place) if x) or None
        raise InputError(
            f"malformed YAML: {error.problem or error.context}", file=path, field=where
        ) from None
    except yaml.YAMLError as error:
        problem = getattr(error, "reason", error)
        raise InputError(f"malformed YAML: {problem}", file=path, field=field) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"malformed YAML: {error}", file=path, field=field) from None


def _measure(text: str, path: PathLike | None, field: str | None) -> None:
    """Go through the events of a document, before anything is built from them."""
    import yaml

    def wrong(problem: str, event: Any) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(None, None, problem, event.start_mark)

    total, open_nodes = 0, list[tuple[str | None, int]]()
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, _yaml_loader()):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise wrong("an alias of what it lies in", event)
            total += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total))
                if len(open_nodes) > MAX_DEPTH:
                    raise wrong("nested too deeply", event)
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before + 1
        within(total, "yaml_values", "values (aliases followed)", file=path, field=field)


@cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    import yaml

    # the loader in C is ten times as fast; both are told what a value may be below
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc, valid-type]
        """Knows what is added below, and nothing of what YAML makes of other texts."""

    Loader.yaml_implicit_resolvers, Loader.yaml_constructors = {}, {}

    def mapping(loader: Any, node: yaml.MappingNode) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key is a text", key.start_mark)
            name = key.value  # as it is written: a key 1 is the text '1', no is 'no'
            if name in out:
                problem = f"the key {shown(name, 80)} is listed twice"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
            out[name] = loader.construct_object(value, deep=True)
        return out

    def integer(loader: Any, node: yaml.ScalarNode) -> int:
        if not re.fullmatch(r"[-+]?\d{1,30}", node.value):
            problem = f"{shown(node.value, 60)} is no integer of a size that anybody needs"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
        return int(node.value)

    def other(loader: Any, node: yaml.Node) -> None:
        raise yaml.MarkedYAMLError(None, None, f"a value of type {shown(node.tag, 60)}", node.start_mark)

    core = "tag:yaml.org,2002:"
    construct = yaml.constructor.SafeConstructor
    for tag, pattern, first, make in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], construct.construct_yaml_null),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), construct.construct_yaml_bool),
        ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789"), integer),
        (
            "float",
            r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            list("-+0123456789."),
            construct.construct_yaml_float,
        ),
    ):
        Loader.add_implicit_resolver(core + tag, re.compile(f"(?:{pattern})$"), first)
        Loader.add_constructor(core + tag, make)
    Loader.add_constructor(core + "str", construct.construct_yaml_str)
    Loader.add_constructor(core + "seq", lambda loader, node: loader.construct_sequence(node, deep=True))
    Loader.add_constructor(core + "map", mapping)
    Loader.add_constructor(None, other)
    return Loader


# -------------------------------------------------------------------------------------------- values


def kind(value: object) -> str:
    """What a JSON value is, in the words of JSON, shortened."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    text = shown(value)
    if isinstance(value, list) and len(text) > 40:
        return f"a list of {len(value)}"
    return text if len(text) <= 60 else text[:57] + "..."


def number(value: object, *, file: PathLike | None, field: str) -> float:
    """A finite number, given as a number or as a string."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise InputError(
            "expected a number", file=file, field=field, found=kind(value), expected="a finite number"
        )
    return result


def check_name(value: object, what: str, *, file: PathLike | None, field: str | None = None) -> str:
    """A name of a video, class or subset: a text of one line that every format and terminal can hold.

    Bytes of file names that are no UTF-8 are allowed, as Python keeps them.

    Raises:
        InputError: no text, empty or blank, with a line break or control character, of a thousand letters.
    """
    if not isinstance(value, str):
        raise InputError(f"a {what} is named by a text", file=file, field=field, found=kind(value))
    if not value.strip():
        raise InputError(f"a {what} without a name", file=file, field=field, found=shown(value))
    if len(value) > MAX_NAME:
        raise InputError(
            f"the name of a {what} is too long",
            file=file,
            field=field,
            found=f"{len(value)} characters",
            expected=f"at most {MAX_NAME}",
        )
    if _NO_NAME.search(value):
        raise InputError(
            f"the name of a {what} holds what is no character", file=file, field=field, found=shown(value)
        )
    return value


_NO_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
