"""YAML as we read it: plain values, and nothing of what YAML 1.1 makes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import InputError
from weaktal.core.reading import parse_yaml

# PyYAML folds texts at the line breaks of Unicode, and does not read them back itself
text = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats() | text,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(text, x, max_size=3),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@given(plain)
def test_what_pyyaml_writes_is_read_as_it_was(value: object) -> None:
    assert same(parse_yaml(yaml.safe_dump(value, allow_unicode=True)), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("yes", "yes"),
        ("no", "no"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("1.5e-3", 0.0015),
        (".inf", math.inf),
        ("+7", 7),
        ("~", None),
        ("", None),
        ("{no: 1, 1: 2}", {"no": 1, "1": 2}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3, column 1: malformed YAML: the key 'a' is listed twice"),
        ("a: !!timestamp 2024-99-99", "a value of type 'tag:yaml.org,2002:timestamp'"),
        ("!!set {a, b}", "a value of type"),
        ("!!python/object/apply:os.system [ls]", "a value of type"),
        ("a: !!int 0x1", "'0x1' is no integer"),
        ("a: " + "1" * 5000, "is no integer of a size that anybody needs"),
        ("a: &a [*a]", "an alias of what it lies in"),
        ("a: *b", "malformed YAML"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("? [a]\n: b", "a key is a text"),
        ("a: [1", "line 1|line 2"),
        ("a: 1\n--- \nb: 2", "malformed YAML"),
        ("a: \x01", "malformed YAML"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_yaml(text, "f.yaml")
    assert str(error.value).startswith("f.yaml: ")
    assert len(str(error.value)) < 400
