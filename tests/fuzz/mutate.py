"""Damage with method: small files, changed in a place or two as disks, editors and attackers change them."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

# what stands where something else is expected
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "a", "0", "1e9", "nan", "-5", "true", "null"),
    *(
        "../../x",
        "/etc/passwd",
        "a/b",
        "..",
        "a\0b",
        "a\nb",
        "a,b",
        '"',
        "=cmd()",
        "os:system",
        "evil.py:Model",
    ),
    *("\ud800", "\udcff", "\u202e", "\ufeffa", "e\u0301", "é", "x" * 3000, [], [[]], [1], [1, 2], [2, 1]),
    *([1, 2, 3], [None, None], ["a", "b"], {}, {"a": 1}, {"": {}}, [[[[[[[[1]]]]]]]], [0] * 500),
]
TOKENS = [
    *(
        b"\0",
        b"\xff",
        b"\n",
        b"\r",
        b"\r\n",
        b",",
        b";",
        b"\t",
        b'"',
        b'""',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
    ),
    *(b"&a ", b"*a", b"!!python/object:os.system ", b"!!int ", b"<<: ", b"- ", b"#", b"9" * 5000, b"1e999"),
    *(b"NaN", b"-", b"0x10", b"[" * 2000, b'{"a":' * 2000, b"\xef\xbb\xbf", b"\xed\xa0\x80", b"L", b"(-1,)"),
    *(
        b"(10**9,)",
        b"|O",
        b"<f8",
        b"S0",
        b"c__builtin__\neval\n",
        b"r\xff\xff\xff\x7f",
        b"]" * 50,
        b"b",
        b"R.",
    ),
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
]


def in_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pieces lost, doubled, moved, put in; an end torn off."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(len(out) + 1)
        size = min(rng.choice([1, 1, 2, 4, 8, 64]), len(out) - at)
        what = rng.randrange(8)
        if what == 0 and size:
            out[at] ^= 1 << rng.randrange(8)
        elif what == 1 and size:
            out[at] = rng.randrange(256)
        elif what == 2:
            del out[at : at + size]
        elif what == 3:
            out[at:at] = out[at : at + size] * rng.choice([1, 3, 50])
        elif what == 4:
            out[at:at] = rng.choice(TOKENS)
        elif what == 5:
            out[at : at + size] = rng.choice(TOKENS)
        elif what == 6:
            out[at : at + size] = bytes([rng.choice([0, 255])]) * size
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def in_numbers(data: bytes, rng: random.Random) -> bytes:
    """A number of a text becomes another."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    if not found:
        return in_bytes(data, rng)
    place = rng.choice(found)
    odd = [
        b"0",
        b"-1",
        b"1e400",
        b"nan",
        b"inf",
        b"9" * 400,
        b"9" * 5000,
        b"0.1",
        b"1_0",
        b"010",
        b"0x1",
        b"",
        b"1,5",
    ]
    return data[: place.start()] + rng.choice(odd) + data[place.end() :]


def in_cells(data: bytes, rng: random.Random) -> bytes:
    """A cell, row or delimiter of a table is another."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    what = rng.randrange(6)
    odd = rng.choice([x for x in ODD if isinstance(x, str)])
    if what == 0:
        cells[rng.randrange(len(cells))] = odd
    elif what == 1:
        cells.insert(rng.randrange(len(cells) + 1), odd)
    elif what == 2:
        del cells[rng.randrange(len(cells))]
    elif what == 3:
        rng.shuffle(cells)
    lines[at] = ",".join(cells)
    if what == 4:
        lines.insert(at, rng.choice(lines))
    elif what == 5:
        lines = [line.replace(",", rng.choice([";", "\t", "|", ", "])) for line in lines]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutated_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one node changed: another value, a key more, less or of another name."""
    value = copy.deepcopy(value)
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            nodes.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if isinstance(value, dict | list):
        walk(value)
    if not nodes:
        return copy.deepcopy(rng.choice(ODD))
    node, key = rng.choice(nodes)
    what = rng.randrange(7)
    if what <= 2:
        node[key] = copy.deepcopy(rng.choice(ODD))
    elif what == 3:
        del node[key]
    elif what == 4 and isinstance(node, dict):
        node[rng.choice([x for x in ODD if isinstance(x, str)])] = node.pop(key)
    elif what == 5:
        node[key] = [copy.deepcopy(node[key])] * rng.choice([1, 2, 40])
    else:
        other, place = rng.choice(nodes)
        node[key] = copy.deepcopy(other[place]) if place in other or isinstance(other, list) else None
    return value


def dumped(value: Any) -> bytes:
    """JSON as Python writes it, NaN and lone surrogates among it."""
    return json.dumps(value).encode()


def in_json(data: bytes, rng: random.Random) -> bytes:
    """A node of a JSON document is another; or a key is there twice, or its text is damaged."""
    try:
        value = json.loads(data)
    except ValueError:
        return in_bytes(data, rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        value = mutated_value(value, rng)
    out = dumped(value)
    if rng.random() < 0.1 and out.startswith(b'{"'):
        out = b"{" + out[1:].split(b", ")[0].rstrip(b"}") + b", " + out[1:]
    return out
