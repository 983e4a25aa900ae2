"""Arrays of strangers: everything that NumPy writes comes back, and nothing in a file runs or grows."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from weaktal.core import InputError
from weaktal.core.npy import npy_shape, read_npy, read_npz, text_of


def object_array(*values: object) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def header(text: str, version: int = 1) -> bytes:
    raw = text.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw


def forged(path: Path, payload: bytes, count: int = 1) -> Path:
    """A file of an object array whose pickle is this."""
    path.write_bytes(header(f"{{'descr': '|O', 'fortran_order': False, 'shape': ({count},), }}") + payload)
    return path


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype == object:
            return all(same(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        return a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


dtypes = st.one_of(
    some.boolean_dtypes(),
    some.integer_dtypes(),
    some.unsigned_integer_dtypes(),
    some.floating_dtypes(sizes=(16, 32, 64)),
    some.complex_number_dtypes(sizes=(64, 128)),
    some.byte_string_dtypes(min_len=1),
    some.unicode_string_dtypes(min_len=1),
)
arrays = some.arrays(dtypes, some.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text() | st.binary() | arrays,
    lambda x: st.lists(x, max_size=3) | st.tuples(x, x),
    max_leaves=6,
)


@given(arrays, st.booleans())
def test_arrays_come_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, mapped: bool) -> None:
    path = tmp_path_factory.mktemp("a") / "a.npy"
    for order in "CF":
        np.save(path, np.asarray(array, order=order))
        assert same(np.asarray(read_npy(path, mmap=mapped)), array)
        assert npy_shape(path) == array.shape


@given(st.lists(plain, max_size=4), st.sampled_from(range(6)))
def test_object_arrays_come_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], protocol: int
) -> None:
    array = object_array(*values)
    path = forged(tmp_path_factory.mktemp("a") / "a.npy", pickle.dumps(array, protocol), len(values))
    assert same(read_npy(path), array)


def test_shared_and_nested_arrays(tmp_path: Path) -> None:
    one = np.arange(6.0).reshape(2, 3)
    array = np.empty((2, 2), object, order="F")
    array[0, 0], array[0, 1], array[1, 0], array[1, 1] = one, one.T, object_array(one, one), ["a", one]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert same(read_npy(tmp_path / "a.npy"), array)


def test_python_2_texts(tmp_path: Path) -> None:
    """A list of str as Python 2 pickles it: bytes, UTF-8 or what the machine used."""
    rebuild = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
    )
    dtype = b"(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n"
    texts = b"(lp1\nS'Jet\\xc3\\xa9'\naS'Jet\\xe9'\natb."
    array = read_npy(forged(tmp_path / "a.npy", rebuild + dtype + texts, 2))
    assert [text_of(x) for x in array] == ["Jeté", "Jeté"]


# ------------------------------------------------------------------------------------------ headers

PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


def test_a_header_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header(PLAIN.replace("2, 3", "2L, 3L")) + bytes(24))
    assert read_npy(tmp_path / "a.npy").shape == (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("(2, 3)", f"({10**12}, {10**12})"),
        PLAIN.replace("(2, 3)", f"({10**12}, 0)"),
        PLAIN.replace("(2, 3)", f"({10**400},)"),
        PLAIN.replace("(2, 3)", "(-2, -3)"),
        PLAIN.replace("(2, 3)", "(True, 6)"),
        PLAIN.replace("(2, 3)", "(2.0, 3)"),
        PLAIN.replace("(2, 3)", "6"),
        PLAIN.replace("(2, 3)", "(" + "1, " * 40 + ")"),
        PLAIN.replace("False", "2"),
        PLAIN.replace("'<f4'", "[('a', '<f4')]"),
        PLAIN.replace("'<f4'", "'<f4,<f4'"),
        PLAIN.replace("'<f4'", "'(9999999,)<f4'"),
        PLAIN.replace("'<f4'", "'<M8[s]'"),
        PLAIN.replace("'<f4'", "'|V8'"),
        PLAIN.replace("'<f4'", "'|S0'"),
        PLAIN.replace("'<f4'", "'|S999999999999'"),
        PLAIN[:20],
        PLAIN.replace("'", '"""', 1),
        "(" * 5000,
        "'" * 3,
        "{'a': " * 1000,
        "[" + "1," * 4000 + "]",
        "{}",
        "",
        "\0",
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_lie(tmp_path: Path, text: str, version: int) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(header(text, version) + bytes(24))
    for read in (read_npy, npy_shape, lambda p: read_npy(p, mmap=True)):
        with pytest.raises(InputError, match=r"a\.npy: not a readable \.npy file") as error:
            read(path)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "raw", [b"", b"\x93NUM", b"\x93NUMPY\x09\x00\x00\x00", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"]
)
def test_beginnings_that_lie(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy")


# ---------------------------------------------------------------------------------- pickles of strangers

_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def array_of(data: bytes, dtype: bytes, shape: bytes = b"(I1\nt", state: bytes = b"") -> bytes:
    """An array, up to the end of its state."""
    stub = call(_RECONSTRUCT, b"cnumpy\nndarray\n", b"(I0\nt", b"S'b'\n")
    return stub + (state or b"(I1\n" + shape + dtype + b"I00\n" + data + b"tb")


def dtype_of(name: bytes, state: bytes | None = b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb") -> bytes:
    return call(b"cnumpy\ndtype\n", b"S'" + name + b"'\n", b"I0\n", b"I1\n") + (state or b"")


F8 = dtype_of(b"f8")
OBJECT = dtype_of(b"O8", b"(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb")
EIGHT = b"S'01234567'\n"


def test_the_forger_writes_what_numpy_reads(tmp_path: Path) -> None:
    """The parts that the forgeries below are made of are sound, so that what is refused is the forgery."""
    inner = array_of(EIGHT, F8)
    outer = array_of(b"(l" + inner + b"a", OBJECT) + b"."
    expected = np.frombuffer(b"01234567", "<f8")
    assert same(pickle.loads(outer)[0], expected)
    assert same(read_npy(forged(tmp_path / "a.npy", outer))[0], expected)


WITNESS = "executed"
FORGERIES = {
    "ndarray over a buffer": call(b"cnumpy\nndarray\n", b"(I1\nt", OBJECT, EIGHT),
    "ndarray as a value": b"cnumpy\nndarray\n",
    "a function as a value": _RECONSTRUCT,
    "objects over bytes": array_of(EIGHT, OBJECT),
    "objects over a buffer": call(b"cnumpy.core.numeric\n_frombuffer\n", EIGHT, OBJECT, b"(I1\nt", b"S'C'\n"),
    "an object scalar": call(b"cnumpy.core.multiarray\nscalar\n", OBJECT, EIGHT),
    "reconstruct of another shape": call(_RECONSTRUCT, b"cnumpy\nndarray\n", b"(I1000000000\nt", b"S'b'\n"),
    "reconstruct of objects": call(_RECONSTRUCT, b"cnumpy\nndarray\n", b"(I0\nt", b"S'O'\n"),
    "reconstruct of another type": call(_RECONSTRUCT, b"cnumpy\ndtype\n", b"(I0\nt", b"S'b'\n"),
    "a type with fields": array_of(EIGHT, dtype_of(b"f8", b"(I3\nS'<'\nN(S'a'\nt(dI8\nI1\nI0\ntb")),
    "a type of another size": array_of(EIGHT, dtype_of(b"f8", b"(I3\nS'<'\nNNNI4\nI1\nI0\ntb")),
    "a type with a subtype": array_of(
        EIGHT, dtype_of(b"f8", b"(I3\nS'<'\n(" + F8 + b"(I9\nttNNI-1\nI-1\nI0\ntb")
    ),
    "a type with metadata": array_of(EIGHT, dtype_of(b"f8", b"(I4\nS'<'\nNNNI-1\nI-1\nI0\n(dS'a'\nI1\nstb")),
    "a type made of fields": array_of(EIGHT, dtype_of(b"f4,O")),
    "a type in words": array_of(EIGHT, dtype_of(b"object")),
    "a type of nothing": array_of(EIGHT, dtype_of(b"V8")),
    "a type without a state": array_of(EIGHT, dtype_of(b"f8", None)),
    "data that are too short": array_of(EIGHT, F8, b"(I2\nt"),
    "data that are too long": array_of(EIGHT, F8, b"(I0\nt"),
    "a negative shape": array_of(EIGHT, F8, b"(I-1\nI-1\nt"),
    "a shape of 10^12": array_of(EIGHT, F8, b"(I1000000000000\nt"),
    "a shape that is a list": array_of(EIGHT, F8, b"(lI1\na"),
    "a state that is a list": array_of(b"", b"", state=b"(lI1\nab"),
    "a state of another version": array_of(b"", b"", state=b"(I9\n(I1\nt" + F8 + b"I00\n" + EIGHT + b"tb"),
    "two states": array_of(EIGHT, F8) + b"(I1\n(I1\nt" + F8 + b"I00\n" + EIGHT + b"tb",
    "no state": call(_RECONSTRUCT, b"cnumpy\nndarray\n", b"(I0\nt", b"S'b'\n"),
    "a state for a function": _RECONSTRUCT + b"(dS'a'\nI1\nsb",
    "an item of an array": array_of(EIGHT, F8) + b"I0\nI1\ns",
    "an appended array": array_of(EIGHT, F8) + b"I1\na",
    "an instance": b"(inumpy\nndarray\n",
    "a new object": b"cnumpy\nndarray\n)\x81",
    "a persistent object": b"Pa\n",
    "an extension": b"\x82\x01",
    "a set": b"(I1\n\x91",
    "a buffer beside the file": b"\x97",
    "the same again": b"2",
    "an index of the memory": b"Nr\xf0\xff\xff\x7f",
    "an index of the memory in words": b"Np2147483647\n",
    "a text without an end": b"S'abc",
    "bytes beyond the file": b"B\xff\xff\xff\x7fabc",
    "bytes far beyond the file": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    "an array of bytes beyond the file": b"\x96\xff\xff\xff\xff\x0f\x00\x00\x00abc",
    "a frame beyond the file": b"\x95\xff\xff\xff\xff\xff\x00\x00\x00",
    "a negative length": b"T\xff\xff\xff\xffabc",
    "an integer of a thousand digits": b"I" + b"9" * 5000 + b"\n",
    "an integer of a thousand bytes": b"\x8b\xe8\x03\x00\x00" + b"\xff" * 1000,
    "an unhashable key": b"((l(lds",
    "another codec": b"c_codecs\nencode\n(Vx\nVidna\ntR",
    "a number that calls": call(b"cbuiltins\neval\n", b"V1\n"),
    "what an attribute holds": b"\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93",
    "deep nesting": b"(l" * 1000 + b"a" * 999,
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "alone"])
def test_forged_pickles_are_refused(tmp_path: Path, forgery: str, inside: bool) -> None:
    payload = FORGERIES[forgery]
    path = forged(
        tmp_path / "a.npy", (array_of(b"(l" + payload + b"a", OBJECT) if inside else payload) + b"."
    )
    with pytest.raises(InputError, match=r"a\.npy: (this pickled array was not opened|not a readable)"):
        read_npy(path)


def test_lists_that_hold_themselves(tmp_path: Path) -> None:
    """Nine times nine times nine ...: what is shared is counted as often as it would be read."""
    laughs: list[object] = [0]
    for _ in range(7):
        laughs = [laughs] * 40
    itself: list[object] = []
    itself.append(itself)
    array = object_array(None)
    array[0] = array
    for value in (object_array(laughs), object_array(itself), array):
        path = forged(tmp_path / "a.npy", pickle.dumps(value))
        with pytest.raises(InputError, match=r"nested too deeply|repeats itself|without data"):
            read_npy(path)


def test_forgeries_take_no_memory(tmp_path: Path) -> None:
    """In a process with half a gigabyte: each is refused, and none ends it."""
    files = []
    for i, payload in enumerate(FORGERIES.values()):
        files.append(str(forged(tmp_path / f"{i}.npy", array_of(b"(l" + payload + b"a", OBJECT) + b".")))
    files.append(str(forged(tmp_path / "lists.npy", b"(l" + b"]" * 2**23 + b".")))
    code = (
        "import sys\nfrom weaktal.core import InputError\nfrom weaktal.core.npy import read_npy\n"
        "for path in sys.argv[1:]:\n    try: read_npy(path)\n    except InputError: continue\n"
        "    print(path)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))

    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        capture_output=True, text=True, preexec_fn=limit, timeout=60,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@given(st.data())
def test_flipped_bits_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    values = object_array([[0.5, 1.0], [2.0, 3.0]], np.arange(4.0), ["a", b"b"], 7)
    protocol = data.draw(st.sampled_from([0, 2, 4, 5]))
    payload = bytearray(pickle.dumps(values, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    path = forged(tmp_path_factory.mktemp("a") / "a.npy", bytes(payload), 4)
    with contextlib.suppress(InputError):
        read_npy(path)


# ------------------------------------------------------------------------------------------- archives


def test_archives(tmp_path: Path) -> None:
    one, two = np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((3, 2), np.float32))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", one=one, two=two)
        found = {k: read() for k, read in read_npz(tmp_path / "a.npz").items()}
        assert found.keys() == {"one", "two"}
        assert same(found["one"], one)
        assert same(found["two"], two)


def archive(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "a.npy") -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError, match=path.name) as error:
        [read() for read in read_npz(path).values()]
    return str(error.value)


def test_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04garbage")
    assert "not a readable .npz file" in refused(path)
    np.save(tmp_path / "b.npy", np.ones(4))
    (tmp_path / "b.npy").rename(path)
    assert "not a readable .npz file" in refused(path)
    head = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**28},), }}")
    assert "unpacks to" in refused(archive(path, head + bytes(2**28)))
    assert "needs" in refused(archive(path, head + bytes(10)))
    assert "by a method" in refused(archive(path, head, zipfile.ZIP_LZMA))
    buffer = io.BytesIO()
    np.save(buffer, object_array(1), allow_pickle=True)
    assert "object array" in refused(archive(path, buffer.getvalue()))
    raw = bytearray(archive(path, header(PLAIN) + bytes(24), zipfile.ZIP_STORED).read_bytes())
    raw[-30] ^= 0xFF
    raw[40] ^= 0xFF
    path.write_bytes(raw)
    assert "not a readable .npz file" in refused(path)
