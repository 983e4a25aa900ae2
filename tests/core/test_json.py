"""JSON: the fast reader and the plain one read the same, and refuse the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import InputError, reading
from weaktal.core.reading import parse_json

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
)


@pytest.fixture(params=["plain", "fast"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(reading, "orjson", None)
    else:
        pytest.importorskip("orjson")
    return str(request.param)


@given(DOCUMENTS, st.sampled_from([None, 1]), st.booleans())
def test_what_was_written_is_read(document: object, indent: int | None, ascii: bool) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii)
    for module in (reading.orjson, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "orjson", module)
            try:
                found = parse_json(text, "x.json")
            except InputError:  # what is no character cannot be encoded, and is refused by both
                pytest.fail(f"{module} refuses {text!r}")
        assert found == document
        assert json.dumps(found) == json.dumps(document)  # types, signs of zeros, order of keys


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a" : 1, "b": {"c": [{"d": 0, "d" :0}]}}',
        '{"a": 1, "\\u0061": 2}',
        '{"k:": 1, "k:": 2}',
        '{"a": 1, "a": ":"}',
        '{"a": 1, "a": "\\u003a"}',
    ],
)
def test_a_key_that_is_listed_twice_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"^x\.json: a key is listed twice in one object"):
        parse_json(text, "x.json")


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: malformed JSON"),
        ('{"a": 1,\n "b": }', "line 2, column 7: malformed JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "thousands of digits"),
        ("{} {}", "line 1, column 4: malformed JSON: Extra data"),
    ],
)
def test_what_is_malformed_is_placed(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_json(text, "x.json")


@pytest.mark.usefixtures("reader")
def test_numbers_that_json_does_not_have_are_read_alike() -> None:
    assert str(parse_json("[NaN, Infinity, -Infinity, 1e999, -0.0]", "x")) == "[nan, inf, -inf, inf, -0.0]"
