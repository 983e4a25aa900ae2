"""Names of videos and classes come from data; files are named after them, and stay where they belong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import InputError, composed, file_name, file_names, printable, shown

NOWHERE = ["../x", "../../x", "/etc/x", "a/b", "a\\b", "..", ".", ".hidden", "", "  ", "a\0b", "x" * 300]
RESERVED = ["CON", "nul", "com1", "LPT9", "aux .tar"]


@pytest.mark.parametrize("name", [*NOWHERE, *RESERVED, "\ud800", "é" * 125])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(InputError, match="the name of a video cannot be a file name") as error:
        file_name(name, ".safetensors")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", [7, None, b"a", ["a"]])
def test_what_is_no_text_is_no_name(name: object) -> None:
    with pytest.raises(InputError):
        file_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [" spaced ", "title [x7Qk3]", "a,b", "a\nb", "é", "x" * 230, "v\udcff", "console"]
)
def test_odd_names_that_are_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / file_name(name, ".npy")
    path.touch()
    assert [p.stem for p in tmp_path.iterdir()] == [name]


def test_a_name_without_suffix_may_not_end_with_a_dot() -> None:
    assert file_name("end.", ".npy") == "end..npy"
    with pytest.raises(InputError, match="dot or blank"):
        file_name("end.")


@given(st.text(max_size=300), st.sampled_from(["", ".npy", ".safetensors"]))
def test_a_file_name_is_one_component(name: str, suffix: str) -> None:
    """Whatever comes in: it is refused, or it names a file in the folder itself."""
    try:
        found = file_name(name, suffix)
    except InputError:
        return
    folder = "/a/folder"
    joined = os.path.normpath(os.path.join(folder, found))
    assert os.path.dirname(joined) == folder
    assert os.path.basename(joined) == name + suffix
    assert len(os.fsencode(found)) <= 255


@pytest.mark.parametrize("pair", [("Take", "take"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "straße")])
def test_two_names_that_meet_in_one_file(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="two video names meet in one file"):
        file_names(pair, ".npy")


def test_file_names_keep_their_order_and_may_repeat() -> None:
    assert list(file_names(["b", "a", "b"], ".npy").items()) == [("b", "b.npy"), ("a", "a.npy")]
    with pytest.raises(InputError, match="the name of a class"):
        file_names(["a", "b/c"], ".png", what="class")


def test_names_compare_in_composed_form() -> None:
    assert composed("cafe\u0301") == composed("caf\u00e9") == "caf\u00e9"


def test_messages_are_one_line_of_what_a_terminal_shows() -> None:
    text = "a\nb\r\t\x1b[31m\u202egpj.\udcff\ud800\u2028é \U0001f600"
    shown_text = printable(text)
    assert shown_text == r"a\nb\r\t\x1b[31m\u202egpj.\xff\ud800\u2028é " + "\U0001f600"
    shown_text.encode("utf-8")
    assert len(printable("x" * 1000, 200)) == 200


def test_values_in_messages_are_short() -> None:
    laughs: list[object] = ["lol"]
    for _ in range(60):
        laughs = [laughs] * 9
    itself: list[object] = []
    itself.append(itself)
    for value in (laughs, itself, 10**5000, {"a": "x" * 10**6}, b"\0" * 10**6, {i: i for i in range(10**4)}):
        assert len(shown(value)) <= 200
        error = InputError("wrong", file="a\nb.json", field="k" * 1000, found=value, expected=value)
        assert len(str(error)) < 1200
        assert "\n" not in str(error)
